"""A pipeline of two steps as the recorder sees it: states and attempts, played by hand."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from mavedb_audit import pipelines
from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.metrics import Meter
from mavedb_audit.recorder import attempts, plans
from mavedb_audit.recorder.attempts import Attempt, Job
from mavedb_audit.recorder.transitions import record
from mavedb_audit.states import Run, RunKind, Source, Transition

CAR, GNOMAD = "submit_score_set_mappings_to_car", "link_gnomad_variants"
ANNOTATE = "annotate_score_set"
DOWN = Failure(FailureCategory.SERVICE_UNAVAILABLE, "ClinGen is down")


@dataclass
class Pipeline:
    """An annotate_score_set pipeline on three variants, and a flow run of it."""

    engine: Engine
    score_set_id: int
    planned: plans.PlannedPipeline
    flow_run_id: UUID = field(default_factory=uuid4)
    task_runs: dict[str, UUID] = field(default_factory=dict)
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))

    def open(self) -> None:
        self.flow("RUNNING")
        with self.engine.begin() as connection:
            plans.open_pipeline(connection, "annotate_score_set", self.planned, self.flow_run_id)

    def begin(self, key: str, task_run_id: UUID | None = None, run_count: int = 1) -> Any:
        task_run_id = task_run_id or self.task_runs.setdefault(key, uuid4())
        with self.engine.begin() as connection:
            job = attempts.find_job(connection, self.flow_run_id, key)
            assert isinstance(job, Job)
            return attempts.begin_attempt(
                connection,
                job,
                flow_run_id=self.flow_run_id,
                task_run_id=task_run_id,
                run_count=run_count,
                host="here",
                process_id=1,
            )

    def finish(self, attempt: Attempt) -> None:
        with self.engine.begin() as connection:
            attempts.finish_attempt(connection, attempt, {}, Meter().usage())

    def fail(self, attempt: Attempt, *, will_be_retried: bool = False) -> None:
        with self.engine.begin() as connection:
            used = Meter().usage()
            attempts.fail_attempt(connection, attempt, DOWN, used, will_be_retried=will_be_retried)

    def state(self, run: Run, type_: str, **more: Any) -> Transition:
        self.moment = max(self.moment + timedelta(milliseconds=1), datetime.now(UTC))
        return Transition(
            **{
                "run": run,
                "state_id": uuid4(),
                "type": type_,
                "name": type_.capitalize(),
                "timestamp": self.moment,
                "source": Source.HOOK,
                **more,
            }
        )

    def task_state(
        self, key: str, type_: str, *, task_run_id: UUID | None = None, **more: Any
    ) -> Transition:
        run_id = task_run_id or self.task_runs.setdefault(key, uuid4())
        return self.state(Run(run_id, RunKind.TASK, key, self.flow_run_id), type_, **more)

    def task(self, key: str, type_: str, **more: Any) -> None:
        self.record(self.task_state(key, type_, **more))

    def flow(self, type_: str, **more: Any) -> None:
        run = Run(self.flow_run_id, RunKind.FLOW, "flow", pipeline_urn=self.planned.pipeline_urn)
        self.record(self.state(run, type_, **more))

    def record(self, *transitions: Transition) -> None:
        with self.engine.begin() as connection:
            record(connection, transitions)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    @property
    def statuses(self) -> dict[str, str]:
        """The status of the pipeline and of each of its jobs."""
        jobs = self.rows("SELECT job_function, status FROM job_runs ORDER BY id")
        return {"pipeline": self.rows("SELECT status FROM pipelines")[0][0], **dict(jobs)}

    def reasons(self, annotation_type: str) -> set[tuple[str, str]]:
        """(status, reason) of all variants' current rows of the type."""
        rows = self.rows(
            f"""
            SELECT variant_id, status, failure_category FROM variant_annotation_status
             WHERE current AND annotation_type = '{annotation_type}'
            """
        )
        assert [row[0] for row in sorted(rows)] == [1, 2, 3]
        return {(row[1], row[2]) for row in rows}


def plan_two_steps(patch: pytest.MonkeyPatch) -> None:
    """Let annotate_score_set have no more steps than these, the second after the first."""
    plan = pipelines.PIPELINES[ANNOTATE]
    steps = tuple(step for step in plan.steps if step.key in (CAR, GNOMAD))
    patch.setitem(pipelines.PIPELINES, ANNOTATE, pipelines.Pipeline(ANNOTATE, "", steps))


def plan(
    connection: Connection, score_set_id: int, urn: str | None = None
) -> plans.PlannedPipeline:
    return plans.plan_pipeline(
        connection,
        ANNOTATE,
        {"score_set_id": score_set_id, "updater_id": None},
        user_id=None,
        correlation_id=None,
        urn=urn,
    )
