"""Compares the audit with Prefect, state by state, and the audit's rows with each other."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from sqlalchemy import Connection, Row, text

from mavedb_audit import invariants
from mavedb_audit.database import connect
from mavedb_audit.histories import ListedRun, Prefect, State, asking, batches
from mavedb_audit.settings import settings
from mavedb_audit.states import Source

#: Flow runs whose task runs are listed with one request, and which are compared together.
_FLOW_RUNS_AT_ONCE = 50
#: Who sees a state where it arises: it may never have reached Prefect.
_IN_THE_PROCESS = frozenset({Source.STEP, Source.HOOK})


class What(StrEnum):
    """How the audit and Prefect differ about a state."""

    MISSING_IN_AUDIT = "missing in the audit"
    RECORDED_OTHERWISE = "recorded otherwise than Prefect has it"
    MISSING_IN_PREFECT = "no longer in Prefect"
    LOST_BY_PREFECT = "lost by Prefect"


@dataclass(frozen=True)
class Difference:
    """A state that the audit and Prefect do not agree on. `source` is who told the audit of it."""

    run_id: UUID
    run_name: str
    state_id: UUID
    type: str
    name: str
    timestamp: datetime
    what: What
    source: Source | None = None


@dataclass
class Verification:
    """What was compared, and what does not agree.

    `lost_by_prefect` was witnessed in the process and is no problem of the audit's. `recent` states
    are too young to judge: another half a minute brings them where they are missing. `unanswered`
    runs Prefect did not give the history of. `runs_forgotten` Prefect had once, and has deleted;
    `runs_pruned` are those whose earlier states the audit forgot on purpose (`prune`).
    """

    runs: int = 0
    states_in_prefect: int = 0
    states_in_audit: int = 0
    runs_forgotten: int = 0
    runs_pruned: int = 0
    differences: list[Difference] = field(default_factory=list)
    recent: list[Difference] = field(default_factory=list)
    lost_by_prefect: list[Difference] = field(default_factory=list)
    broken: list[invariants.Broken] = field(default_factory=list)
    unanswered: list[UUID] = field(default_factory=list)

    @property
    def has_problems(self) -> bool:
        return bool(self.differences or self.broken or self.unanswered)


def verify(client: SyncPrefectClient, *, since: datetime | None = None) -> Verification:
    """Compare every state of our runs, in Prefect and in the audit, both ways, and what follows.

    With `since`, of the runs that are open, started or ended since then. States younger than
    RECONCILE_GRACE_SECONDS, or than the comparison, are not judged. Raises PrefectUnansweredError
    when Prefect gives no list of its runs.
    """
    found = Verification()
    judged = datetime.now(UTC) - timedelta(seconds=settings().reconcile_grace_seconds)
    with asking(client, threading.Event()) as prefect:
        flow_runs = prefect.our_flow_runs(since)
        with connect() as connection, connection.begin():
            audited = _audited_flow_run_ids(connection, since)
        flow_runs |= prefect.flow_runs(audited - flow_runs.keys())
        for flow_run_ids in batches(audited | flow_runs.keys(), _FLOW_RUNS_AT_ONCE):
            listed = {id_: flow_runs[id_] for id_ in flow_run_ids if id_ in flow_runs}
            _compare_some(prefect, flow_run_ids, listed, judged, found)
    with connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            found.broken = invariants.broken(connection, since)
    return found


def _compare_some(
    prefect: Prefect,
    flow_run_ids: Sequence[UUID],
    flow_runs: Mapping[UUID, ListedRun],
    judged: datetime,
    found: Verification,
) -> None:
    runs = {**flow_runs, **prefect.task_runs(flow_runs)}
    histories = dict(zip(runs, prefect.histories(list(runs.values())), strict=True))
    # Read after Prefect, so that what Prefect had is there unless it is missing.
    with connect() as connection, connection.begin():
        recorded = _transitions(connection, flow_run_ids)
    found.runs += len(runs)
    differences: list[Difference] = []
    for run_id, history in histories.items():
        of_audit = recorded.pop(run_id, {})
        if isinstance(history, Exception):
            found.unanswered.append(run_id)
            continue
        found.states_in_prefect += len(history)
        found.states_in_audit += len(of_audit)
        found.runs_pruned += any(row.pruned_at is not None for row in of_audit.values())
        differences += _compare(runs[run_id], history, of_audit)
    for of_audit in recorded.values():
        # Prefect does not have the run at all. Did it ever?
        if all(row.source in _IN_THE_PROCESS for row in of_audit.values()):
            found.states_in_audit += len(of_audit)
            differences += [_only_audited(row) for row in of_audit.values()]
        else:
            found.runs_forgotten += 1
    for difference in sorted(differences, key=lambda each: (each.timestamp, each.state_id)):
        if difference.timestamp > judged:
            found.recent.append(difference)
        elif difference.what is What.LOST_BY_PREFECT:
            found.lost_by_prefect.append(difference)
        else:
            found.differences.append(difference)


def _compare(
    listed: ListedRun, history: Sequence[State], of_audit: Mapping[UUID, Row[Any]]
) -> list[Difference]:
    differences = []
    pruned_at = next((row.pruned_at for row in of_audit.values()), None)
    for state in history:
        row = of_audit.get(state.id)
        if row is None and pruned_at is not None and state.timestamp <= pruned_at:
            continue
        in_prefect = (state.type.value, state.name, state.timestamp)
        if row is not None and (row.type, row.name, row.timestamp) == in_prefect:
            continue
        differences.append(
            Difference(
                listed.run.run_id,
                listed.run.name,
                state.id,
                *in_prefect,
                What.MISSING_IN_AUDIT if row is None else What.RECORDED_OTHERWISE,
                None if row is None else Source(row.source),
            )
        )
    of_prefect = {state.id for state in history}
    return differences + [
        _only_audited(row) for state_id, row in of_audit.items() if state_id not in of_prefect
    ]


def _only_audited(row: Row[Any]) -> Difference:
    witnessed = row.source in _IN_THE_PROCESS
    return Difference(
        row.run_id,
        row.run_name,
        row.state_id,
        row.type,
        row.name,
        row.timestamp,
        What.LOST_BY_PREFECT if witnessed else What.MISSING_IN_PREFECT,
        Source(row.source),
    )


def _audited_flow_run_ids(connection: Connection, since: datetime | None) -> set[UUID]:
    """The flow runs that the audit knows, themselves or by a task run of theirs."""
    rows = connection.execute(
        text(
            """
            SELECT DISTINCT coalesce(flow_run_id, run_id) AS flow_run_id FROM prefect_runs
             WHERE CAST(:since AS timestamptz) IS NULL OR state_timestamp >= :since
            """
        ),
        {"since": since},
    )
    return set(rows.scalars())


def _transitions(
    connection: Connection, flow_run_ids: Sequence[UUID]
) -> dict[UUID, dict[UUID, Row[Any]]]:
    """What the audit has of the flow runs and their task runs: run -> state -> row."""
    rows = connection.execute(
        text(
            """
            SELECT run_id, run.name AS run_name, transition.state_id, type, transition.name,
                   timestamp, source, pruned_at
              FROM prefect_transitions AS transition JOIN prefect_runs AS run USING (run_id)
             WHERE run.run_id = ANY (:ids) OR run.flow_run_id = ANY (:ids)
            """
        ),
        {"ids": flow_run_ids},
    )
    recorded: dict[UUID, dict[UUID, Row[Any]]] = {}
    for row in rows:
        recorded.setdefault(row.run_id, {})[row.state_id] = row
    return recorded
