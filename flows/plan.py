"""Run a pipeline's plan: one Prefect task for each job, in the order of the dependencies."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any
from uuid import UUID

from prefect import Task, allow_failure
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Cancelled, Completed, Failed

from mavedb_audit.database import connect, patiently
from mavedb_audit.errors import RequestError
from mavedb_audit.hooks import pipeline_urn_of, record_task_states
from mavedb_audit.locks import flow_lock
from mavedb_audit.pipelines import DependencyType
from mavedb_audit.recorder.plans import (
    OpenedJob,
    PlannedPipeline,
    find_pipeline,
    latest_run_count,
    open_pipeline,
    plan_pipeline,
    settle_pipeline,
)
from mavedb_audit.states import PipelineStatus


def task_of(job_function: str) -> Task[..., Any]:
    """The audited task of a job function: tasks/<job function>.py holds it under the same name."""
    found = getattr(import_module(f"tasks.{job_function}"), job_function)
    assert isinstance(found, Task)
    return found


async def run_plan(name: str, pipeline_urn: str | None, params: Mapping[str, Any]) -> State[Any]:
    """Run the pipeline of that URN; without one, plan the pipeline `name` with `params` first.

    Ends Completed when every job succeeded, Completed under the name Partial when only jobs that
    nothing depends on did not, else Failed or Cancelled. The message names what did not succeed.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    flow_run_id = context.flow_run.id
    run_count = context.flow_run.run_count
    with flow_lock(flow_run_id):
        return await _run(name, pipeline_urn, params, flow_run_id, run_count)


async def _run(
    name: str,
    pipeline_urn: str | None,
    params: Mapping[str, Any],
    flow_run_id: UUID,
    run_count: int,
) -> State[Any]:
    try:
        pipeline, jobs = await asyncio.to_thread(
            patiently(_open), name, pipeline_urn, params, flow_run_id
        )
    except RequestError as error:
        return Failed(message=str(error))
    futures = _submit(jobs)
    await _wait_for_all(futures.values())
    states = {key: (future.task_run_id, future.state) for key, future in futures.items()}
    return await asyncio.to_thread(patiently(_settle), pipeline, flow_run_id, run_count, states)


def _open(
    name: str, pipeline_urn: str | None, params: Mapping[str, Any], flow_run_id: UUID
) -> tuple[PlannedPipeline, list[OpenedJob]]:
    with connect() as connection, connection.begin():
        if pipeline_urn is not None:
            pipeline = find_pipeline(connection, pipeline_urn)
        else:
            given = {key: value for key, value in params.items() if key != "correlation_id"}
            pipeline = plan_pipeline(
                connection,
                name,
                given,
                user_id=params.get("updater_id"),
                correlation_id=params.get("correlation_id"),
                urn=pipeline_urn_of(flow_run_id, None),
            )
        return pipeline, open_pipeline(connection, name, pipeline, flow_run_id)


def _submit(jobs: Sequence[OpenedJob]) -> dict[str, PrefectConcurrentFuture[Any]]:
    futures: dict[str, PrefectConcurrentFuture[Any]] = {}
    for job in jobs:
        parents: list[Any] = [futures[key] for key in job.step.after if key in futures]
        if job.step.dependency_type is DependencyType.COMPLETION_REQUIRED:
            parents = [allow_failure(parent) for parent in parents]
        step = task_of(job.function).with_options(task_run_name=job.key)
        futures[job.key] = step.submit(wait_for=parents, **job.params)
    return futures


async def _wait_for_all(futures: Iterable[PrefectConcurrentFuture[Any]]) -> None:
    """Wait without a thread of our own, so that the flow's loop hears its signals at once."""
    waited_for = list(futures)
    await asyncio.gather(
        *(asyncio.wrap_future(future.wrapped_future) for future in waited_for),
        return_exceptions=True,
    )
    for future in waited_for:
        future.wait()  # returns at once, and lets the future know its final state


def _settle(
    pipeline: PlannedPipeline,
    flow_run_id: UUID,
    run_count: int,
    states: Mapping[str, tuple[UUID, State[Any]]],
) -> State[Any]:
    with connect() as connection:
        is_current = run_count >= latest_run_count(connection, flow_run_id)
    if is_current:
        # A run that was taken for dead and retried elsewhere has nothing to say about its jobs.
        record_task_states(flow_run_id, states)
    with connect() as connection, connection.begin():
        status, unsuccessful = settle_pipeline(connection, pipeline.pipeline_id)
    message = "; ".join(unsuccessful)
    match status:
        case PipelineStatus.SUCCEEDED:
            return Completed(message="Every step succeeded.")
        case PipelineStatus.PARTIAL:
            return Completed(name="Partial", message=message)
        case PipelineStatus.CANCELLED:
            return Cancelled(message=message)
        case _:
            return Failed(message=message)
