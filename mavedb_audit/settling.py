"""Which runs Prefect has yet to be asked for: all whose history was not read to its end.

A run is settled when its history was read after its end had stood for a while. It is asked again
when Prefect shows another state of it than the audit has.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit.database import connect
from mavedb_audit.histories import ListedRun, State
from mavedb_audit.settings import settings


@dataclass(frozen=True)
class History:
    """A run with its states in the order of time."""

    listed: ListedRun
    states: Sequence[State]


def to_ask(listed: Iterable[ListedRun]) -> list[ListedRun]:
    """The runs that went on since the audit last heard of them, and those not settled yet.

    A run that waits for its time is as the audit knows it.
    """
    runs = list(listed)
    with connect() as connection, connection.begin():
        rows = connection.execute(
            text(
                """
                SELECT run_id, state_id, state_timestamp,
                       coalesce(settled_at >= state_timestamp, false) AS is_settled
                  FROM prefect_runs WHERE run_id = ANY (:ids) AND state_id IS NOT NULL
                """
            ),
            {"ids": [run.run.run_id for run in runs]},
        )
        known = {row.run_id: row for row in rows}

    def is_to_be_asked(run: ListedRun) -> bool:
        row = known.get(run.run.run_id)
        if row is None or run.state is None:
            return True
        if (row.state_timestamp, row.state_id) < run.state.sort_key:
            return True
        return not row.is_settled and not run.is_waiting_for_its_time

    return [run for run in runs if is_to_be_asked(run)]


def unsettled_runs(connection: Connection) -> dict[UUID, set[UUID]]:
    """The runs to look at however old they are, by flow run: it and its task runs."""
    rows = connection.execute(
        text(
            """
            SELECT coalesce(flow_run_id, run_id) AS flow_run_id, array_agg(run_id) AS run_ids
              FROM prefect_runs WHERE settled_at IS NULL GROUP BY 1
            """
        )
    )
    return {row.flow_run_id: set(row.run_ids) for row in rows}


def settle_forgotten(connection: Connection, run_ids: Collection[UUID]) -> int:
    """Settle runs that Prefect does not have, as they are, unless it may still hear of them."""
    return connection.execute(
        text(
            """
            UPDATE prefect_runs SET settled_at = now()
             WHERE run_id = ANY (:ids) AND settled_at IS NULL
               AND greatest(first_seen_at, state_timestamp) < now() - make_interval(secs => :grace)
            """
        ),
        {"ids": list(run_ids), "grace": settings().reconcile_grace_seconds},
    ).rowcount


def settle(connection: Connection, flow: ListedRun, histories: Sequence[History]) -> int:
    """Mark the runs that were read to their end; those that went on since are open again."""
    now = datetime.now(UTC)
    read = [history for history in histories if history.states]
    marked = connection.execute(
        text(
            """
            UPDATE prefect_runs AS run SET settled_at = CASE WHEN read.is_over THEN now() END
              FROM unnest(CAST(:run_ids AS uuid[]), CAST(:state_ids AS uuid[]),
                          CAST(:timestamps AS timestamptz[]), CAST(:are_over AS boolean[]))
                   AS read (run_id, state_id, timestamp, is_over)
             WHERE run.run_id = read.run_id
               AND CASE WHEN read.is_over
                        THEN (run.state_timestamp, run.state_id) >= (read.timestamp, read.state_id)
                             AND coalesce(run.settled_at < read.timestamp, true)
                        ELSE run.settled_at < read.timestamp END
            RETURNING run.settled_at
            """
        ),
        {
            "run_ids": [history.listed.run.run_id for history in read],
            "state_ids": [history.states[-1].id for history in read],
            "timestamps": [history.states[-1].timestamp for history in read],
            "are_over": [_is_over(history, flow, now) for history in read],
        },
    )
    return sum(row.settled_at is not None for row in marked)


def _is_over(history: History, flow: ListedRun, now: datetime) -> bool:
    """Whether the history ends, and did so long enough ago for Prefect to have all of it.

    What a flow leaves behind in an open state counts as over after RECONCILE_WINDOW_HOURS.
    """
    listed, states = history.listed, history.states
    if listed.state is None or states[-1].id != listed.state.id:
        return False
    is_never_to_run = listed.state.name == "NotReady" and flow.has_ended
    grace = timedelta(seconds=settings().reconcile_grace_seconds)
    if not listed.has_ended and not is_never_to_run:
        if not flow.has_ended:
            return False
        grace = timedelta(hours=settings().reconcile_window_hours)
    return now - states[-1].timestamp >= grace
