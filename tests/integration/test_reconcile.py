"""The audit against Prefect: what the hooks never see is found, and what is lost is noticed."""

import random
import threading
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import text

from deployments.local.ports import LOOPBACK
from deployments.local.stack import Stack
from mavedb_audit.histories import PrefectUnansweredError
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.reconcile import reconcile, reconcile_until
from mavedb_audit.recorder.transitions import record
from mavedb_audit.settings import settings
from mavedb_audit.states import Run, RunKind, Source, Transition
from mavedb_audit.verify import Difference
from tests.prefect_proxy import Proxy, proxy_of
from tests.support import MAIN_JOB, MaveDB, Submitted, brca1, mavedb_of, wait_until
from tests.support_histories import (
    clean,
    current_columns,
    in_audit,
    in_prefect,
    runs_of,
    verified,
)

RETRY = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}


@pytest.fixture(scope="module")
def mavedb(stack: Stack) -> Iterator[MaveDB]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILE_GRACE_SECONDS", "0")
        settings.cache_clear()
        yield mavedb_of(stack)
    settings.cache_clear()


@pytest.fixture
def proxy(mavedb: MaveDB) -> Iterator[Proxy]:
    with proxy_of(mavedb.stack.prefect_api_url) as proxy:
        yield proxy


@dataclass(frozen=True)
class Two:
    """A pipeline that was retried by Prefect, and one that failed and left a task NotReady."""

    succeeded: Submitted
    failed: Submitted
    started: datetime
    run_ids: frozenset[UUID]


@pytest.fixture(scope="module")
def two(mavedb: MaveDB) -> Two:
    started = datetime.now(UTC)
    with mavedb.fault(mavedb.stack.mapper_url, "status", status=500, times=1):
        succeeded = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(succeeded) == "succeeded"
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403):
        failed = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(failed) == "failed"
    return Two(
        succeeded,
        failed,
        started,
        frozenset(run_id for each in (succeeded, failed) for run_id in runs_of(mavedb, each)),
    )


@pytest.fixture
def client(mavedb: MaveDB) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(mavedb.stack.prefect_api_url) as client:
        yield client


def test_the_states_that_no_hook_sees_are_recorded(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient
) -> None:
    reconcile(client)
    assert in_audit(mavedb, two.run_ids) == in_prefect(mavedb, two.run_ids)
    names = {name for _, name in in_audit(mavedb, two.run_ids).values()}
    assert names >= {"Scheduled", "Pending", "Submitting", "AwaitingRetry", "Retrying", "NotReady"}
    verification = verified(client, two.started)
    assert clean(verification)
    assert verification.runs >= len(two.run_ids)
    assert verification.states_in_prefect >= len(in_prefect(mavedb, two.run_ids))


def test_lost_rows_are_listed_and_come_back(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient
) -> None:
    reconcile(client)
    before = current_columns(mavedb, two.run_ids)
    had = in_audit(mavedb, two.run_ids)
    lost = random.Random(7).sample(sorted(had), 10)
    mavedb.execute("DELETE FROM prefect_transitions WHERE state_id = ANY (:ids)", ids=lost)

    verification = verified(client, two.started)
    assert verification.has_problems
    assert {difference.state_id for difference in verification.differences} == set(lost)
    assert {difference.what for difference in verification.differences} == {"missing in the audit"}
    named: Difference = verification.differences[0]
    assert (named.run_id, named.name) == had[named.state_id]

    done = reconcile(client, since=two.started, everything=True)
    assert done.states_recorded == 10
    assert clean(verified(client, two.started))
    assert current_columns(mavedb, two.run_ids) == before


def test_an_empty_history_is_made_again_from_prefects(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient
) -> None:
    reconcile(client)
    before = current_columns(mavedb, two.run_ids)
    jobs = [mavedb.jobs(two.succeeded), mavedb.jobs(two.failed)]
    mavedb.execute(
        "DELETE FROM prefect_transitions WHERE run_id = ANY (:ids)", ids=list(two.run_ids)
    )
    reconcile(client, everything=True)
    assert in_audit(mavedb, two.run_ids) == in_prefect(mavedb, two.run_ids)
    assert current_columns(mavedb, two.run_ids) == before
    assert [mavedb.jobs(two.succeeded), mavedb.jobs(two.failed)] == jobs

    mavedb.execute("DELETE FROM prefect_runs WHERE run_id = ANY (:ids)", ids=list(two.run_ids))
    reconcile(client, everything=True)
    assert current_columns(mavedb, two.run_ids) == before
    assert [mavedb.jobs(two.succeeded), mavedb.jobs(two.failed)] == jobs
    assert clean(verified(client, two.started))


