"""What broke MaveDB's earlier job system, and what happens here instead.

Each event was observed on that system; under it stands the test that shows the right behaviour
through real processes, here or in the file that is named.

a job is looked at while it runs: no progress was seen
    test_known_defects.py: test_02_progress_is_seen_while_a_step_runs
the worker is killed: running for ever, or "cannot start"
    test_recovery.py: test_a_killed_worker_with_its_flow_process_is_noticed_by_the_lock
the worker is told to end, by a deploy: the same
    test_a_deploy_and_a_lost_queue_leave_nothing_behind
a job runs into its time-out: running for ever
    test_a_step_that_times_out_half_way_accounts_for_all_and_runs_again_when_told
the database restarts or is away: running for ever, or failed and not tried again
    test_an_outage_of_the_database_costs_no_pipeline_anything_but_time,
    test_recovery.py: test_a_restart_of_postgresql_under_a_running_flow_loses_nothing
the queue is lost: queued for ever
    test_a_deploy_and_a_lost_queue_leave_nothing_behind,
    test_recovery.py: test_a_flow_run_that_was_deleted_in_prefect_is_dispatched_again
a running job is cancelled: the call blocks, the job runs on, and ends as succeeded
    test_operations.py: test_a_cancelled_pipeline_says_so_in_every_row_whoever_cancels_it
a retry within the hour: queued for ever
    test_a_step_that_times_out_half_way_accounts_for_all_and_runs_again_when_told,
    test_operations.py: test_retry_failed_runs_what_failed_and_what_it_held_up
a failure that passes: not tried again, of an unknown category
    test_known_defects.py: test_01_a_failure_has_its_category_and_what_may_pass_is_tried_again
a failure half-way: no variant has a status
    test_a_step_that_times_out_half_way_accounts_for_all_and_runs_again_when_told
some variants unmapped, some without ClinGen id: they have no row
    test_a_step_that_times_out_half_way_accounts_for_all_and_runs_again_when_told,
    test_known_defects.py: test_18_every_variant_has_its_statuses_whatever_became_of_the_job
ClinGen answers 503: variants skipped as not found, without a category, and the job succeeded
    test_main_job.py: test_a_service_that_stays_down_fails_its_step_and_every_variant_says_so
a failure that is returned, not raised: its traceback is "NoneType: None"
    test_known_defects.py: test_11_a_failure_that_is_returned_has_a_traceback
one request sent twice: it ran once, as it should
    test_trigger.py: test_a_request_that_was_sent_but_not_noted_makes_no_second_flow_run
one job started by two processes at once: its body ran twice
    test_a_pipeline_started_twice_at_once_runs_each_step_once_and_holds_up_no_other
two jobs, or two writers, on one score set: two current statuses, double result rows
    test_main_job.py: test_two_pipelines_on_one_score_set_do_not_run_a_step_at_once,
    test_accounts.py: test_two_writers_at_once_leave_one_current_row
a small job beside a long one: waits for its end
    test_a_pipeline_started_twice_at_once_runs_each_step_once_and_holds_up_no_other
a score set is uploaded again: the history of its variants is deleted
    test_known_defects.py: test_12_a_new_upload_replaces_linked_variants_and_their_end_is_kept
"""

import time
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest

from deployments.local import processes
from deployments.local.stack import Stack
from mavedb_audit.histories import prefect_client
from mavedb_audit.reconcile import reconcile
from mavedb_audit.settings import settings
from mavedb_audit.verify import Verification, verify
from tests.support import FINAL, MaveDB, Submitted, brca1, wait_until
from tests.support_mapper import answer_of_the_mapper
from tests.support_processes import (
    attempts,
    kill,
    pid_of,
    restart_postgres,
    running_attempt,
    stop_postgres,
    stopped,
    terminate,
)

CREATE, MAP, REGISTER, LINK = STEPS = [
    "create_variants_for_score_set",
    "map_variants_for_score_set",
    "submit_score_set_mappings_to_car",
    "link_gnomad_variants",
]
#: What `prefect flow-run retry` and the retry button of Prefect's UI send.
RETRY = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
#: Long enough for all that is asked meanwhile; Prefect's worker here gives up after 22 seconds.
OUTAGE_SECONDS = 8.0


