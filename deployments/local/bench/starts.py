"""How soon a pipeline's first step runs, and after it the next, beside plain Prefect's."""

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from sqlalchemy import Engine, text

from deployments.local.bench.figures import (
    Figure,
    MeasurementError,
    Pair,
    figure_of,
    median_below,
    ratio_at_most,
)
from deployments.local.bench.pipelines import request, upload_score_set, wait_for_success
from deployments.local.stack import PROJECT, WORK_POOL, Stack
from deployments.local.submission import PIPELINE
from mavedb_audit.pipelines import CREATE, MAP

_ENTRYPOINT = "deployments/local/bench/plain_flow.py:plain"
_MOST = 1.1
_MOST_MILLISECONDS = 50.0
_OBSTACLE = (
    "plain tasks are all submitted at once, and the second is there when the first ends; a pipeline"
    " may be paused between its steps, so the next is submitted after a look at that"
)
_VARIANTS = 20
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 120.0

_STATES = text(
    """
    SELECT run.name, state.name AS state, state.timestamp
      FROM prefect_runs AS run JOIN prefect_transitions AS state USING (run_id)
      JOIN prefect_runs AS flow_run ON flow_run.run_id = run.flow_run_id
     WHERE flow_run.pipeline_id = :pipeline_id AND state.name IN ('Running', 'Completed')
    """
)


def starting(stack: Stack, engine: Engine, starts: int) -> list[Figure]:
    """From a request to the first step's run, and from its end to the next one's run.

    Plain Prefect's are of a deployment with two tasks in the same work pool. The first of each is
    not counted: it finds nothing warm.
    """
    with SyncPrefectClient(stack.prefect_api_url) as client:
        deployment_id = _deploy_plain(client)
        pairs = [
            (_start_pipeline(stack, engine), _start_plain(client, deployment_id))
            for _ in range(1 + starts)
        ][1:]
    steps = [Pair(1000 * ours[1], 1000 * plain[1]) for ours, plain in pairs]
    return [
        figure_of(
            "from a request to its first step",
            "s",
            [Pair(ours[0], plain[0]) for ours, plain in pairs],
            ratio_at_most(_MOST),
        ),
        figure_of(
            "from a step's end to the next step",
            "ms",
            steps,
            median_below(_MOST_MILLISECONDS, "ms"),
        ),
        figure_of("the same, beside plain Prefect", "ms", steps, ratio_at_most(_MOST, _OBSTACLE)),
    ]


def _start_pipeline(stack: Stack, engine: Engine) -> tuple[float, float]:
    """The seconds until the first step ran, and from its end until the second ran."""
    score_set = upload_score_set(stack, engine, 0, _VARIANTS)
    pipeline_id = request(engine, PIPELINE, score_set)
    requested = datetime.now(UTC)
    wait_for_success(stack, engine, PIPELINE, pipeline_id)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with engine.connect() as connection:
            rows = connection.execute(_STATES, {"pipeline_id": pipeline_id}).all()
        entered = {(row.name, row.state): row.timestamp for row in rows}
        if {(CREATE.key, "Completed"), (MAP.key, "Running")} <= entered.keys():
            break
        if time.monotonic() > deadline:
            raise MeasurementError(f"No states of pipeline {pipeline_id} were recorded")
        time.sleep(_POLL_SECONDS)
    return (
        (entered[CREATE.key, "Running"] - requested).total_seconds(),
        (entered[MAP.key, "Running"] - entered[CREATE.key, "Completed"]).total_seconds(),
    )


def _deploy_plain(client: SyncPrefectClient) -> UUID:
    here = {"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}
    return client.create_deployment(
        flow_id=client.create_flow_from_name("plain"),
        name="bench",
        entrypoint=_ENTRYPOINT,
        path=str(PROJECT),
        pull_steps=[here],
        work_pool_name=WORK_POOL,
    )


def _start_plain(client: SyncPrefectClient, deployment_id: UUID) -> tuple[float, float]:
    """As of a pipeline, of a plain flow run."""
    requested = datetime.now(UTC)
    flow_run_id = client.create_flow_run_from_deployment(deployment_id).id
    of_flow_run = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}}
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        runs: list[dict[str, Any]] = client.request(
            "POST", "/task_runs/filter", json=of_flow_run
        ).json()
        if len(runs) == 2 and all(run["state_type"] == "COMPLETED" for run in runs):
            break
        if time.monotonic() > deadline:
            raise MeasurementError(f"The plain flow run {flow_run_id} did not end")
        time.sleep(_POLL_SECONDS)
    first, second = sorted(runs, key=lambda run: str(run["start_time"]))
    return (
        (_moment(first["start_time"]) - requested).total_seconds(),
        (_moment(second["start_time"]) - _moment(first["end_time"])).total_seconds(),
    )


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value)
