"""What the recorder makes of Prefect's states and of attempts, in whatever order they come."""

import threading
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.errors import RequestError
from mavedb_audit.metrics import Meter
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.recorder import attempts, plans
from mavedb_audit.recorder.attempts import Attempt, AttemptLostError, NotStartable
from mavedb_audit.states import Run, RunKind
from tests.support_recorder import CAR, GNOMAD, Pipeline, plan


def test_steps_that_succeed_make_the_pipeline_succeed(pipeline: Pipeline) -> None:
    pipeline.open()
    assert pipeline.statuses["pipeline"] == "running"
    pipeline.finish(pipeline.begin(CAR))
    assert pipeline.statuses["pipeline"] == "running"
    pipeline.finish(pipeline.begin(GNOMAD))
    assert set(pipeline.statuses.values()) == {"succeeded"}


def test_a_state_is_recorded_once_and_a_late_one_moves_nothing_back(pipeline: Pipeline) -> None:
    pipeline.open()
    pending, running = pipeline.task_state(CAR, "PENDING"), pipeline.task_state(CAR, "RUNNING")
    pipeline.record(running)
    pipeline.record(pending, running)
    pipeline.record(pending)
    assert pipeline.rows("SELECT state_type FROM prefect_runs WHERE kind = 'task'") == [
        ("RUNNING",)
    ]
    assert pipeline.rows("SELECT count(*) FROM prefect_transitions") == [(3,)]
    assert pipeline.statuses[CAR] == "running"


def test_a_batch_says_the_newest_states_message(pipeline: Pipeline) -> None:
    pipeline.open()
    older = pipeline.task_state(CAR, "RUNNING", message="older")
    newer = pipeline.task_state(CAR, "FAILED", message="the process was killed")
    pipeline.record(newer, older)
    assert pipeline.rows(f"SELECT error_message FROM job_runs WHERE job_function = '{CAR}'") == [
        ("the process was killed",)
    ]


