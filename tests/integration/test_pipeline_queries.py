"""What people and programs read of pipelines and jobs, on rows that the recorder wrote."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from mavedb_audit.errors import NotFoundError
from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.metrics import Meter, count_request
from mavedb_audit.queries import histories, jobs, pipelines, system
from mavedb_audit.queries.jobs import JobFilter
from mavedb_audit.queries.pipelines import PipelineFilter
from mavedb_audit.recorder import attempts
from tests.support_recorder import ANNOTATE, CAR, DOWN, GNOMAD, Pipeline, plan

REFUSED = Failure(FailureCategory.DATA_ERROR, "ClinGen refused it")


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """One that sees what was committed before each of its statements."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def another(pipeline: Pipeline) -> Pipeline:
    with pipeline.engine.begin() as connection:
        return Pipeline(
            pipeline.engine, pipeline.score_set_id, plan(connection, pipeline.score_set_id)
        )


def succeed(pipeline: Pipeline) -> None:
    pipeline.open()
    for key in (CAR, GNOMAD):
        pipeline.finish(pipeline.begin(key))


def test_lists_are_newest_first_and_narrowed_by_what_is_given(
    pipeline: Pipeline, connection: Connection
) -> None:
    succeed(pipeline)
    newer = another(pipeline)
    urns = [newer.planned.pipeline_urn, pipeline.planned.pipeline_urn]
    assert [one.urn for one in pipelines.find(connection, PipelineFilter())] == urns
    assert [one.urn for one in pipelines.find(connection, PipelineFilter(), limit=1)] == urns[:1]
    assert [one.urn for one in pipelines.find(connection, PipelineFilter(), offset=1)] == urns[1:]
    ended = PipelineFilter(status="succeeded", name=ANNOTATE)
    assert [one.urn for one in pipelines.find(connection, ended)] == urns[1:]
    score_set_urn = pipeline.rows("SELECT urn FROM scoresets")[0][0]
    assert len(pipelines.summaries(connection, PipelineFilter(score_set_urn=score_set_urn))) == 2
    assert not pipelines.summaries(connection, PipelineFilter(score_set_urn="urn:mavedb:none"))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert not pipelines.find(connection, PipelineFilter(created_after=tomorrow))
    assert len(pipelines.find(connection, PipelineFilter(created_before=tomorrow))) == 2

    found = jobs.find(connection, JobFilter(pipeline_id=newer.planned.pipeline_id))
    assert [job.job_function for job in found] == [GNOMAD, CAR, "start_pipeline"]
    assert [job.status for job in jobs.find(connection, JobFilter(job_function=CAR))] == [
        "pending",
        "succeeded",
    ]


def test_a_pipeline_tells_how_far_it_is_as_mavedb_counts(
    pipeline: Pipeline, connection: Connection
) -> None:
    pipeline.open()
    pipeline.finish(pipeline.begin(CAR))
    progress = pipelines.one(connection, pipeline.planned.pipeline_urn).progress
    assert (progress.total_jobs, progress.completed_jobs, progress.pending_jobs) == (3, 2, 1)
    assert progress.completion_percentage == pytest.approx(200 / 3)
    assert progress.status_counts == {"succeeded": 2, "pending": 1}
    pipeline.fail(pipeline.begin(GNOMAD))
    progress = pipelines.one(connection, pipeline.planned.pipeline_urn).progress
    assert (progress.successful_jobs, progress.failed_jobs) == (2, 1)
    assert progress.completion_percentage == 100.0


def test_a_failed_step_shows_its_attempts_its_error_and_what_it_waited_for(
    pipeline: Pipeline, connection: Connection
) -> None:
    pipeline.open()
    pipeline.fail(pipeline.begin(CAR), will_be_retried=True)
    pipeline.finish(pipeline.begin(CAR, run_count=2))
    pipeline.fail(pipeline.begin(GNOMAD))
    detail = pipelines.detail(connection, pipeline.planned.pipeline_urn)
    steps = {step.job_key: step for step in detail.steps}
    assert steps[CAR].attempts == 2
    assert steps[GNOMAD].after == [CAR]
    assert (steps[GNOMAD].status, steps[GNOMAD].error_message) == ("failed", DOWN.message)
    assert (detail.jobs, detail.jobs_ended, detail.jobs_failed) == (3, 3, 1)
    assert detail.flow_run_id == pipeline.flow_run_id
    job = jobs.one(connection, steps[GNOMAD].job_urn)
    assert job.failure_category == DOWN.category


