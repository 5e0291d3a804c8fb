"""Forgets what nobody asks for any more, so many days after it ended (PRUNE_*_DAYS).

What an auditor needs stays for ever: pipelines, jobs, attempts, what operators did, every variant's
current status, and of each of Prefect's runs the newest state. What goes are the earlier states of
settled runs, statuses that a newer one superseded, and, on demand, the tracebacks of attempts.
Only what was planned by us is touched: MaveDB's tables hold rows of its earlier system, too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from mavedb_audit.database import connect
from mavedb_audit.settings import settings
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES
from mavedb_audit.views import View

#: How much is looked at in one transaction: runs, statuses or attempts.
BATCH_SIZE = 10_000


class Pruned(View):
    """So many rows of a table are old enough, or are forgotten.

    `state` is that of their pipeline; of variant_annotation_status, it is their own.
    """

    table: str
    state: str
    rows: int


@dataclass(frozen=True)
class _Kind:
    """`old` selects (id, state) of what is old enough, from rows that it calls `looked_at`.

    `counted` gives the state of each row that would go, and `forget` of each that goes, as `gone`.
    """

    table: str
    old: str
    counted: str
    forget: str


def _is_old(ended: str, status: str) -> str:
    return f"""
        {ended} < now() - make_interval(days => CASE {status} WHEN 'succeeded'
                                                THEN CAST(:succeeded_days AS integer)
                                                ELSE CAST(:unsuccessful_days AS integer) END)
    """


#: A run that no pipeline claims is one of an upkeep flow, or of a pipeline that was deleted.
_STATE_OF_RUN = """
    coalesce(pipeline.status,
             CASE looked_at.state_type WHEN 'COMPLETED' THEN 'succeeded' ELSE 'failed' END)
"""

_STATES = _Kind(
    table="prefect_transitions",
    old=f"""
        SELECT looked_at.run_id AS id, {_STATE_OF_RUN} AS state, looked_at.state_id
          FROM prefect_runs AS looked_at
          LEFT JOIN job_runs AS job ON job.id = looked_at.job_id
          LEFT JOIN prefect_runs AS flow ON flow.run_id = looked_at.flow_run_id
          LEFT JOIN pipelines AS pipeline
            ON pipeline.id = coalesce(looked_at.pipeline_id, job.pipeline_id, flow.pipeline_id)
         WHERE looked_at.pruned_at IS NULL AND looked_at.settled_at >= looked_at.state_timestamp
           AND looked_at.state_timestamp < now() - make_interval(days => least(
                   CAST(:succeeded_days AS integer), CAST(:unsuccessful_days AS integer)))
           AND (pipeline.id IS NULL OR pipeline.status = ANY (:terminal))
           AND {_is_old("greatest(pipeline.finished_at, looked_at.state_timestamp)", _STATE_OF_RUN)}
    """,
    counted="""
        SELECT old.state FROM old JOIN prefect_transitions AS transition
            ON transition.run_id = old.id AND transition.state_id <> old.state_id
    """,
    forget="""
        marked AS (
            UPDATE prefect_runs SET pruned_at = now() FROM old WHERE prefect_runs.run_id = old.id
        ), gone AS (
            DELETE FROM prefect_transitions AS transition USING old
             WHERE transition.run_id = old.id AND transition.state_id <> old.state_id
            RETURNING old.state
        )
    """,
)

_SUPERSEDED = _Kind(
    table="variant_annotation_status",
    old="""
        SELECT looked_at.id, looked_at.status AS state
          FROM variant_annotation_status AS looked_at
         WHERE NOT looked_at.current
           AND looked_at.updated_at < now() - make_interval(days => :superseded_days)
           AND EXISTS (SELECT FROM planned_jobs WHERE planned_jobs.job_id = looked_at.job_run_id)
    """,
    counted="SELECT old.state FROM old",
    forget="""
        gone AS (
            DELETE FROM variant_annotation_status AS status USING old
             WHERE status.id = old.id AND NOT status.current RETURNING old.state
        )
    """,
)

_TRACEBACKS = _Kind(
    table="job_attempts",
    old=f"""
        SELECT looked_at.id, pipeline.status AS state
          FROM job_attempts AS looked_at
          JOIN job_runs AS job ON job.id = looked_at.job_id
          JOIN pipelines AS pipeline ON pipeline.id = job.pipeline_id
         WHERE looked_at.error_traceback IS NOT NULL AND pipeline.status = ANY (:terminal)
           AND {_is_old("pipeline.finished_at", "pipeline.status")}
    """,
    counted="SELECT old.state FROM old",
    forget="""
        gone AS (
            UPDATE job_attempts SET error_traceback = NULL FROM old
             WHERE job_attempts.id = old.id RETURNING old.state
        )
    """,
)


def prunable(*, tracebacks: bool = False) -> Sequence[Pruned]:
    """What is old enough now. Nothing is changed."""
    found = []
    with connect() as connection:
        for kind in _kinds(tracebacks):
            rows = connection.execute(
                text(
                    f"""
                    WITH old AS ({kind.old}), counted AS ({kind.counted})
                    SELECT state, count(*) AS rows FROM counted GROUP BY state ORDER BY state
                    """
                ),
                _parameters(),
            )
            found += [Pruned(table=kind.table, state=row.state, rows=row.rows) for row in rows]
    return found


def prune(*, actor: str, tracebacks: bool = False) -> Sequence[Pruned]:
    """Forget what is old enough, some thousands at a time, each in a transaction of its own.

    Killed in between, the same again does the rest. What was forgotten stands in operator_actions.
    """
    done: list[Pruned] = []
    for kind in _kinds(tracebacks):
        gone: Counter[str] = Counter()
        while _forget_some(kind, gone):
            pass
        done += [Pruned(table=kind.table, state=s, rows=rows) for s, rows in sorted(gone.items())]
    with connect() as connection, connection.begin():
        _note(connection, actor, done)
    return done


def _kinds(tracebacks: bool) -> Sequence[_Kind]:
    return [_STATES, _SUPERSEDED, *([_TRACEBACKS] if tracebacks else [])]


def _forget_some(kind: _Kind, gone: "Counter[str]") -> bool:
    """Whether there was anything; its rows are counted in `gone`."""
    with connect() as connection, connection.begin():
        rows = connection.execute(
            text(
                f"""
                WITH old AS (
                    {kind.old} LIMIT :batch_size FOR UPDATE OF looked_at SKIP LOCKED
                ), {kind.forget}
                SELECT (SELECT count(*) FROM old) AS looked_at, state, count(gone.state) AS rows
                  FROM (SELECT) AS always LEFT JOIN gone ON true GROUP BY state
                """
            ),
            {**_parameters(), "batch_size": BATCH_SIZE},
        ).all()
    gone.update({row.state: row.rows for row in rows if row.state is not None})
    return any(row.looked_at for row in rows)


def _parameters() -> dict[str, Any]:
    days = settings()
    return {
        "terminal": sorted(TERMINAL_PIPELINE_STATUSES),
        "succeeded_days": days.prune_succeeded_days,
        "unsuccessful_days": days.prune_unsuccessful_days,
        "superseded_days": days.prune_superseded_days,
    }


def _note(connection: Connection, actor: str, done: Sequence[Pruned]) -> None:
    forgotten = ", ".join(f"{each.rows} {each.state} of {each.table}" for each in done)
    connection.execute(
        text(
            """
            INSERT INTO operator_actions (action, actor, reason) VALUES ('prune', :actor, :reason)
            """
        ),
        {"actor": actor, "reason": forgotten or "nothing was old enough"},
    )
