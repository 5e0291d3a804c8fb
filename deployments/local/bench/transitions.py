"""How fast states of Prefect's runs are recorded, beside a COPY of the same rows."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import Figure, Pair, figure_of
from deployments.local.bench.noops import noop_key, plan_noops
from deployments.local.bench.rows import vacuum
from mavedb_audit.bulk import copy_rows
from mavedb_audit.hooks import pipeline_urn_of
from mavedb_audit.recorder.transitions import record
from mavedb_audit.states import Run, RunKind, Source, Transition

PAIRS = 3
_BATCH_SIZE = 400
_JOBS = 4
_FLOW_STATES = ("Scheduled", "Pending", "Running")
_TASK_STATES = ("Pending", "Running", "Completed")
#: Pipelines begin one after the other, so that the states of several lie beside each other.
_BETWEEN_PIPELINES = timedelta(seconds=0.1)
_BETWEEN_STATES = timedelta(seconds=0.25)

_COLUMNS = (
    "prefect_transitions (state_id, run_id, type, name, timestamp, run_count, message, source)"
)


def recording(engine: Engine, pipelines: int) -> list[Figure]:
    """States that are new, and the same ones again, as every other source tells of them."""
    _measure(engine, pipelines)  # so that PostgreSQL knows how many rows to expect
    measured = [_measure(engine, pipelines) for _ in range(PAIRS)]
    return [
        figure_of("transitions, new", "rows/s", [new for new, _ in measured], None),
        figure_of("transitions, again", "rows/s", [again for _, again in measured], None),
    ]


def _measure(engine: Engine, pipelines: int) -> tuple[Pair, Pair]:
    """Record the states of so many more pipelines, once and once more, and COPY them instead."""
    flow_run_ids = [uuid4() for _ in range(pipelines)]
    batches = _batches(flow_run_ids)
    with engine.begin() as connection:
        plan_noops(connection, flow_run_ids, _JOBS)
    vacuum(engine)
    new = _rows_a_second(engine, batches, record)
    again = _rows_a_second(engine, batches, record)
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM prefect_transitions WHERE state_id = ANY (:ids)"),
            {"ids": [transition.state_id for batch in batches for transition in batch]},
        )
    vacuum(engine)
    plain = _rows_a_second(engine, batches, _copy)
    return Pair(new, plain), Pair(again, plain)


def _rows_a_second(
    engine: Engine,
    batches: Sequence[Sequence[Transition]],
    write: Callable[[Connection, Sequence[Transition]], None],
) -> float:
    """Each batch is one transaction."""
    began = time.perf_counter()
    for batch in batches:
        with engine.begin() as connection:
            write(connection, batch)
    return sum(map(len, batches)) / (time.perf_counter() - began)


def _copy(connection: Connection, batch: Sequence[Transition]) -> None:
    copy_rows(
        connection,
        _COLUMNS,
        [
            (t.state_id, t.run.run_id, t.type, t.name, t.timestamp, t.run_count, None, t.source)
            for t in batch
        ],
    )


def _batches(flow_run_ids: Sequence[UUID]) -> list[list[Transition]]:
    """All states of the pipelines' runs in the order of time, as the mirror batches them."""
    began = datetime.now(UTC)
    transitions = [
        transition
        for number, flow_run_id in enumerate(flow_run_ids)
        for transition in _history(flow_run_id, began + number * _BETWEEN_PIPELINES)
    ]
    transitions.sort(key=lambda transition: transition.timestamp)
    return [
        transitions[start : start + _BATCH_SIZE]
        for start in range(0, len(transitions), _BATCH_SIZE)
    ]


def _history(flow_run_id: UUID, began: datetime) -> list[Transition]:
    """A flow run of tasks that follow each other, all of which succeed."""
    flow = Run(
        flow_run_id,
        RunKind.FLOW,
        "benchmark",
        pipeline_urn=pipeline_urn_of(flow_run_id, None),
    )
    tasks = [Run(uuid4(), RunKind.TASK, noop_key(number), flow_run_id) for number in range(_JOBS)]
    states = [
        *((flow, name) for name in _FLOW_STATES),
        *((task, name) for task in tasks for name in _TASK_STATES),
        (flow, "Completed"),
    ]
    return [
        Transition(
            run=run,
            state_id=uuid4(),
            type=name.upper(),
            name=name,
            timestamp=began + position * _BETWEEN_STATES,
            source=Source.MIRROR,
            run_count=1,
        )
        for position, (run, name) in enumerate(states)
    ]
