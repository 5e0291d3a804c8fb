"""A history of states gives the same rows in whatever order, how often and from whom it comes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text

from mavedb_audit.recorder.transitions import record
from mavedb_audit.states import Run, RunKind, Source, Transition
from tests.support import insert_numbered_variants
from tests.support_recorder import CAR, GNOMAD, plan, plan_two_steps

#: (whose, type, name) in the order in which Prefect's runs go through them.
HISTORIES: dict[str, list[tuple[str, str, str]]] = {
    "all succeed, one after a retry": [
        ("flow", "SCHEDULED", "Scheduled"),
        ("flow", "PENDING", "Pending"),
        ("flow", "RUNNING", "Running"),
        (CAR, "PENDING", "Pending"),
        (GNOMAD, "PENDING", "Pending"),
        (CAR, "RUNNING", "Running"),
        (CAR, "SCHEDULED", "AwaitingRetry"),
        (CAR, "RUNNING", "Retrying"),
        (CAR, "COMPLETED", "Completed"),
        (GNOMAD, "RUNNING", "Running"),
        (GNOMAD, "COMPLETED", "Completed"),
        ("flow", "COMPLETED", "Completed"),
    ],
    "the first fails": [
        ("flow", "SCHEDULED", "Scheduled"),
        ("flow", "RUNNING", "Running"),
        (CAR, "RUNNING", "Running"),
        (CAR, "FAILED", "Failed"),
        (GNOMAD, "PENDING", "NotReady"),
        ("flow", "FAILED", "Failed"),
    ],
    "the last times out": [
        ("flow", "RUNNING", "Running"),
        (CAR, "RUNNING", "Running"),
        (CAR, "COMPLETED", "Cached"),
        (GNOMAD, "RUNNING", "Running"),
        (GNOMAD, "FAILED", "TimedOut"),
        ("flow", "COMPLETED", "Partial"),
    ],
    "cancelled while it runs": [
        ("flow", "RUNNING", "Running"),
        (CAR, "RUNNING", "Running"),
        ("flow", "CANCELLING", "Cancelling"),
        (CAR, "CRASHED", "Crashed"),
        ("flow", "CANCELLED", "Cancelled"),
    ],
    "cancelled before it began": [
        ("flow", "SCHEDULED", "Scheduled"),
        ("flow", "SCHEDULED", "Late"),
        ("flow", "CANCELLED", "Cancelled"),
    ],
}


@dataclass
class Workbench:
    """A database on which each history is played in a transaction that is rolled back."""

    connection: Connection
    score_set_id: int

    def play(self, transitions: list[Transition], urn: str) -> Any:
        """The rows that these transitions, one by one, leave behind."""
        outer = self.connection.begin()
        try:
            plan(self.connection, self.score_set_id, urn)
            for transition in transitions:
                record(self.connection, [transition])
            return {
                name: [tuple(row) for row in self.connection.execute(text(sql))]
                for name, sql in ROWS.items()
            }
        finally:
            outer.rollback()


ROWS = {
    "pipeline": "SELECT status FROM pipelines",
    "jobs": "SELECT job_function, status, failure_category FROM job_runs ORDER BY id",
    "runs": "SELECT run_id, kind, state_id, state_type, state_name FROM prefect_runs ORDER BY 1",
    "transitions": "SELECT state_id, run_id, type, name FROM prefect_transitions ORDER BY 1",
    "account": """
        SELECT variant_id, annotation_type, status, failure_category
          FROM variant_annotation_status WHERE current ORDER BY 1, 2
    """,
}


@pytest.fixture
def workbench(domain_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    plan_two_steps(monkeypatch)
    engine = create_engine(domain_database)
    with engine.connect() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 2)
        connection.commit()
        yield Workbench(connection, score_set_id)
    engine.dispose()


def transitions_of(history: list[tuple[str, str, str]], urn: str) -> list[Transition]:
    flow_run_id = uuid4()
    runs: dict[str, UUID] = {}
    # After both plays have planned their jobs, however long the first one takes.
    began = datetime.now(UTC) + timedelta(minutes=10)
    return [
        Transition(
            run=Run(flow_run_id, RunKind.FLOW, "flow", pipeline_urn=urn)
            if whose == "flow"
            else Run(runs.setdefault(whose, uuid4()), RunKind.TASK, whose, flow_run_id),
            state_id=uuid4(),
            type=type_,
            name=name,
            timestamp=began + timedelta(milliseconds=moment),
            source=Source.MIRROR,
            message=name,
        )
        for moment, (whose, type_, name) in enumerate(history)
    ]


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_gives_the_rows_of_the_history_in_order(
    workbench: Workbench, history: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    urn = f"urn:mavedb:pipeline-{uuid4()}"
    in_order = transitions_of(history, urn)
    seen = data.draw(st.lists(st.sampled_from(in_order), max_size=2 * len(in_order)))
    sources = st.sampled_from([Source.HOOK, Source.MIRROR])
    delivered = [replace(transition, source=data.draw(sources)) for transition in seen]
    # The reconciler brings a flow run with its task runs, task runs bound through it.
    reconciled = data.draw(st.permutations(in_order))
    flow_first = [t for t in in_order[:1] if t.run.kind is RunKind.FLOW]
    assert workbench.play([*flow_first, *delivered, *reconciled], urn) == workbench.play(
        in_order, urn
    )
