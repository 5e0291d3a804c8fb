"""What operators do to pipelines: by our verbs, by Prefect's command, by Prefect's HTTP API."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from sqlalchemy import text

from deployments.local.stack import Stack
from mavedb_audit import operations
from mavedb_audit.errors import PrefectUnreachableError, RequestError
from mavedb_audit.locks import IS_HELD, flow_lock_key
from mavedb_audit.recorder.resetting import Selection, reset_jobs
from mavedb_audit.trigger import request_pipeline
from tests.support import (
    FINAL,
    MaveDB,
    Submitted,
    brca1,
    no_worker_takes_runs,
    wait_until,
)

CREATE = "create_variants_for_score_set"
MAP = "map_variants_for_score_set"
CAR = "submit_score_set_mappings_to_car"
GNOMAD = "link_gnomad_variants"
STEPS = [CREATE, MAP, CAR, GNOMAD]
ALICE = {"actor": "alice", "reason": "wrong file"}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - the server it asks
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def annotated(mavedb: MaveDB) -> Submitted:
    """A score set whose variants are mapped and annotated."""
    submitted = mavedb.submit(*brca1(20))
    assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def prefect_command(mavedb: MaveDB, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=mavedb.stack.state,
    )
    return done.stdout


def lives(mavedb: MaveDB, submitted: Submitted) -> bool:
    """Whether there is a process of the pipeline's flow run."""
    key = flow_lock_key(UUID(mavedb.flow_run(submitted)["id"]))
    held: bool = mavedb.value(f"SELECT {IS_HELD.format(key=':key')}", key=key)
    return held


def wait_until_it_maps(mavedb: MaveDB, submitted: Submitted) -> None:
    wait_until(
        lambda: "Waiting for the mapper" in (mavedb.jobs(submitted)[MAP].progress_message or "")
    )


def attempts(mavedb: MaveDB, submitted: Submitted) -> dict[str, list[str]]:
    """The outcomes of the attempts of each job of STEPS, in their order."""
    rows = mavedb.rows(
        """
        SELECT job_function, attempt, outcome FROM job_attempts
          JOIN job_runs AS job ON job.id = job_id
         WHERE pipeline_id = :id AND job_function = ANY (:steps) ORDER BY attempt
        """,
        id=submitted.pipeline_id,
        steps=STEPS,
    )
    outcomes: dict[str, list[str]] = {}
    for row in rows:
        outcomes.setdefault(row.job_function, []).append(row.outcome)
        assert row.attempt == len(outcomes[row.job_function])
    return outcomes


def actions(mavedb: MaveDB, submitted: Submitted) -> list[tuple[str, str, str | None]]:
    rows = mavedb.rows(
        "SELECT action, actor, reason FROM operator_actions WHERE pipeline_id = :id ORDER BY id",
        id=submitted.pipeline_id,
    )
    return [(row.action, row.actor, row.reason) for row in rows]


def status(mavedb: MaveDB, submitted: Submitted) -> str:
    return str(
        mavedb.value("SELECT status FROM pipelines WHERE id = :id", id=submitted.pipeline_id)
    )


def request_without_dispatch(mavedb: MaveDB, annotated: Submitted) -> Submitted:
    """Ask for annotate_score_set, so that no dispatcher takes it for an hour."""
    with mavedb.engine.begin() as connection:
        planned = request_pipeline(
            connection,
            "annotate_score_set",
            {"score_set_id": annotated.score_set_id, "updater_id": annotated.user_id},
            annotated.user_id,
            uuid4().hex,
        )
        connection.execute(
            text(
                "UPDATE pipeline_requests SET next_dispatch_at = now() + interval '1 hour'"
                " WHERE pipeline_id = :id"
            ),
            {"id": planned.pipeline_id},
        )
    return Submitted(
        annotated.score_set_id,
        annotated.score_set_urn,
        annotated.user_id,
        planned.pipeline_id,
        planned.pipeline_urn,
    )


