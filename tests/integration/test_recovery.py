"""Processes that die, and what recovery makes of it: in the audit, in the account, in Prefect."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Row

from deployments.local import processes
from deployments.local.stack import Stack
from mavedb_audit.histories import prefect_client
from mavedb_audit.recovery import recover_once
from mavedb_audit.settings import settings
from tests.support import MaveDB, Submitted, brca1, wait_until
from tests.support_processes import (
    attempts,
    drop_locks,
    kill,
    pid_of,
    recovering,
    restart_postgres,
    running_attempt,
    stopped,
    wait_for_end,
)

CREATE, MAP, REGISTER, LINK = STEPS = [
    "create_variants_for_score_set",
    "map_variants_for_score_set",
    "submit_score_set_mappings_to_car",
    "link_gnomad_variants",
]


@pytest.fixture
def _two_recoveries(stack: Stack) -> Iterator[None]:  # noqa: ARG001 - they need its settings
    """The stack's own, and one more."""
    with recovering():
        yield


@pytest.fixture
def _no_patience(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001
    """In this process everything that may stall counts as stalled at once."""
    for name in ("QUEUED", "RUNNING", "PENDING", "GRACE", "RESTART_GRACE", "CRASH"):
        monkeypatch.setenv(f"RECOVERY_{name}_SECONDS", "0")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def actions(mavedb: MaveDB, submitted: Submitted) -> list[str]:
    """What recovery did to the pipeline."""
    rows = mavedb.rows(
        """
        SELECT action, reason FROM operator_actions
         WHERE pipeline_id = :id AND actor = 'recovery' ORDER BY id
        """,
        id=submitted.pipeline_id,
    )
    assert all(row.reason for row in rows)
    return [row.action for row in rows]


def assert_nothing_is_left_open(mavedb: MaveDB, submitted: Submitted) -> None:
    """In the audit, and in Prefect."""
    assert all(
        job.status in ("succeeded", "failed", "skipped", "cancelled")
        for job in mavedb.jobs(submitted).values()
    )
    assert not mavedb.rows(
        """
        SELECT attempt.id FROM job_attempts AS attempt JOIN planned_jobs USING (job_id)
         WHERE pipeline_id = :id AND outcome IS NULL
        """,
        id=submitted.pipeline_id,
    )
    wait_until(lambda: not [r for r in mavedb.task_runs(submitted) if r["state_type"] == "RUNNING"])


def wait_until_tried_again(mavedb: MaveDB, submitted: Submitted) -> None:
    wait_until(lambda: actions(mavedb, submitted))


@pytest.mark.usefixtures("_two_recoveries")
def test_a_killed_worker_with_its_flow_process_is_noticed_by_the_lock(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=8, times=1):
        submitted = mavedb.submit(*brca1(20))
        attempt = running_attempt(mavedb, submitted, MAP)
        kill(pid_of(mavedb, "worker"))
        kill(attempt.process_id)
        wait_until_tried_again(mavedb, submitted)
        assert mavedb.flow_run(submitted)["state_name"] == "AwaitingRetry"
        assert [run["state_type"] for run in mavedb.task_runs(submitted) if run["name"] == MAP] == [
            "CRASHED"
        ]
        processes.restart(mavedb.stack.state, "worker")
    assert mavedb.wait_for(submitted) == "succeeded"
    assert actions(mavedb, submitted) == ["recover"]
    assert [a.outcome for a in attempts(mavedb, submitted, MAP)] == ["failed", "succeeded"]
    assert_nothing_is_left_open(mavedb, submitted)


@pytest.mark.usefixtures("_two_recoveries")
def test_a_job_without_retries_left_fails_and_every_variant_says_so(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=8, times=1):
        submitted = mavedb.submit(*brca1(20))
        attempt = running_attempt(mavedb, submitted, MAP)
        mavedb.execute("UPDATE job_runs SET max_retries = 0 WHERE id = :id", id=attempt.job_id)
        kill(attempt.process_id)
        assert mavedb.wait_for(submitted) == "failed"
    jobs = mavedb.jobs(submitted)
    assert [jobs[key].status for key in STEPS] == ["succeeded", "failed", "skipped", "skipped"]
    assert jobs[MAP].failure_category == "system_error"
    assert "The process ended while it ran" in jobs[MAP].error_message
    assert actions(mavedb, submitted) == ["give up"]
    assert [a.outcome for a in attempts(mavedb, submitted, MAP)] == ["failed"]
    assert mavedb.flow_run(submitted)["state_type"] == "CRASHED"
    assert_nothing_is_left_open(mavedb, submitted)
    mavedb.assert_every_variant_is_accounted_for(submitted)
    account = mavedb.account(submitted)
    assert account["vrs_mapping", "failed", "step_failed"] == 20
    assert account["clingen_allele_id", "skipped", "dependency_failure"] == 20


@pytest.mark.usefixtures("_two_recoveries")
def test_a_process_that_wakes_up_after_its_attempt_was_given_away_writes_nothing(
    mavedb: MaveDB,
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=6, times=2):
        submitted = mavedb.submit(*brca1(20))
        zombie = running_attempt(mavedb, submitted, MAP)
        with stopped(zombie.process_id):
            drop_locks(mavedb)
            wait_until_tried_again(mavedb, submitted)
            running_attempt(mavedb, submitted, MAP)
        wait_for_end(zombie.process_id)
        assert pipeline_status(mavedb, submitted) in ("running", "succeeded")
        assert mavedb.wait_for(submitted) == "succeeded"
    assert [a.outcome for a in attempts(mavedb, submitted, MAP)] == ["failed", "succeeded"]
    assert all(len(attempts(mavedb, submitted, key)) == 1 for key in (CREATE, REGISTER, LINK))
    assert mavedb.flow_run(submitted)["state_type"] == "COMPLETED"
    assert_nothing_is_left_open(mavedb, submitted)
    mavedb.assert_every_variant_is_accounted_for(submitted)


@pytest.mark.usefixtures("_two_recoveries")
def test_a_step_that_had_committed_is_not_run_again_though_prefect_never_heard_of_it(
    mavedb: MaveDB,
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=4, times=1):
        submitted = mavedb.submit(*brca1(20))
        attempt = running_attempt(mavedb, submitted, MAP)
        with (
            mavedb.fault(mavedb.stack.clingen_url, "slow", seconds=8, times=1),
            stopped(pid_of(mavedb, "prefect")),
        ):
            wait_until(lambda: mavedb.jobs(submitted)[MAP].status == "succeeded")
            kill(attempt.process_id)
    assert mavedb.wait_for(submitted) == "succeeded"
    assert [a.outcome for a in attempts(mavedb, submitted, MAP)] == ["succeeded"]
    urn = submitted.score_set_urn.replace(":", "%3A")
    asked = httpx.get(f"{mavedb.stack.mapper_url}/simulator/requests").json()
    assert len([r for r in asked if urn in r["path"] or submitted.score_set_urn in r["path"]]) == 1
    assert_nothing_is_left_open(mavedb, submitted)
    assert {run["state_type"] for run in mavedb.task_runs(submitted) if run["name"] == MAP} == {
        "COMPLETED"
    }


@pytest.mark.usefixtures("_two_recoveries")
def test_a_restart_of_postgresql_under_a_running_flow_loses_nothing(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=10, times=1):
        submitted = mavedb.submit(*brca1(20))
        running_attempt(mavedb, submitted, MAP)
        restart_postgres(mavedb)
        assert mavedb.wait_for(submitted) == "succeeded"
    assert_nothing_is_left_open(mavedb, submitted)
    mavedb.assert_every_variant_is_accounted_for(submitted)


@pytest.mark.usefixtures("_two_recoveries")
def test_what_a_dead_process_still_says_of_its_task_does_not_end_the_job(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=3, times=1):
        submitted = mavedb.submit(*brca1(20))
        zombie = running_attempt(mavedb, submitted, MAP)
        with stopped(pid_of(mavedb, "worker")):
            with stopped(zombie.process_id):
                drop_locks(mavedb)
                wait_until_tried_again(mavedb, submitted)
            wait_for_end(zombie.process_id)
            wait_until(lambda: ("CANCELLED",) in recorded_states(mavedb, zombie))
            assert mavedb.jobs(submitted)[MAP].status == "queued"
    assert mavedb.wait_for(submitted) == "succeeded"
    assert [a.outcome for a in attempts(mavedb, submitted, MAP)] == ["failed", "succeeded"]
    assert_nothing_is_left_open(mavedb, submitted)


def recorded_states(mavedb: MaveDB, attempt: Row[Any]) -> list[Row[Any]]:
    return mavedb.rows(
        "SELECT type FROM prefect_transitions WHERE run_id = :id", id=attempt.task_run_id
    )


@pytest.mark.usefixtures("_no_patience")
def test_a_flow_run_that_was_deleted_in_prefect_is_dispatched_again(mavedb: MaveDB) -> None:
    with stopped(pid_of(mavedb, "worker")):
        submitted = mavedb.submit(*brca1(20))
        deleted = dispatched_flow_run(mavedb, submitted)
        httpx.delete(f"{mavedb.stack.prefect_api_url}/flow_runs/{deleted}").raise_for_status()
        recover()
        assert actions(mavedb, submitted) == ["dispatch again"]
        assert dispatched_flow_run(mavedb, submitted) != deleted
    wait_until(lambda: pipeline_status(mavedb, submitted) == "succeeded")


@pytest.mark.usefixtures("_no_patience")
def test_a_flow_run_that_workers_take_and_never_begin_is_given_up(mavedb: MaveDB) -> None:
    taken = {"state": {"type": "PENDING", "name": "Submitting"}, "force": True}
    with stopped(pid_of(mavedb, "worker")):
        submitted = mavedb.submit(*brca1(20))
        flow_run_id = dispatched_flow_run(mavedb, submitted)
        for nth in range(1, 5):
            mavedb.prefect("POST", f"flow_runs/{flow_run_id}/set_state", taken)
            wait_until(lambda nth=nth: recover() or len(actions(mavedb, submitted)) == nth)
    assert actions(mavedb, submitted) == [*["recover"] * 3, "give up"]
    assert pipeline_status(mavedb, submitted) == "failed"
    jobs = mavedb.jobs(submitted)
    assert [jobs[key].status for key in STEPS] == ["failed", "skipped", "skipped", "skipped"]
    assert jobs[CREATE].failure_category == "system_error"
    assert mavedb.flow_run(submitted)["state_type"] == "CRASHED"


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize("believed", ["RUNNING", "CRASHED"])
def test_a_flow_that_died_after_its_last_step_is_complete_in_prefect_too(
    mavedb: MaveDB, believed: str
) -> None:
    submitted = mavedb.submit(*brca1(20))
    assert mavedb.wait_for(submitted) == "succeeded"
    flow_run_id = mavedb.flow_run(submitted)["id"]
    # The process died before it could report the end.
    state = {"state": {"type": believed}, "force": True}
    mavedb.prefect("POST", f"flow_runs/{flow_run_id}/set_state", state)
    wait_until(lambda: newest_state(mavedb, flow_run_id) == believed)
    make_older(mavedb, flow_run_id)
    recover()
    assert mavedb.flow_run(submitted)["state_type"] == "COMPLETED"
    assert newest_state(mavedb, flow_run_id) == "COMPLETED"
    assert pipeline_status(mavedb, submitted) == "succeeded"
    assert actions(mavedb, submitted) == []


def newest_state(mavedb: MaveDB, run_id: str) -> str | None:
    state_type: str | None = mavedb.value(
        "SELECT state_type FROM prefect_runs WHERE run_id = :id", id=run_id
    )
    return state_type


def make_older(mavedb: MaveDB, flow_run_id: str) -> None:
    """Let the flow run's newest state, and the end of its pipeline, be of a minute ago."""
    mavedb.execute(
        """
        UPDATE prefect_runs SET state_timestamp = state_timestamp - interval '1 minute'
         WHERE run_id = :id
        """,
        id=flow_run_id,
    )
    mavedb.execute(
        """
        UPDATE pipelines SET finished_at = finished_at - interval '1 minute'
         WHERE id = (SELECT pipeline_id FROM prefect_runs WHERE run_id = :id)
        """,
        id=flow_run_id,
    )


@pytest.mark.usefixtures("_no_patience")
def test_a_cancellation_that_no_worker_is_left_to_finish_is_finished(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=30, times=1):
        submitted = mavedb.submit(*brca1(20))
        attempt = running_attempt(mavedb, submitted, MAP)
        kill(pid_of(mavedb, "worker"))
        flow_run_id = mavedb.flow_run(submitted)["id"]
        cancelling = {"state": {"type": "CANCELLING"}, "force": True}
        mavedb.prefect("POST", f"flow_runs/{flow_run_id}/set_state", cancelling)
        kill(attempt.process_id)
    wait_until(lambda: pipeline_status(mavedb, submitted) == "cancelled")
    make_older(mavedb, flow_run_id)
    recover()
    processes.restart(mavedb.stack.state, "worker")
    assert mavedb.flow_run(submitted)["state_type"] == "CANCELLED"
    assert actions(mavedb, submitted) == []
    mavedb.assert_every_variant_is_accounted_for(submitted)


@pytest.mark.usefixtures("_no_patience")
def test_a_task_run_that_prefect_heard_of_after_its_flows_end_is_ended(mavedb: MaveDB) -> None:
    submitted = mavedb.submit(*brca1(20))
    mavedb.wait_for(submitted)
    flow_run_id = mavedb.flow_run(submitted)["id"]
    late = {
        "flow_run_id": flow_run_id,
        "name": MAP,
        "task_key": MAP,
        "dynamic_key": "late",
        "state": {"type": "RUNNING"},
    }
    task_run_id = mavedb.prefect("POST", "task_runs/", late)["id"]
    mavedb.execute(
        """
        INSERT INTO prefect_runs (run_id, kind, flow_run_id, name, state_type, state_name,
                                  state_timestamp)
        VALUES (:id, 'task', :flow_run_id, :name, 'RUNNING', 'Running', now() - interval '1 hour')
        ON CONFLICT (run_id) DO UPDATE SET state_timestamp = excluded.state_timestamp
        """,
        id=task_run_id,
        flow_run_id=flow_run_id,
        name=MAP,
    )
    mavedb.execute(
        """
        UPDATE prefect_transitions SET timestamp = timestamp - interval '2 minutes'
         WHERE run_id = :id AND type = 'COMPLETED'
        """,
        id=flow_run_id,
    )
    recover()
    assert mavedb.prefect("GET", f"task_runs/{task_run_id}")["state_type"] == "CRASHED"
    assert pipeline_status(mavedb, submitted) == "succeeded"


def recover() -> None:
    with prefect_client() as client:
        recover_once(client)


def dispatched_flow_run(mavedb: MaveDB, submitted: Submitted) -> Any:
    """The flow run that the dispatcher made of the pipeline's request."""

    def flow_run_id() -> Any:
        return mavedb.value(
            "SELECT flow_run_id FROM pipeline_requests WHERE pipeline_id = :id",
            id=submitted.pipeline_id,
        )

    return wait_until(flow_run_id)


def pipeline_status(mavedb: MaveDB, submitted: Submitted) -> str:
    status: str = mavedb.value(
        "SELECT status FROM pipelines WHERE id = :id", id=submitted.pipeline_id
    )
    return status