def test_what_only_the_process_saw_is_no_difference(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient
) -> None:
    reconcile(client)
    run_id = runs_of(mavedb, two.succeeded)[1]
    invented = {"witnessed": uuid4(), "mirrored": uuid4()}
    for source, state_id in zip(("hook", "mirror"), invented.values(), strict=True):
        mavedb.execute(
            """
            INSERT INTO prefect_transitions (state_id, run_id, type, name, timestamp, source)
            SELECT :state_id, :run_id, 'RUNNING', 'Running', min(timestamp), :source
              FROM prefect_transitions WHERE run_id = :run_id
            """,
            state_id=state_id,
            run_id=run_id,
            source=source,
        )
    try:
        verification = verified(client, two.started)
        assert [each.state_id for each in verification.lost_by_prefect] == [invented["witnessed"]]
        assert [(each.state_id, each.what) for each in verification.differences] == [
            (invented["mirrored"], "no longer in Prefect")
        ]
    finally:
        mavedb.execute(
            "DELETE FROM prefect_transitions WHERE state_id = ANY (:ids)",
            ids=list(invented.values()),
        )


def test_verify_names_a_job_that_was_changed_by_hand(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient
) -> None:
    reconcile(client)
    job = mavedb.jobs(two.failed)["create_variants_for_score_set"]
    mavedb.execute("UPDATE job_runs SET status = 'cancelled' WHERE id = :id", id=job.id)
    try:
        verification = verified(client, two.started)
    finally:
        mavedb.execute("UPDATE job_runs SET status = 'succeeded' WHERE id = :id", id=job.id)
    assert verification.differences == []
    assert [(each.invariant, each.rows, each.examples) for each in verification.broken] == [
        (
            "a job succeeded if an attempt of it did since it was scheduled",
            1,
            ((job.urn, "create_variants_for_score_set is cancelled, attempt 1 succeeded"),),
        )
    ]


def test_a_settled_run_is_left_alone_until_it_goes_on(mavedb: MaveDB, proxy: Proxy) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "failed"
    runs = set(runs_of(mavedb, submitted))
    with SyncPrefectClient(proxy.api_url) as client:
        reconcile(client)
        proxy.asked.clear()
        reconcile(client)
        assert not proxy.histories_asked() & runs

        flow_run_id = mavedb.flow_run(submitted)["id"]
        mavedb.prefect("POST", f"flow_runs/{flow_run_id}/set_state", RETRY)
        wait_until(lambda: mavedb.wait_for(submitted) == "succeeded")
        new = set(runs_of(mavedb, submitted)) - runs
        assert len(new) == len(MAIN_JOB.steps)
        reconcile(client)
        assert proxy.histories_asked() >= {UUID(flow_run_id)}
        assert in_audit(mavedb, frozenset(runs | new)) == in_prefect(mavedb, frozenset(runs | new))
        assert clean(verified(client, datetime.now(UTC) - timedelta(minutes=2)))


def test_histories_that_prefect_does_not_give_hold_nothing_else_up(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient, proxy: Proxy
) -> None:
    reconcile(client)
    mavedb.execute(
        "DELETE FROM prefect_transitions WHERE run_id = ANY (:ids)", ids=list(two.run_ids)
    )
    answers = [(503, b"{}"), (429, b"{}"), (200, b'[{"id": "0'), (200, b'[{"id": 7}]')]
    refused = dict(zip(sorted(two.run_ids), answers, strict=False))
    proxy.answer = lambda path: next(
        (answer for run_id, answer in refused.items() if str(run_id) in path), None
    )
    with SyncPrefectClient(proxy.api_url) as door:
        assert reconcile(door, since=two.started, everything=True).unanswered == 4
        answered = in_prefect(mavedb, two.run_ids - refused.keys())
        assert in_audit(mavedb, two.run_ids) == answered
        verification = verified(door, two.started)
    assert set(verification.unanswered) == refused.keys()
    assert verification.has_problems

    assert reconcile(client, since=two.started, everything=True).unanswered == 0
    assert clean(verified(client, two.started))


def test_a_pipeline_that_somebody_holds_holds_nothing_else_up(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient
) -> None:
    reconcile(client)
    mavedb.execute(
        "DELETE FROM prefect_transitions WHERE run_id = ANY (:ids)", ids=list(two.run_ids)
    )
    held = frozenset(runs_of(mavedb, two.failed))
    with mavedb.engine.begin() as connection:
        connection.execute(
            text("SELECT FROM prefect_runs WHERE run_id = :id FOR UPDATE"), {"id": min(held)}
        )
        assert reconcile(client, since=two.started, everything=True).unanswered == 1
        assert in_audit(mavedb, two.run_ids) == in_prefect(mavedb, two.run_ids - held)
    assert reconcile(client, since=two.started, everything=True).unanswered == 0
    assert in_audit(mavedb, two.run_ids) == in_prefect(mavedb, two.run_ids)


