"""States that Prefect makes by itself in one run: as docs/reference/states.md describes them."""

import asyncio
import time
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

from prefect import Task
from prefect.cache_policies import INPUTS
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Failed
from prefect.transactions import transaction
from sqlalchemy import Row

from deployments.local.score_set import BRCA1_RING
from deployments.local.submission import insert_score_set
from mavedb_audit.database import connect
from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.hooks import audited_flow, audited_task, pipeline_urn_of, record_task_states
from mavedb_audit.locks import flow_lock
from mavedb_audit.recorder.plans import open_pipeline, plan_pipeline
from mavedb_audit.steps import Step
from tests.support import MaveDB, Submitted, wait_until
from tests.support_states import FLOW, TASK, described

CREATE, MAP, CAR, GNOMAD = (
    "create_variants_for_score_set",
    "map_variants_for_score_set",
    "submit_score_set_mappings_to_car",
    "link_gnomad_variants",
)
PIPELINE = "validate_map_annotate_score_set"

#: The states of each job's task runs, in the order in which they began.
STATES = {
    CREATE: ["Pending Running AwaitingRetry Retrying Completed RolledBack"],
    MAP: ["Pending Running Completed", "Pending Running Cached", "Pending Running DoneBefore"],
    CAR: ["Pending Running TimedOut"],
    GNOMAD: ["Pending NotReady", "Pending Running Skipped"],
}
BECOMES = {CREATE: "succeeded", MAP: "succeeded", CAR: "failed", GNOMAD: "skipped"}


class UndoneError(Exception):
    """What makes Prefect roll back a transaction."""


def run_steps(score_set_id: int) -> UUID:
    """Run a pipeline's steps in this process, so that they enter STATES. Returns the flow run."""
    flow_run_ids: list[UUID] = []

    @audited_task
    def create(step: Step) -> None:
        if step.attempt.number == 1:
            raise ServiceError("The store", "is down", FailureCategory.SERVICE_UNAVAILABLE)
        with step.finishing():
            pass

    @audited_task
    def map_(step: Step, mark: str) -> None:  # noqa: ARG001 - it is the key of the cache
        with step.finishing():
            pass

    @audited_task
    def register(step: Step) -> None:  # noqa: ARG001
        while True:
            time.sleep(0.01)

    @audited_task
    def link(step: Step) -> None:
        raise AssertionError(f"{step.attempt.job.key} must not run")

    async def validate_map_annotate_score_set(mark: str) -> State[Any]:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        flow_run_ids.append(context.flow_run.id)
        with flow_lock(flow_run_ids[0]):
            open_own_pipeline(flow_run_ids[0], score_set_id)
            with suppress(UndoneError), transaction():
                named(create, CREATE)(return_state=True)
                raise UndoneError
            for _ in range(2):
                named(map_, MAP, cache_policy=INPUTS, persist_result=True)(mark, return_state=True)
            named(map_, MAP)(mark, return_state=True)
            slow = named(register, CAR, timeout_seconds=0.2, retries=0).submit()
            never = named(link, GNOMAD).submit(wait_for=[slow])
            never.wait()
            named(link, GNOMAD)(return_state=True)
            record_task_states(flow_run_ids[0], {GNOMAD: (never.task_run_id, never.state)})
        return Failed(message="One step was too slow")

    flow: Any = audited_flow(validate_map_annotate_score_set)
    asyncio.run(flow(uuid4().hex, return_state=True))
    return flow_run_ids[0]


def named(task: Task[..., Any], job_key: str, **options: Any) -> Any:
    return task.with_options(task_run_name=job_key, **options)


def open_own_pipeline(flow_run_id: UUID, score_set_id: int) -> None:
    """As a flow does that was started by hand."""
    params: dict[str, Any] = {
        "score_set_id": score_set_id,
        "updater_id": None,
        "scores_file_key": None,
        "counts_file_key": None,
        "score_columns_metadata": {},
        "count_columns_metadata": {},
    }
    with connect() as connection, connection.begin():
        pipeline = plan_pipeline(
            connection,
            PIPELINE,
            params,
            user_id=None,
            correlation_id=None,
            urn=pipeline_urn_of(flow_run_id, None),
        )
        open_pipeline(connection, PIPELINE, pipeline, flow_run_id)


def histories(mavedb: MaveDB, flow_run_id: UUID) -> dict[str, list[list[dict[str, Any]]]]:
    """The states that Prefect has of each job's task runs, as STATES has their names."""
    only_its = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}}
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for run in mavedb.prefect("POST", "task_runs/filter", only_its):
        states = mavedb.prefect("GET", f"task_run_states/?task_run_id={run['id']}")
        history = sorted(states, key=lambda state: str(state["timestamp"]))
        found.setdefault(run["name"], []).append(history)
    return {
        job_key: sorted(runs, key=lambda run: str(run[0]["timestamp"]))
        for job_key, runs in found.items()
    }


def names(found: dict[str, list[list[dict[str, Any]]]]) -> dict[str, list[str]]:
    return {
        job_key: [" ".join(state["name"] for state in run) for run in runs]
        for job_key, runs in found.items()
    }


def test_a_run_enters_the_states_that_the_page_describes(mavedb: MaveDB) -> None:
    with mavedb.engine.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn=f"tmp:{uuid4()}",
            title="Every way to end",
            target_name="BRCA1",
            sequence=BRCA1_RING,
            sequence_type="dna",
            user="curator",
        )
    flow_run_id = run_steps(score_set_id)
    wait_until(lambda: names(histories(mavedb, flow_run_id)) == STATES)

    in_prefect = {
        UUID(state["id"]): (state["type"], state["name"])
        for runs in histories(mavedb, flow_run_id).values()
        for run in runs
        for state in run
    }
    assert set(in_prefect.values()) == {
        (described(TASK, name).type, name)
        for runs in STATES.values()
        for run in runs
        for name in run.split()
    }
    wait_until(lambda: recorded(mavedb, flow_run_id).keys() == in_prefect.keys())
    rows = recorded(mavedb, flow_run_id)
    assert {state_id: (row.type, row.name) for state_id, row in rows.items()} == in_prefect
    for row in rows.values():
        assert row.source[0] in described(TASK, row.name).seen_by
    assert {"hook", "mirror"} <= {row.source for row in rows.values()}

    [(pipeline_id, urn, status)] = mavedb.rows(
        "SELECT id, urn, status FROM pipelines WHERE urn = :urn",
        urn=pipeline_urn_of(flow_run_id, None),
    )
    assert status == described(FLOW, "Failed").becomes
    jobs = mavedb.jobs(Submitted(score_set_id, "", user_id, pipeline_id, urn))
    assert {key: jobs[key].status for key in STATES} == BECOMES
    assert jobs[CAR].failure_category == "timeout"


def recorded(mavedb: MaveDB, flow_run_id: UUID) -> dict[UUID, Row[Any]]:
    """The states of the flow run's task runs that the audit has."""
    rows = mavedb.rows(
        """
        SELECT t.state_id, t.type, t.name, t.source
          FROM prefect_transitions AS t JOIN prefect_runs AS run USING (run_id)
         WHERE run.flow_run_id = :id
        """,
        id=flow_run_id,
    )
    return {row.state_id: row for row in rows}