def test_a_cancelled_pipeline_says_so_in_every_row_whoever_cancels_it(
    mavedb: MaveDB, client: SyncPrefectClient
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=60):
        by_verb, by_command, by_http = (mavedb.submit(*brca1(20)) for _ in range(3))
        for submitted in (by_verb, by_command, by_http):
            wait_until_it_maps(mavedb, submitted)
        assert operations.cancel(client, by_verb.pipeline_urn, **ALICE) == "cancelled"
        job = mavedb.jobs(by_verb)[MAP]  # at once, before Prefect has ended anything
        assert (job.status, job.error_message) == (
            "cancelled",
            "The flow run was cancelled: by alice: wrong file",
        )
        mavedb.assert_every_variant_is_accounted_for(by_verb)
        prefect_command(mavedb, "flow-run", "cancel", mavedb.flow_run(by_command)["id"])
        path = f"flow_runs/{mavedb.flow_run(by_http)['id']}/set_state"
        mavedb.prefect("POST", path, {"state": {"type": "CANCELLING"}})
        begun = time.monotonic()
        for submitted in (by_verb, by_command, by_http):
            assert mavedb.wait_for(submitted) == "cancelled"
        assert time.monotonic() - begun < 30  # Prefect alone needs more than 30 seconds
    for submitted in (by_verb, by_command, by_http):
        jobs = mavedb.jobs(submitted)
        assert [jobs[key].status for key in STEPS] == ["succeeded", *["cancelled"] * 3]
        assert {jobs[key].failure_category for key in STEPS[1:]} == {"cancelled"}
        assert attempts(mavedb, submitted) == {CREATE: ["succeeded"], MAP: ["cancelled"]}
        assert mavedb.flow_run(submitted)["state_type"] == "CANCELLED"
        mavedb.assert_every_variant_is_accounted_for(submitted)
        assert {ending[1:] for ending in mavedb.account(submitted)} == {
            ("skipped", "step_cancelled")
        }
    with pytest.raises(RequestError, match=r"is cancelled\. Only what has not ended"):
        operations.cancel(client, by_verb.pipeline_urn, **ALICE)
    assert actions(mavedb, by_verb) == [("cancel", "alice", "wrong file")]


def test_a_request_that_no_dispatcher_has_taken_is_withdrawn_and_can_be_restarted(
    mavedb: MaveDB, client: SyncPrefectClient, annotated: Submitted
) -> None:
    submitted = request_without_dispatch(mavedb, annotated)
    operations.cancel(client, submitted.pipeline_urn, **ALICE)
    assert {job.status for job in mavedb.jobs(submitted).values()} == {"cancelled"}
    requests = "SELECT count(*) FROM pipeline_requests WHERE pipeline_id = :id"
    assert mavedb.value(requests, id=submitted.pipeline_id) == 0
    assert operations.restart(client, submitted.pipeline_urn, **ALICE) == "created"
    assert mavedb.wait_for(submitted) == "succeeded"
    assert attempts(mavedb, submitted) == {CAR: ["succeeded"], GNOMAD: ["succeeded"]}


def test_a_paused_pipeline_ends_its_step_and_holds_no_worker_until_it_is_resumed(
    mavedb: MaveDB, client: SyncPrefectClient
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=5):
        ours, prefects = (mavedb.submit(*brca1(20)) for _ in range(2))
        for submitted in (ours, prefects):
            wait_until_it_maps(mavedb, submitted)
            assert operations.pause(client, submitted.pipeline_urn, **ALICE) == "paused"
        for submitted in (ours, prefects):
            wait_until(
                lambda: mavedb.flow_run(submitted)["state_name"] == "Suspended"  # noqa: B023
            )
    wait_until(lambda: not lives(mavedb, ours) and not lives(mavedb, prefects))
    jobs = mavedb.jobs(ours)
    assert [jobs[key].status for key in STEPS] == ["succeeded", "succeeded", "pending", "pending"]
    assert status(mavedb, ours) == "paused"
    assert {run["name"] for run in mavedb.task_runs(ours)} == {CREATE, MAP}
    operations.resume(client, ours.pipeline_urn, actor="bob", reason=None)
    mavedb.prefect("POST", f"flow_runs/{mavedb.flow_run(prefects)['id']}/resume", {})
    for submitted in (ours, prefects):
        assert mavedb.wait_for(submitted) == "succeeded"
        assert attempts(mavedb, submitted) == {key: ["succeeded"] for key in STEPS}
    assert actions(mavedb, ours) == [("pause", "alice", "wrong file"), ("resume", "bob", None)]