def test_what_is_left_is_told_from_progress_and_from_earlier_runs(
    pipeline: Pipeline, connection: Connection
) -> None:
    succeed(pipeline)
    with pipeline.engine.begin() as writing:
        writing.execute(text("UPDATE job_runs SET started_at = finished_at - interval '80 s'"))
    newer = another(pipeline)
    newer.open()
    attempt = newer.begin(CAR)
    with pipeline.engine.begin() as writing:
        writing.execute(
            text("UPDATE job_runs SET started_at = now() - interval '20 s' WHERE status='running'")
        )
    steps = {s.job_key: s for s in pipelines.detail(connection, newer.planned.pipeline_urn).steps}
    assert steps[CAR].remaining_seconds == pytest.approx(60, abs=5)
    assert steps[GNOMAD].remaining_seconds == pytest.approx(80)
    with pipeline.engine.begin() as writing:
        attempts.report_progress(writing, attempt, 1, 4, "a quarter")
    steps = {s.job_key: s for s in pipelines.detail(connection, newer.planned.pipeline_urn).steps}
    assert steps[CAR].remaining_seconds == pytest.approx(60, abs=5)
    assert steps[CAR].elapsed_seconds == pytest.approx(20, abs=5)
    newer.finish(attempt)
    steps = {s.job_key: s for s in pipelines.detail(connection, newer.planned.pipeline_urn).steps}
    assert steps[CAR].remaining_seconds is None


def test_a_request_that_prefect_refuses_says_why_it_waits(
    pipeline: Pipeline, connection: Connection
) -> None:
    with pipeline.engine.begin() as writing:
        writing.execute(
            text("INSERT INTO pipeline_requests (pipeline_id, last_error) VALUES (:id, 'away')"),
            {"id": pipeline.planned.pipeline_id},
        )
    assert pipelines.detail(connection, pipeline.planned.pipeline_urn).waiting_because == "away"
    seen = system.system(connection)
    assert seen.requests_waiting == 1
    assert seen.oldest_request_seconds is not None


def test_a_history_holds_states_attempts_and_actions_in_their_order(
    pipeline: Pipeline, connection: Connection
) -> None:
    pipeline.open()
    pipeline.task(CAR, "RUNNING")
    pipeline.fail(pipeline.begin(CAR))
    with pipeline.engine.begin() as writing:
        writing.execute(
            text(
                "INSERT INTO operator_actions (pipeline_id, action, actor, reason)"
                " VALUES (:id, 'retry_failed', 'ada', 'ClinGen is back')"
            ),
            {"id": pipeline.planned.pipeline_id},
        )
    events = histories.history(connection, pipeline.planned.pipeline_urn).events
    assert events == sorted(events, key=lambda event: event.at)
    told = [(event.kind, event.subject, event.what) for event in events]
    assert ("task", CAR, "Running") in told
    assert ("flow", "flow", "Running") in told
    assert ("action", "ada", "retry_failed") in told
    failed = next(event for event in events if event.what == "failed")
    assert (failed.kind, failed.attempt, failed.message) == ("attempt", 1, DOWN.message)

    job_urn = pipeline.rows(f"SELECT urn FROM job_runs WHERE job_function = '{CAR}'")[0][0]
    of_the_job = histories.history(connection, job_urn).events
    assert {event.subject for event in of_the_job} == {CAR}


def test_what_is_not_there_is_named(connection: Connection) -> None:
    for ask in (pipelines.one, pipelines.detail, histories.history, jobs.one):
        with pytest.raises(NotFoundError, match="urn:mavedb:nowhere"):
            ask(connection, "urn:mavedb:nowhere")


def asks(pipeline: Pipeline, outcome: str, failure: Failure | None) -> None:
    """An attempt of a pipeline of its own, that asked ClinGen once."""
    meter = Meter()
    with meter.counting():
        count_request("ClinGen", outcome)
    trying = another(pipeline)
    trying.open()
    attempt = trying.begin(CAR)
    with pipeline.engine.begin() as connection:
        if failure is None:
            attempts.finish_attempt(connection, attempt, {}, meter.usage())
        else:
            attempts.fail_attempt(
                connection, attempt, failure, meter.usage(), will_be_retried=False
            )


def test_a_circuit_opens_after_three_attempts_without_an_answer(
    pipeline: Pipeline, connection: Connection
) -> None:
    asks(pipeline, "2xx", None)
    asks(pipeline, "5xx", DOWN)
    asks(pipeline, "no answer", DOWN)
    (clingen,) = system.services(connection)
    assert not clingen.circuit_open
    asks(pipeline, "5xx", DOWN)
    (clingen,) = system.services(connection)
    assert clingen.circuit_open
    assert clingen.requests == {"2xx": 1, "5xx": 2, "no answer": 1}
    assert clingen.last_error == DOWN.message
    asks(pipeline, "4xx", REFUSED)
    (clingen,) = system.services(connection)
    assert not clingen.circuit_open


def test_the_system_counts_what_is_open(pipeline: Pipeline, connection: Connection) -> None:
    assert system.system(connection).mirror_lag_seconds is None
    pipeline.open()
    pipeline.begin(CAR)
    seen = system.system(connection)
    assert seen.pipelines_by_status == {"running": 1}
    assert seen.jobs_by_status == {"running": 1, "pending": 1, "succeeded": 1}
    assert (seen.open_runs, seen.unsettled_runs) == (1, 1)
    assert seen.mirror_lag_seconds is not None
    assert 0 <= seen.mirror_lag_seconds < 30