@pytest.fixture
def _states_are_judged_at_once(
    stack: Stack,  # noqa: ARG001 - the settings are its own
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    monkeypatch.setenv("RECONCILE_GRACE_SECONDS", "0")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def outcomes(mavedb: MaveDB, submitted: Submitted, job_key: str) -> list[str | None]:
    return [attempt.outcome for attempt in attempts(mavedb, submitted, job_key)]


def assert_no_row_is_double(mavedb: MaveDB, submitted: Submitted) -> None:
    """Every variant has one current status of each type, and at most one current result."""
    mavedb.assert_every_variant_is_accounted_for(submitted)
    doubles = mavedb.rows(
        """
        SELECT 'mapping of ' || variants.urn FROM variants
          JOIN mapped_variants AS mapped ON mapped.variant_id = variants.id AND mapped.current
         WHERE scoreset_id = :id GROUP BY variants.urn HAVING count(*) > 1
        UNION ALL
        SELECT 'gnomAD record ' || db_identifier FROM gnomad_variants
         GROUP BY db_name, db_identifier, db_version HAVING count(*) > 1
        """,
        id=submitted.score_set_id,
    )
    assert doubles == []


def test_a_deploy_and_a_lost_queue_leave_nothing_behind(mavedb: MaveDB) -> None:
    """The worker is told to end; cache and Prefect server die while another pipeline is queued."""
    state = mavedb.stack.state
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=30, times=1):
        running = mavedb.submit(*brca1(20))
        running_attempt(mavedb, running, MAP)
        terminate(pid_of(mavedb, "worker"))
        queued = mavedb.submit(*brca1(20))
        wait_until(lambda: mavedb.dispatched_flow_run(queued))
        for part in ("valkey", "prefect"):
            kill(pid_of(mavedb, part))
        for part in ("valkey", "prefect"):
            processes.restart(state, part)
        wait_until(lambda: prefect_answers(mavedb))
        processes.restart(state, "worker")
        assert mavedb.wait_for(running) == "succeeded"
    assert mavedb.wait_for(queued) == "succeeded"
    assert outcomes(mavedb, running, CREATE) == ["succeeded"]
    assert outcomes(mavedb, running, MAP) == ["failed", "succeeded"]
    for submitted in (running, queued):
        assert {job.status for job in mavedb.jobs(submitted).values()} == {"succeeded"}
        assert_no_row_is_double(mavedb, submitted)


def prefect_answers(mavedb: MaveDB) -> bool:
    try:
        return httpx.get(f"{mavedb.stack.prefect_api_url}/health").is_success
    except httpx.TransportError:
        return False


def test_a_step_that_times_out_half_way_accounts_for_all_and_runs_again_when_told(
    mavedb: MaveDB,
) -> None:
    with (
        mavedb.fault(mavedb.stack.mapper_url, "drop_variants", times=1),
        mavedb.fault(mavedb.stack.clingen_url, "status", status=403),
    ):
        uploaded = mavedb.submit(*brca1(30, seed=26))
        assert mavedb.wait_for(uploaded) == "failed"
    hasty = {
        "CAR_SUBMISSION_BATCH_SIZE": "5",
        "CLINGEN_READ_TIMEOUT_SECONDS": "3",
        "STEP_RETRY_DELAYS_SECONDS": "[]",
    }
    httpx.delete(f"{mavedb.stack.clingen_url}/simulator/requests").raise_for_status()
    with (
        mavedb.fault(mavedb.stack.clingen_url, "slow", seconds=0.1, times=1),
        mavedb.fault(mavedb.stack.clingen_url, "slow", seconds=10, times=1),
    ):
        annotated = mavedb.run_in_prefect("annotate_score_set", uploaded, env=hasty)
        assert mavedb.wait_for(annotated) == "failed"
    assert len(httpx.get(f"{mavedb.stack.clingen_url}/simulator/requests").json()) == 2
    jobs = mavedb.jobs(annotated)
    assert (jobs[REGISTER].status, jobs[REGISTER].failure_category) == ("failed", "timeout")
    assert jobs[LINK].status == "skipped"
    account = mavedb.account(annotated)
    assert account["clingen_allele_id", "failed", "step_failed"] == 30
    assert account["gnomad_allele_frequency", "skipped", "dependency_failure"] == 30
    mavedb.assert_every_variant_is_accounted_for(annotated)

    mavedb.prefect("POST", f"flow_runs/{mavedb.flow_run(annotated)['id']}/set_state", RETRY)
    wait_until(lambda: mavedb.jobs(annotated)[LINK].status == "succeeded")
    assert mavedb.wait_for(annotated) == "succeeded"
    first, second = attempts(mavedb, annotated, REGISTER)
    assert (first.outcome, first.failure_category) == ("failed", "timeout")
    assert "in time" in first.error_message
    assert second.outcome == "succeeded"
    mavedb.assert_every_variant_is_accounted_for(annotated)
    account = mavedb.account(annotated)
    assert account["vrs_mapping", "failed", "not_returned_by_mapper"] == 10
    assert account["clingen_allele_id", "skipped", "not_mapped"] == 10
    rejected = account["clingen_allele_id", "failed", "rejected_by_clingen"]
    assert rejected > 0
    without_id = account["gnomad_allele_frequency", "skipped", "missing_clingen_allele_id"]
    assert without_id == 10 + rejected