def test_a_prefect_that_is_away_is_waited_for(
    mavedb: MaveDB, two: Two, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        SyncPrefectClient(f"http://{LOOPBACK}:1/api") as nobody,
        pytest.raises(PrefectUnansweredError, match="check PREFECT_API_URL"),
    ):
        reconcile(nobody)

    monkeypatch.setenv("RECONCILE_INTERVAL_SECONDS", "0.2")
    settings.cache_clear()
    lost = sorted(in_audit(mavedb, two.run_ids))[:3]
    mavedb.execute("DELETE FROM prefect_transitions WHERE state_id = ANY (:ids)", ids=lost)
    mavedb.execute(
        "UPDATE prefect_runs SET settled_at = NULL WHERE run_id = ANY (:ids)", ids=list(two.run_ids)
    )
    proxy.answer = lambda _path: (503, b"<html>Bad gateway")
    stop = threading.Event()
    with temporary_settings({PREFECT_API_URL: proxy.api_url}):
        reconciler = threading.Thread(target=copy_context().run, args=(reconcile_until, stop))
        reconciler.start()
    try:
        wait_until(lambda: len(proxy.asked) > 2)
        proxy.answer = lambda _path: None
        wait_until(lambda: set(lost) <= set(in_audit(mavedb, two.run_ids)))
    finally:
        stop.set()
        reconciler.join(timeout=60)
    assert not reconciler.is_alive()
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_run_that_was_cancelled_before_it_began_has_its_record(
    mavedb: MaveDB, two: Two, client: SyncPrefectClient, seen_before: bool
) -> None:
    deployment = mavedb.prefect("GET", "deployments/name/annotate_score_set/mavedb")["id"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    scheduled = {"type": "SCHEDULED", "state_details": {"scheduled_time": tomorrow}}
    flow_run = mavedb.prefect(
        "POST",
        f"deployments/{deployment}/create_flow_run",
        {
            "parameters": {"score_set_id": two.succeeded.score_set_id},
            "state": scheduled,
        },
    )
    run_id = UUID(flow_run["id"])
    mavedb.prefect("POST", f"flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLED"}})
    if seen_before:
        state = mavedb.prefect("GET", f"flow_runs/{run_id}")["state"]
        entered = datetime.fromisoformat(state["timestamp"])
        run = Run(run_id, RunKind.FLOW, flow_run["name"])
        seen = (run, UUID(state["id"]), "CANCELLED", "Cancelled", entered, Source.MIRROR)
        with mavedb.engine.begin() as connection:
            record(connection, [Transition(*seen)])
    reconcile(client)
    rows = mavedb.rows(
        """
        SELECT pipeline.status, job.status AS job_status
          FROM pipelines AS pipeline JOIN job_runs AS job ON job.pipeline_id = pipeline.id
          JOIN prefect_runs AS run ON run.pipeline_id = pipeline.id
         WHERE pipeline.urn = :urn AND run.run_id = :run_id
        """,
        urn=f"urn:mavedb:pipeline-{run_id}",
        run_id=run_id,
    )
    jobs = 1 + len(PIPELINES["annotate_score_set"].steps)
    assert [tuple(row) for row in rows] == [("cancelled", "cancelled")] * jobs
    assert clean(verified(client, two.started))

    # Settled as it is, it goes on, and nothing but Prefect knows.
    for state in (scheduled, {"type": "CANCELLED"}):
        body = {"state": state, "force": True}
        mavedb.prefect("POST", f"flow_runs/{run_id}/set_state", body)
        reconcile(client)
        assert in_audit(mavedb, frozenset([run_id])) == in_prefect(mavedb, frozenset([run_id]))


def test_a_run_that_prefect_deleted_is_kept_and_settled(
    mavedb: MaveDB, client: SyncPrefectClient
) -> None:
    started = datetime.now(UTC)
    submitted = mavedb.submit(*brca1(20))
    mavedb.wait_for(submitted)
    run_ids = frozenset(runs_of(mavedb, submitted))
    reconcile(client)
    had = in_audit(mavedb, run_ids)
    mavedb.execute(
        "UPDATE prefect_runs SET settled_at = NULL WHERE run_id = ANY (:ids)", ids=list(run_ids)
    )
    flow_run_id = mavedb.flow_run(submitted)["id"]
    httpx.delete(f"{mavedb.stack.prefect_api_url}/flow_runs/{flow_run_id}").raise_for_status()
    reconcile(client)
    unsettled = "SELECT count(*) FROM prefect_runs WHERE run_id = ANY (:ids) AND settled_at IS NULL"
    assert mavedb.value(unsettled, ids=list(run_ids)) == 0
    assert in_audit(mavedb, run_ids) == had
    verification = verified(client, started)
    assert clean(verification)
    assert verification.runs_forgotten == len(run_ids)