def test_a_failure_skips_what_depends_on_it_and_accounts_for_all(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.fail(pipeline.begin(CAR))
    assert pipeline.statuses == {
        "pipeline": "failed",
        "start_pipeline": "succeeded",
        CAR: "failed",
        GNOMAD: "skipped",
    }
    assert pipeline.reasons("clingen_allele_id") == {("failed", "step_failed")}
    assert pipeline.reasons("gnomad_allele_frequency") == {("skipped", "dependency_failure")}


def test_a_failure_that_is_tried_again_leaves_the_job_open_and_keeps_its_error(
    pipeline: Pipeline,
) -> None:
    pipeline.open()
    pipeline.fail(pipeline.begin(CAR), will_be_retried=True)
    assert pipeline.statuses[CAR] == "queued"
    assert pipeline.rows("SELECT count(*) FROM variant_annotation_status") == [(0,)]
    pipeline.finish(pipeline.begin(CAR, run_count=2))
    assert pipeline.rows("SELECT attempt, outcome, error_message FROM job_attempts ORDER BY 1") == [
        (1, "failed", "ClinGen is down"),
        (2, "succeeded", None),
    ]


def test_a_flow_cancelled_before_it_began_closes_every_job(pipeline: Pipeline) -> None:
    pipeline.flow("CANCELLED", message="by an operator")
    assert set(pipeline.statuses.values()) == {"cancelled"}
    assert pipeline.reasons("gnomad_allele_frequency") == {("skipped", "step_cancelled")}


def test_a_flow_cancelled_half_way_keeps_what_was_done(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.finish(pipeline.begin(CAR))
    attempt = pipeline.begin(GNOMAD)
    pipeline.flow("CANCELLED")
    assert pipeline.statuses == {
        "pipeline": "cancelled",
        "start_pipeline": "succeeded",
        CAR: "succeeded",
        GNOMAD: "cancelled",
    }
    with pytest.raises(AttemptLostError):
        pipeline.finish(attempt)


def test_a_failed_flow_fails_what_ran_and_skips_the_rest(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.begin(CAR)
    pipeline.flow("FAILED", message="a bug")
    assert pipeline.statuses["pipeline"] == "failed"
    assert (pipeline.statuses[CAR], pipeline.statuses[GNOMAD]) == ("failed", "skipped")
    assert pipeline.rows("SELECT outcome FROM job_attempts") == [("failed",)]


def test_a_crashed_flow_leaves_its_jobs_to_recovery(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.begin(CAR)
    pipeline.flow("CRASHED", message="killed")
    assert pipeline.statuses["pipeline"] == "running"
    assert (pipeline.statuses[CAR], pipeline.statuses[GNOMAD]) == ("running", "pending")


def test_a_flow_that_is_being_cancelled_has_its_jobs_closed_at_once(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.begin(CAR)
    pipeline.flow("CANCELLING")
    assert (pipeline.statuses[CAR], pipeline.statuses[GNOMAD]) == ("cancelled", "cancelled")


def test_a_closed_job_is_not_begun_again(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.flow("CANCELLED")
    assert isinstance(pipeline.begin(CAR), NotStartable)
    assert pipeline.statuses[CAR] == "cancelled"


def test_a_retried_flow_runs_what_had_not_succeeded(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.finish(pipeline.begin(CAR))
    pipeline.fail(pipeline.begin(GNOMAD))
    assert pipeline.statuses["pipeline"] == "partial"
    pipeline.open()
    assert (pipeline.statuses["pipeline"], pipeline.statuses[CAR]) == ("running", "succeeded")
    assert isinstance(pipeline.begin(CAR, uuid4()), attempts.DoneBefore)
    pipeline.finish(pipeline.begin(GNOMAD, uuid4()))
    assert pipeline.statuses["pipeline"] == "succeeded"


def test_a_second_run_takes_the_attempt_from_the_first(pipeline: Pipeline) -> None:
    pipeline.open()
    zombie = pipeline.begin(CAR)
    living = pipeline.begin(CAR, uuid4())
    with pytest.raises(AttemptLostError):
        pipeline.finish(zombie)
    with pytest.raises(AttemptLostError):
        pipeline.fail(zombie)
    pipeline.finish(living)
    assert pipeline.rows("SELECT outcome FROM job_attempts ORDER BY attempt") == [
        ("abandoned",),
        ("succeeded",),
    ]


@pytest.mark.parametrize("ending", ["CANCELLED", "FAILED", "CRASHED"])
def test_the_end_of_a_replaced_task_run_does_not_end_the_job(
    pipeline: Pipeline, ending: str
) -> None:
    pipeline.open()
    pipeline.begin(CAR)
    second = uuid4()
    living = pipeline.begin(CAR, second)
    pipeline.task(CAR, ending)
    assert pipeline.statuses[CAR] == "running"
    pipeline.fail(living, will_be_retried=True)
    pipeline.task(CAR, ending)
    assert pipeline.statuses[CAR] == "queued"
    pipeline.finish(pipeline.begin(CAR, second, run_count=2))
    assert pipeline.statuses[CAR] == "succeeded"


def test_a_task_run_that_gave_way_does_not_end_the_job(pipeline: Pipeline) -> None:
    pipeline.open()
    attempt = pipeline.begin(CAR)
    pipeline.task(CAR, "FAILED", task_run_id=uuid4(), message="another run did not end in time")
    assert pipeline.statuses[CAR] == "running"
    pipeline.finish(attempt)
    assert pipeline.statuses[CAR] == "succeeded"


def test_a_state_from_before_a_retry_does_not_touch_the_reset_job(pipeline: Pipeline) -> None:
    pipeline.open()
    late = pipeline.task_state(GNOMAD, "PENDING", name="NotReady")
    pipeline.fail(pipeline.begin(CAR))
    pipeline.open()
    pipeline.record(late)
    assert pipeline.statuses[GNOMAD] == "pending"


def test_a_flow_run_of_another_pipeline_is_refused(pipeline: Pipeline) -> None:
    with (
        pipeline.engine.begin() as connection,
        pytest.raises(RequestError, match="is a pipeline annotate_score_set"),
    ):
        plans.open_pipeline(
            connection, "map_annotate_score_set", pipeline.planned, pipeline.flow_run_id
        )


def test_text_that_postgresql_cannot_hold_is_recorded_all_the_same(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.task(CAR, "FAILED", message="a\x00b")
    assert pipeline.rows(f"SELECT error_message FROM job_runs WHERE job_function = '{CAR}'") == [
        ("a\ufffdb",)
    ]


def test_siblings_that_start_at_once_do_not_block_each_other(pipeline: Pipeline) -> None:
    pipeline.open()
    for _ in range(20):
        at_once(
            lambda: pipeline.task(CAR, "RUNNING", task_run_id=uuid4()),
            lambda: pipeline.task(GNOMAD, "RUNNING", task_run_id=uuid4()),
        )


def test_a_finish_and_a_cancellation_at_once_do_not_block_each_other(
    pipeline: Pipeline, engine: Engine
) -> None:
    """They meet in the account, in the pipeline and in the job, whoever comes first."""
    for _ in range(10):
        with engine.begin() as connection:
            pipeline.planned = plan(connection, pipeline.score_set_id)
        pipeline.flow_run_id, pipeline.task_runs = uuid4(), {}
        pipeline.open()
        attempt = pipeline.begin(CAR)

        def finish(attempt: Attempt = attempt) -> None:
            with engine.begin() as connection:
                accounts.lock_accounts(connection, [pipeline.score_set_id])
                accounts.write(
                    connection,
                    job_id=attempt.job.job_id,
                    score_set_id=pipeline.score_set_id,
                    annotation_type=AnnotationType.CLINGEN_ALLELE_ID,
                    version=None,
                    statuses=[Status(n) for n in (1, 2, 3)],
                )
                try:
                    attempts.finish_attempt(connection, attempt, {}, Meter().usage())
                except AttemptLostError:
                    connection.rollback()

        at_once(finish, lambda: pipeline.flow("CANCELLED"))
        assert len(pipeline.reasons("clingen_allele_id")) == 1


@pytest.mark.parametrize(
    ("flow_state", "task_states", "status"),
    [("CANCELLED", [], "cancelled"), ("SCHEDULED", ["FAILED"], "failed")],
)
def test_a_state_recorded_before_its_run_is_bound_counts_once_it_is(
    pipeline: Pipeline, flow_state: str, task_states: list[str], status: str
) -> None:
    """As when Prefect's event of a flow run comes before the dispatcher's commit."""
    unbound = Run(pipeline.flow_run_id, RunKind.FLOW, "flow")
    of_flow = pipeline.state(unbound, flow_state)
    of_tasks = [pipeline.task_state(CAR, state) for state in task_states]
    pipeline.record(of_flow)
    pipeline.record(*of_tasks)
    bound = replace(unbound, pipeline_urn=pipeline.planned.pipeline_urn)
    pipeline.record(replace(of_flow, run=bound), *of_tasks)
    assert pipeline.statuses["pipeline"] == status


def at_once(*work: Any) -> None:
    """Run the pieces in threads that start together; an error in one is the test's."""
    start = threading.Barrier(len(work))
    errors: list[BaseException] = []

    def run(piece: Any) -> None:
        start.wait()
        try:
            piece()
        except BaseException as error:  # noqa: BLE001 - shown below, whatever it is
            errors.append(error)

    threads = [threading.Thread(target=run, args=(piece,)) for piece in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