def test_a_pipeline_started_twice_at_once_runs_each_step_once_and_holds_up_no_other(
    mavedb: MaveDB,
) -> None:
    with stopped(pid_of(mavedb, "simulators")):
        long = mavedb.submit(*brca1(20))
        again = mavedb.create_flow_run(
            "validate_map_annotate_score_set", {"pipeline_urn": long.pipeline_urn}
        )
        wait_until_it_waits_for_another_run(mavedb, long)
        small = mavedb.request("publish_score_set", long)
        assert mavedb.wait_for(small) == "succeeded"
        assert outcomes(mavedb, long, MAP) == [None]
    assert mavedb.wait_for(long) == "succeeded"
    for flow_run_id in (mavedb.dispatched_flow_run(long), again):
        assert end_of(mavedb, flow_run_id) == "COMPLETED"
    assert [outcomes(mavedb, long, key) for key in STEPS] == [["succeeded"]] * 4
    asked = httpx.get(f"{mavedb.stack.mapper_url}/simulator/requests").json()
    assert len([each for each in asked if long.score_set_urn in each["path"]]) == 1
    assert_no_row_is_double(mavedb, long)


def end_of(mavedb: MaveDB, flow_run_id: UUID | None) -> str:
    def final_state() -> str | None:
        state_type: str = mavedb.prefect("GET", f"flow_runs/{flow_run_id}")["state_type"]
        return state_type if state_type in FINAL else None

    state_type: str = wait_until(final_state)
    return state_type


def wait_until_it_waits_for_another_run(mavedb: MaveDB, submitted: Submitted) -> None:
    wait_until(
        lambda: "another run of this step" in str(mavedb.jobs(submitted)[MAP].progress_message)
    )


@pytest.mark.usefixtures("_states_are_judged_at_once")
def test_an_outage_of_the_database_costs_no_pipeline_anything_but_time(mavedb: MaveDB) -> None:
    """Meanwhile the step of one ends, that of one fails, and that of one waits to begin."""
    began = mavedb.value("SELECT clock_timestamp()")
    with stopped(pid_of(mavedb, "simulators")):
        ending, failing = (mavedb.submit(*brca1(20)) for _ in range(2))
        for submitted in (ending, failing):
            running_attempt(mavedb, submitted, MAP)
        waiting = mavedb.request("map_annotate_score_set", ending)
        wait_until_it_waits_for_another_run(mavedb, waiting)
        prepare_answer(mavedb, ending)
        stop_postgres(mavedb)
    time.sleep(OUTAGE_SECONDS)
    restart_postgres(mavedb)
    everyone = (ending, waiting, failing)
    assert [mavedb.wait_for(each) for each in everyone] == ["succeeded"] * 3
    (in_step,), (in_wait,), (first, second) = (attempts(mavedb, each, MAP) for each in everyone)
    assert [(a.outcome, a.run_count) for a in (in_step, in_wait)] == [("succeeded", 1)] * 2
    assert in_wait.started_at >= in_step.finished_at
    assert [(a.outcome, a.run_count) for a in (first, second)] == [("failed", 1), ("succeeded", 2)]
    assert "Unable to acquire resource" in first.error_message
    for submitted in everyone:
        assert_no_row_is_double(mavedb, submitted)
    by_recovery = "SELECT action, reason FROM operator_actions WHERE pipeline_id = ANY (:ids)"
    assert mavedb.rows(by_recovery, ids=[each.pipeline_id for each in everyone]) == []

    with prefect_client() as client:

        def agreeing() -> Verification | None:
            reconcile(client, since=began)
            found = verify(client, since=began)
            return None if found.differences or found.unanswered else found

        found = wait_until(agreeing)
    assert found.states_in_prefect > 0
    assert found.broken == []


def prepare_answer(mavedb: MaveDB, submitted: Submitted) -> None:
    """Let the simulated mapper answer for this score set even without a database."""
    file = mavedb.stack.mapper_answers / f"{submitted.score_set_urn.replace(':', '_')}.json"
    file.write_bytes(answer_of_the_mapper(mavedb, submitted.score_set_urn))