def test_a_paused_request_waits_and_goes_out_when_it_is_resumed(
    mavedb: MaveDB, client: SyncPrefectClient, annotated: Submitted
) -> None:
    submitted = request_without_dispatch(mavedb, annotated)
    operations.pause(client, submitted.pipeline_urn, **ALICE)
    assert operations.resume(client, submitted.pipeline_urn, **ALICE) == "created"
    assert mavedb.wait_for(submitted) == "succeeded"


def test_retry_failed_runs_what_failed_and_what_it_held_up(
    mavedb: MaveDB, client: SyncPrefectClient, annotated: Submitted
) -> None:
    refusal = json.dumps({"errorType": "AuthorizationError", "message": "Wrong password"})
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403, body=refusal):
        submitted = mavedb.request("annotate_score_set", annotated)
        assert mavedb.wait_for(submitted) == "failed"
    with no_worker_takes_runs(mavedb):
        assert operations.retry_failed(client, submitted.pipeline_urn, **ALICE) == "created"
        assert {mavedb.jobs(submitted)[key].status for key in (CAR, GNOMAD)} == {"pending"}
        operations.cancel(client, submitted.pipeline_urn, **ALICE)
        assert mavedb.flow_run(submitted)["state_type"] == "CANCELLED"
        operations.retry_unsuccessful(client, submitted.pipeline_urn, **ALICE)
        operations.pause(client, submitted.pipeline_urn, **ALICE)
        assert mavedb.flow_run(submitted)["state_name"] == "Suspended"
    operations.resume(client, submitted.pipeline_urn, **ALICE)
    assert mavedb.wait_for(submitted) == "succeeded"
    assert attempts(mavedb, submitted) == {CAR: ["failed", "succeeded"], GNOMAD: ["succeeded"]}
    kept = mavedb.value(
        """
        SELECT job_attempts.error_message FROM job_attempts JOIN job_runs AS job ON job.id = job_id
         WHERE pipeline_id = :id AND outcome = 'failed'
        """,
        id=submitted.pipeline_id,
    )
    assert "GENBOREE_ACCOUNT_NAME" in kept
    mavedb.assert_every_variant_is_accounted_for(annotated)
    with pytest.raises(RequestError, match="No job of it ended in a way"):
        operations.retry_failed(client, submitted.pipeline_urn, **ALICE)


@pytest.mark.parametrize(
    ("car", "gnomad", "retried"),
    [
        ("failed", "skipped", {CAR, GNOMAD}),
        ("failed", "cancelled", {CAR}),
        ("skipped", "skipped", set()),
        ("succeeded", "failed", {GNOMAD}),
    ],
)
def test_retry_failed_leaves_alone_what_ended_otherwise(
    mavedb: MaveDB, annotated: Submitted, car: str, gnomad: str, retried: set[str]
) -> None:
    with mavedb.engine.connect() as connection:  # never committed
        for function, ended in ((CAR, car), (GNOMAD, gnomad)):
            connection.execute(
                text(
                    "UPDATE job_runs SET status = :status"
                    " WHERE pipeline_id = :id AND job_function = :function"
                ),
                {"id": annotated.pipeline_id, "function": function, "status": ended},
            )
        assert reset_jobs(connection, annotated.pipeline_id, Selection.FAILED) == len(retried)
        pending = connection.execute(
            text(
                "SELECT job_function FROM job_runs WHERE pipeline_id = :id AND status = 'pending'"
            ),
            {"id": annotated.pipeline_id},
        ).scalars()
        assert set(pending) == retried


def test_a_retry_that_did_not_reach_prefect_is_repeated(
    mavedb: MaveDB, client: SyncPrefectClient, annotated: Submitted
) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=401):
        submitted = mavedb.request("annotate_score_set", annotated)
        assert mavedb.wait_for(submitted) == "failed"
    with mavedb.engine.begin() as connection:  # as far as a killed verb gets
        reset_jobs(connection, submitted.pipeline_id, Selection.FAILED)
        connection.execute(
            text("UPDATE pipelines SET status = 'created', finished_at = NULL WHERE id = :id"),
            {"id": submitted.pipeline_id},
        )
    operations.retry_failed(client, submitted.pipeline_urn, **ALICE)
    assert mavedb.wait_for(submitted) == "succeeded"


