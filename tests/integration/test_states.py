"""Each state of docs/reference/states.md, entered on a real Prefect server: what comes of it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import states as prefect_states
from prefect.client.orchestration import SyncPrefectClient
from sqlalchemy import Connection, text

from deployments.local.score_set import BRCA1_RING
from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set
from mavedb_audit.locks import flow_lock
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.reconcile import reconcile
from mavedb_audit.settings import settings
from mavedb_audit.states import STATE_NAMES, TERMINAL_JOB_STATUSES, RunKind
from mavedb_audit.trigger import request_pipeline
from mavedb_audit.verify import Verification, verify
from tests.support import FINAL, MaveDB, Submitted, mavedb_of, no_worker_takes_runs, wait_until
from tests.support_states import (
    DESCRIBED,
    FLOW,
    TASK,
    Described,
    FlowInPrefect,
    TaskInPrefect,
    described,
    task_in,
)

CAR, GNOMAD = "submit_score_set_mappings_to_car", "link_gnomad_variants"
VARIANTS = 2


#: The states before each, by name, as Prefect's runs go through them.
BEFORE: Mapping[tuple[RunKind, str], str] = {
    (TASK, "Scheduled"): "",
    (TASK, "Late"): "Scheduled",
    (TASK, "AwaitingConcurrencySlot"): "Pending",
    (TASK, "AwaitingRetry"): "Pending Running",
    (TASK, "Resuming"): "Pending Running Suspended",
    (TASK, "Pending"): "",
    (TASK, "NotReady"): "Pending",
    (TASK, "Running"): "Pending",
    (TASK, "Retrying"): "Pending Running AwaitingRetry",
    (TASK, "Paused"): "Pending Running",
    (TASK, "Suspended"): "Pending Running",
    (TASK, "Cancelling"): "Pending Running",
    (TASK, "Completed"): "Pending Running",
    (TASK, "Cached"): "Pending Running",
    (TASK, "RolledBack"): "Pending Running Completed",
    (TASK, "DoneBefore"): "Pending Running",
    (TASK, "Skipped"): "Pending Running",
    (TASK, "Failed"): "Pending Running",
    (TASK, "TimedOut"): "Pending Running",
    (TASK, "Cancelled"): "Pending Running Cancelling",
    (TASK, "Crashed"): "Pending Running",
    # The dispatcher has scheduled the flow run before.
    (FLOW, "Scheduled"): "",
    (FLOW, "Late"): "",
    (FLOW, "AwaitingConcurrencySlot"): "",
    (FLOW, "AwaitingRetry"): "Pending Running",
    (FLOW, "Resuming"): "Pending Running Suspended",
    (FLOW, "Pending"): "",
    (FLOW, "Submitting"): "Pending",
    (FLOW, "InfrastructurePending"): "Pending Submitting",
    (FLOW, "Running"): "Pending Submitting",
    (FLOW, "Retrying"): "Pending Running AwaitingRetry",
    (FLOW, "Paused"): "Pending Running",
    (FLOW, "Suspended"): "Pending Running",
    (FLOW, "Cancelling"): "Pending Running",
    (FLOW, "Cancelled"): "",
    (FLOW, "Completed"): "Pending Running",
    (FLOW, "Partial"): "Pending Running",
    (FLOW, "Failed"): "Pending Running",
    (FLOW, "TimedOut"): "Pending Running",
    (FLOW, "Crashed"): "Pending Running",
}
#: How the jobs' task runs ended before their flow run did.
PLAN = PIPELINES["annotate_score_set"]
TASKS_ENDED: Mapping[str, Mapping[str, str]] = {
    "Completed": {step.key: "Completed" for step in PLAN.steps},
    "Partial": {step.key: "Completed" for step in PLAN.steps} | {GNOMAD: "Failed"},
}
#: What the run was when it entered a state that leaves its job, or pipeline, as it was.
AS_BEFORE = {TASK: "running", FLOW: "created"}


@dataclass(frozen=True)
class Entered:
    """The run that entered a described state, of a pipeline of its own."""

    pipeline: Submitted
    run: FlowInPrefect | TaskInPrefect


@pytest.fixture(scope="module")
def mavedb(stack: Stack) -> Iterator[MaveDB]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILE_GRACE_SECONDS", "0")
        settings.cache_clear()
        yield mavedb_of(stack)
    settings.cache_clear()


@pytest.fixture(scope="module")
def client(mavedb: MaveDB) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(mavedb.stack.prefect_api_url) as client:
        yield client


def request(mavedb: MaveDB) -> list[tuple[Submitted, UUID]]:
    """A pipeline for each described state, with the flow run that was dispatched for it."""
    pipelines = []
    with mavedb.engine.begin() as connection:
        for state in DESCRIBED:
            # No step runs here that could account for the variants of a job that succeeds.
            variants = 0 if state.type == "COMPLETED" and state.name != "Skipped" else VARIANTS
            pipelines.append(request_one(connection, variants))
    ids = [pipeline.pipeline_id for pipeline in pipelines]

    def dispatched() -> dict[int, UUID] | None:
        rows = mavedb.rows(
            """
            SELECT pipeline_id, flow_run_id FROM pipeline_requests
             WHERE pipeline_id = ANY (:ids) AND dispatched_at IS NOT NULL
            """,
            ids=ids,
        )
        return {row[0]: row[1] for row in rows} if len(rows) == len(ids) else None

    flow_run_ids = wait_until(dispatched)
    return [(pipeline, flow_run_ids[pipeline.pipeline_id]) for pipeline in pipelines]


def request_one(connection: Connection, variants: int) -> Submitted:
    """A pipeline that annotates a score set of its own."""
    urn = f"tmp:{uuid4()}"
    score_set_id, user_id = insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="BRCA1",
        sequence=BRCA1_RING,
        sequence_type="dna",
        user="curator",
    )
    connection.execute(
        text(
            """
            INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
            SELECT :urn || '#' || n, '{}', :id, CURRENT_DATE, CURRENT_DATE
              FROM generate_series(1, :variants) AS n
            """
        ),
        {"urn": urn, "id": score_set_id, "variants": variants},
    )
    params = {"score_set_id": score_set_id, "updater_id": user_id}
    planned = request_pipeline(connection, "annotate_score_set", params, user_id, uuid4().hex)
    return Submitted(score_set_id, urn, user_id, planned.pipeline_id, planned.pipeline_urn)


@dataclass(frozen=True)
class Played:
    """What every described state was entered by, from `started` on."""

    started: datetime
    runs: Mapping[Described, Entered]


@pytest.fixture(scope="module")
def played(mavedb: MaveDB, client: SyncPrefectClient) -> Iterator[Played]:
    """Every described state is entered by a run of its own."""
    started = datetime.now(UTC)
    runs = {}
    with no_worker_takes_runs(mavedb), ExitStack() as throughout:
        for state, (pipeline, flow_run_id) in zip(DESCRIBED, request(mavedb), strict=True):
            flow_run = client.read_flow_run(flow_run_id)
            run = FlowInPrefect(mavedb, flow_run)
            with ExitStack() as meanwhile:
                # Recovery takes a flow for dead that runs, and whose lock nobody holds.
                lock = flow_lock(flow_run_id)
                (throughout if state.type == "RUNNING" else meanwhile).enter_context(lock)
                runs[state] = Entered(pipeline, play(mavedb, state, pipeline, run))
        yield Played(started, runs)


def play(
    mavedb: MaveDB, state: Described, pipeline: Submitted, flow: FlowInPrefect
) -> FlowInPrefect | TaskInPrefect:
    """Enter the state, by the flow run or by a task run of it, after those before it."""
    run: FlowInPrefect | TaskInPrefect = flow
    if state.kind is TASK:
        flow.enter("Pending")
        run = task_in(flow.flow_run, CAR)
    for name in BEFORE.get((state.kind, state.name), "").split():
        run.enter(name)
    if (state.kind, state.name) == (TASK, "Crashed"):
        wait_until(partial(is_running, mavedb, pipeline))
    if state.kind is FLOW:
        for job_key, end in TASKS_ENDED.get(state.name, {}).items():
            task = task_in(flow.flow_run, job_key)
            for name in ("Pending", "Running", end):
                task.enter(name)
    run.enter(state.name)
    return run


def test_the_page_describes_every_state_that_we_know_and_each_is_entered_here() -> None:
    names: dict[str, set[str]] = {}
    for state in DESCRIBED:
        names.setdefault(state.type, set()).add(state.name)
    assert names == STATE_NAMES
    assert [(state.kind, state.name) for state in DESCRIBED] == list(BEFORE)


@pytest.mark.parametrize("state", DESCRIBED, ids=str)
def test_a_state_of_prefects_own_making_has_the_type_that_the_page_says(state: Described) -> None:
    make = getattr(prefect_states, state.name, None)
    assert make is None or make().type.value == state.type


@pytest.mark.parametrize("state", DESCRIBED, ids=str)
def test_a_state_is_recorded_as_it_is_and_moves_its_job_or_pipeline(
    mavedb: MaveDB, played: Played, state: Described
) -> None:
    entered = played.runs[state]
    state_id = entered.run.state_id(state.name)

    def found() -> list[Any]:
        return mavedb.rows(
            """
            SELECT run_id, type, name, source FROM prefect_transitions WHERE state_id = :id
            """,
            id=state_id,
        )

    recorded = wait_until(found)[0]
    assert recorded.run_id == entered.run.run_id
    assert (recorded.type, recorded.name) == (state.type, state.name)
    assert recorded.source[0] in state.seen_by
    becomes = AS_BEFORE[state.kind] if state.becomes == "as before" else state.becomes
    status = job_status if state.kind is TASK else pipeline_status
    wait_until(lambda: status(mavedb, entered.pipeline) == becomes)


def job_status(mavedb: MaveDB, pipeline: Submitted, job_key: str = CAR) -> str:
    return str(mavedb.jobs(pipeline)[job_key].status)


def pipeline_status(mavedb: MaveDB, pipeline: Submitted) -> str:
    sql = "SELECT status FROM pipelines WHERE id = :id"
    return str(mavedb.value(sql, id=pipeline.pipeline_id))


def is_running(mavedb: MaveDB, pipeline: Submitted, job_key: str = CAR) -> bool:
    return job_status(mavedb, pipeline, job_key) == "running"


@pytest.mark.parametrize("name", ["Cancelling", "Cancelled"])
def test_a_cancelled_flow_run_leaves_nothing_open(
    mavedb: MaveDB, played: Played, name: str
) -> None:
    pipeline = played.runs[described(FLOW, name)].pipeline
    wait_until(lambda: mavedb.jobs(pipeline)[GNOMAD].status == "cancelled")
    assert mavedb.jobs(pipeline)[CAR].status == "cancelled"
    owed = Counter(annotates for step in PLAN.steps for annotates in step.annotation_types)
    assert mavedb.account(pipeline) == {
        (annotation_type, "skipped", "step_cancelled"): VARIANTS * times
        for annotation_type, times in owed.items()
    }


def test_recovery_decides_about_a_crashed_flow_run(mavedb: MaveDB, played: Played) -> None:
    crashed = played.runs[described(FLOW, "Crashed")]
    actions = "SELECT action FROM operator_actions WHERE pipeline_id = :id AND actor = 'recovery'"
    wait_until(lambda: mavedb.rows(actions, id=crashed.pipeline.pipeline_id) == [("recover",)])
    assert mavedb.flow_run(crashed.pipeline)["state_name"] == "AwaitingRetry"


def test_a_state_of_an_unknown_name_counts_by_its_type_and_is_logged_once(
    mavedb: MaveDB, client: SyncPrefectClient, played: Played
) -> None:
    pipeline = played.runs[described(TASK, "Scheduled")].pipeline
    flow_run = client.read_flow_run(UUID(mavedb.flow_run(pipeline)["id"]))
    for job_key in (CAR, GNOMAD):
        task_in(flow_run, job_key).enter("Dreaming", "RUNNING")
    FlowInPrefect(mavedb, flow_run).enter("Dreaming", "PAUSED")
    wait_until(lambda: pipeline_status(mavedb, pipeline) == "paused")
    for job_key in (CAR, GNOMAD):
        wait_until(partial(is_running, mavedb, pipeline, job_key))
    recorded = mavedb.rows(
        """
        SELECT t.type, count(*) FROM prefect_transitions AS t JOIN prefect_runs USING (run_id)
         WHERE pipeline_id = :id AND t.name = 'Dreaming' GROUP BY 1 ORDER BY 1
        """,
        id=pipeline.pipeline_id,
    )
    assert recorded == [("PAUSED", 1), ("RUNNING", 2)]
    log = mavedb.stack.state / "logs" / "audit.log"

    def logged() -> list[str]:
        lines = [line for line in log.read_text().splitlines() if "Dreaming" in line]
        return lines if len(lines) >= 2 else []

    lines = wait_until(logged)
    assert sorted(json.loads(line)["recorded_as"] for line in lines) == ["PAUSED", "RUNNING"]


def test_what_is_left_can_be_cancelled_and_the_audit_agrees_with_prefect_about_all(
    mavedb: MaveDB, client: SyncPrefectClient, played: Played
) -> None:
    pipelines = [entered.pipeline for entered in played.runs.values()]
    for flow_run in map(mavedb.flow_run, pipelines):
        if flow_run["state_type"] not in FINAL:
            cancelled = {"state": {"type": "CANCELLED"}, "force": True}
            mavedb.prefect("POST", f"flow_runs/{flow_run['id']}/set_state", cancelled)

    def all_closed() -> bool:
        jobs = [job for pipeline in pipelines for job in mavedb.jobs(pipeline).values()]
        return all(job.status in TERMINAL_JOB_STATUSES for job in jobs)

    wait_until(all_closed)

    def agreeing() -> Verification | None:
        """Recovery still ends task runs meanwhile, and events tell of no scheduled runs."""
        reconcile(client)
        found = verify(client, since=played.started)
        return None if found.differences or found.unanswered else found

    verification = wait_until(agreeing)
    assert verification.broken == []
    assert verification.states_in_prefect >= sum(1 + len(b.split()) for b in BEFORE.values())
