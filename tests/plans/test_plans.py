"""How the database answers what is asked again and again, when a million rows are there.

Each test calls a function of ours and looks at the plans of the statements that it executes. The
bounds are of rows read: that they are small says that the cost does not grow with the history.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import Connection, text

from deployments.local.filled import PLAN
from mavedb_audit import accounts, prune, settling
from mavedb_audit.accounts import Status
from mavedb_audit.database import engine
from mavedb_audit.dispatcher import dispatch_next
from mavedb_audit.exposition import Exposition
from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.histories import ListedRun, State
from mavedb_audit.metrics import Meter
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.recorder import attempts, crashes, moves
from mavedb_audit.recorder.attempts import Attempt
from mavedb_audit.recorder.closing import lock_for_closing
from mavedb_audit.recorder.transitions import record
from mavedb_audit.settling import History
from mavedb_audit.sightings import Sighting, record_sightings
from mavedb_audit.states import Run, RunKind, Source, Transition
from mavedb_audit.trigger import request_pipeline
from tests.plans.explained import assert_read, explained
from tests.plans.reading import READING
from tests.plans.years import Years

GNOMAD = AnnotationType.GNOMAD_ALLELE_FREQUENCY
DOWN = Failure(FailureCategory.SERVICE_UNAVAILABLE, "ClinGen is down")
#: The step that is at work in a pipeline that runs.
AT_WORK = PLAN.steps[0].key
#: Where nobody answers.
NO_PREFECT = "http://127.0.0.1:9/api"


@pytest.mark.parametrize("question", READING)
def test_an_answer_is_found_by_indexes(connection: Connection, years: Years, question: str) -> None:
    ask, most_rows, indexes = READING[question]
    with explained(connection) as statements:
        ask(connection, years)
    assert_read(statements, most_rows, *indexes)


def test_a_missing_index_is_noticed(connection: Connection) -> None:
    connection.execute(text("DROP INDEX ix_prefect_runs_unsettled"))
    with explained(connection) as statements:
        settling.unsettled_runs(connection)
    with pytest.raises(AssertionError, match="prefect_runs read as a whole"):
        assert_read(statements, 10_000_000)


def job_at_work(connection: Connection, years: Years) -> attempts.Job:
    job = attempts.find_job(connection, years.running.flow_run_id, AT_WORK)
    assert job is not None
    return job


def begin(connection: Connection, years: Years) -> Attempt:
    attempt = attempts.begin_attempt(
        connection,
        job_at_work(connection, years),
        flow_run_id=years.running.flow_run_id,
        task_run_id=uuid4(),
        run_count=1,
        host="here",
        process_id=1,
    )
    assert isinstance(attempt, Attempt)
    return attempt


def task_state(connection: Connection, years: Years, type_: str) -> Transition:
    """A state of the task run that is at work."""
    run_id = connection.execute(
        text("SELECT run_id FROM prefect_runs WHERE flow_run_id = :id AND name = :name"),
        {"id": years.running.flow_run_id, "name": AT_WORK},
    ).scalar_one()
    run = Run(run_id, RunKind.TASK, AT_WORK, years.running.flow_run_id)
    now = datetime.now(UTC)
    return Transition(run, uuid4(), type_, type_.capitalize(), now, Source.MIRROR, run_count=1)


def test_an_attempt_begins_and_succeeds(connection: Connection, years: Years) -> None:
    with explained(connection) as statements:
        attempt = begin(connection, years)
        attempts.report_progress(connection, attempt, 1, 2, "half")
        attempts.finish_attempt(connection, attempt, {}, Meter().usage())
    assert_read(statements, 500, "planned_jobs_pipeline_id_job_key_key", "ix_job_runs_pipeline_id")


def test_a_failed_attempt_closes_what_depends_on_it(connection: Connection, years: Years) -> None:
    attempt = begin(connection, years)
    with explained(connection) as statements:
        attempts.fail_attempt(connection, attempt, DOWN, Meter().usage(), will_be_retried=False)
    assert_read(statements, 100_000, "ix_job_dependencies_depends_on_job_id")


@pytest.mark.parametrize("type_", ["RUNNING", "COMPLETED", "FAILED", "CRASHED"])
def test_a_state_moves_its_job_and_pipeline(
    connection: Connection, years: Years, type_: str
) -> None:
    state = task_state(connection, years, type_)
    with explained(connection) as statements:
        record(connection, [state])
    assert_read(statements, 100_000, "prefect_runs_pkey")


def test_an_ended_flow_closes_its_jobs(connection: Connection, years: Years) -> None:
    with explained(connection) as statements:
        lock_for_closing(connection, [years.running.id])
        moves.close_open_jobs(connection, years.running.id, "CANCELLED", "by hand")
    assert_read(statements, 200_000, "ix_job_runs_pipeline_id")


def test_what_a_dead_flow_leaves_is_closed(connection: Connection, years: Years) -> None:
    lock_for_closing(connection, [years.running.id])
    with explained(connection) as statements:
        tries = crashes.tries(connection, years.running.id)
        crashes.retries_in_vain(connection, years.running.id)
        crashes.fail_open_attempts(connection, years.running.id, tries)
        crashes.close_dead(connection, years.running.id, tries, "It was tried too often")
    assert_read(statements, 200_000, "job_attempts_job_id_attempt_key")


@pytest.mark.parametrize("reason", [Reason.NO_CLINGEN_ALLELE_ID, Reason.MALFORMED_RECORD])
def test_statuses_replace_those_of_their_variants(
    connection: Connection, years: Years, reason: Reason
) -> None:
    ids = connection.execute(
        text("SELECT id FROM variants WHERE scoreset_id = :id"), {"id": years.small_id}
    ).scalars()
    statuses = [Status(id_, reason) for id_ in ids]
    job = job_at_work(connection, years)

    def write() -> None:
        accounts.write(
            connection,
            job_id=job.job_id,
            score_set_id=years.small_id,
            annotation_type=GNOMAD,
            version="v4.1",
            statuses=statuses,
        )

    with explained(connection) as statements:
        write()
    assert_read(statements, 10_000)
    with explained(connection) as statements:
        write()
    assert_read(statements, 10_000)


def test_statuses_of_a_job_that_never_ran_are_withdrawn(
    connection: Connection, years: Years
) -> None:
    job = job_at_work(connection, years)
    accounts.write_rest_of_scope(
        connection,
        job_id=job.job_id,
        score_set_id=years.small_id,
        annotation_type=GNOMAD,
        version="v4.1",
        reason=Reason.STEP_CANCELLED,
        addition="by hand",
    )
    with explained(connection) as statements:
        accounts.withdraw_rest_of_scope(connection, job.job_id)
    assert_read(statements, 10_000, "ix_variant_annotation_status_job_run_id")


def test_a_run_is_settled(connection: Connection, years: Years) -> None:
    state = State(id=uuid4(), type="RUNNING", name="Running", timestamp=datetime.now(UTC))
    listed = ListedRun(Run(years.running.flow_run_id, RunKind.FLOW, "flow"), state, run_count=1)
    with explained(connection) as statements:
        settling.settle(connection, listed, [History(listed, [state])])
        settling.settle_forgotten(connection, [years.running.flow_run_id])
    assert_read(statements, 200, "prefect_runs_pkey")


def test_runs_are_compared_with_what_prefect_lists(
    years: Years, use_database: Callable[[str], None]
) -> None:
    use_database(years.url)
    state = State(id=uuid4(), type="RUNNING", name="Running", timestamp=datetime.now(UTC))
    listed = ListedRun(Run(years.running.flow_run_id, RunKind.FLOW, "flow"), state, run_count=1)
    with explained(engine()) as statements:
        assert settling.to_ask([listed]) == [listed]
    assert_read(statements, 50, "prefect_runs_pkey")


def test_the_mirror_records_what_others_have_recorded(
    years: Years, use_database: Callable[[str], None]
) -> None:
    """It knows by the run whether a state is ours. So it changes nothing."""
    use_database(years.url)
    with engine().connect() as connection:
        state = task_state(connection, years, "RUNNING")
        known = connection.execute(
            text("SELECT state_id FROM prefect_runs WHERE run_id = :id"), {"id": state.run.run_id}
        ).scalar_one()
    sighting = Sighting(replace(state, state_id=known), is_ours=None)
    with explained(engine()) as statements:
        assert record_sightings([sighting], move_checkpoint=True) == []
    assert_read(statements, 50, "prefect_runs_pkey")


def test_the_dispatcher_takes_what_waits(years: Years, use_database: Callable[[str], None]) -> None:
    use_database(years.url)
    with engine().begin() as connection:
        request_pipeline(connection, "refresh_materialized_views", {}, None, None)
    without_prefect = {PREFECT_API_URL: NO_PREFECT, PREFECT_CLIENT_MAX_RETRIES: 0}
    with (
        temporary_settings(without_prefect),
        get_client(sync_client=True) as client,
        explained(engine()) as statements,
    ):
        assert dispatch_next(client)
    assert_read(statements, 50, "ix_pipeline_requests_next_dispatch_at")


def test_a_second_scrape_reads_what_is_new(
    years: Years, use_database: Callable[[str], None]
) -> None:
    use_database(years.url)
    metrics = Exposition(kept_seconds=0)
    metrics.text()
    with explained(engine()) as statements:
        metrics.text()
    assert_read(statements, 20_000, "job_attempts_pkey", "job_metrics_pkey")


def test_what_is_old_enough_to_be_forgotten_is_found(
    years: Years, use_database: Callable[[str], None]
) -> None:
    """Nothing is. Of MaveDB's own table the superseded statuses are read, a tenth of all."""
    use_database(years.url)
    with explained(engine()) as statements:
        assert prune.prune(actor="a test", tracebacks=True) == []
    assert_read(
        statements,
        300_000,
        "ix_prefect_runs_unpruned",
        "ix_variant_annotation_status_current",
        "ix_job_attempts_with_traceback",
    )