def test_prefects_own_retry_runs_what_did_not_succeed(mavedb: MaveDB, annotated: Submitted) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=401):
        submitted = mavedb.request("annotate_score_set", annotated)
        assert mavedb.wait_for(submitted) == "failed"
    prefect_command(mavedb, "flow-run", "retry", mavedb.flow_run(submitted)["id"])
    wait_until(lambda: status(mavedb, submitted) == "succeeded")
    mavedb.wait_for(submitted)
    assert attempts(mavedb, submitted)[GNOMAD] == ["succeeded"]
    mavedb.assert_every_variant_is_accounted_for(annotated)


def test_restart_cancels_what_runs_and_runs_everything_again(
    mavedb: MaveDB, client: SyncPrefectClient
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=60, times=1):
        submitted = mavedb.submit(*brca1(20))
        wait_until_it_maps(mavedb, submitted)
        operations.restart(client, submitted.pipeline_urn, **ALICE)
        assert mavedb.wait_for(submitted) == "succeeded"
    assert attempts(mavedb, submitted) == {
        CREATE: ["succeeded", "succeeded"],
        MAP: ["cancelled", "succeeded"],
        CAR: ["succeeded"],
        GNOMAD: ["succeeded"],
    }
    assert mavedb.jobs(submitted)[CREATE].retry_count == 1
    mavedb.assert_every_variant_is_accounted_for(submitted)
    assert [action for action, *_ in actions(mavedb, submitted)] == ["cancel", "restart"]


def test_a_run_that_prefects_command_starts_is_audited_like_any_other(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    parameters = json.dumps({"score_set_id": annotated.score_set_id})
    started = prefect_command(
        mavedb, "deployment", "run", "annotate_score_set/mavedb", "--params", parameters
    )
    pipeline_id, urn = wait_until(
        lambda: next(
            (
                (row.id, row.urn)
                for row in mavedb.rows(
                    "SELECT id, urn FROM pipelines WHERE urn LIKE 'urn:mavedb:pipeline-%'"
                    " ORDER BY id DESC LIMIT 1"
                )
                if row.urn.removeprefix("urn:mavedb:pipeline-") in started
            ),
            None,
        )
    )
    submitted = Submitted(
        annotated.score_set_id, annotated.score_set_urn, annotated.user_id, pipeline_id, urn
    )
    assert mavedb.wait_for(submitted) == "succeeded"
    assert attempts(mavedb, submitted) == {CAR: ["succeeded"], GNOMAD: ["succeeded"]}
    mavedb.assert_every_variant_is_accounted_for(annotated)


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        (operations.pause, "is succeeded. Only what is created or running can be paused"),
        (operations.resume, "is succeeded. Only what is paused can be resumed"),
        (operations.cancel, "is succeeded. Only what has not ended can be cancelled"),
        (operations.retry_failed, "is succeeded. No job of it ended in a way"),
        (operations.retry_unsuccessful, "is succeeded. No job of it ended in a way"),
    ],
)
def test_a_verb_that_does_not_fit_changes_nothing_and_says_what_would(
    mavedb: MaveDB, client: SyncPrefectClient, annotated: Submitted, verb: Any, says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        verb(client, annotated.pipeline_urn, **ALICE)
    assert actions(mavedb, annotated) == []
    with pytest.raises(RequestError, match="There is no pipeline urn:mavedb:nothing"):
        verb(client, "urn:mavedb:nothing", **ALICE)


def test_with_prefect_out_of_reach_our_rows_say_what_was_asked_and_the_verb_is_repeated(
    mavedb: MaveDB, client: SyncPrefectClient
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=60, times=1):
        submitted = mavedb.submit(*brca1(20))
        wait_until_it_maps(mavedb, submitted)
        with (
            SyncPrefectClient("http://127.0.0.1:9/api") as nobody,
            pytest.raises(PrefectUnreachableError, match="PREFECT_API_URL, and do the same again"),
        ):
            operations.cancel(nobody, submitted.pipeline_urn, **ALICE)
        assert status(mavedb, submitted) == "cancelled"
        mavedb.assert_every_variant_is_accounted_for(submitted)
        assert mavedb.flow_run(submitted)["state_type"] not in FINAL
        operations.cancel(client, submitted.pipeline_urn, **ALICE)
        mavedb.wait_for(submitted)
    assert mavedb.flow_run(submitted)["state_type"] == "CANCELLED"
