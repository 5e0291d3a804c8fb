"""Run a pipeline's plan: one Prefect task for each job, in the order of the dependencies."""

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import Any
from uuid import UUID

from prefect import Task, allow_failure
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext, SyncClientContext
from prefect.exceptions import Abort
from prefect.flow_runs import asuspend_flow_run
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Cancelled, Completed, Failed

from mavedb_audit.database import connect, patiently
from mavedb_audit.errors import RequestError
from mavedb_audit.hooks import pipeline_urn_of, record_task_states
from mavedb_audit.locks import flow_lock
from mavedb_audit.pipelines import DependencyType
from mavedb_audit.prefect_ui import show_flow_run, summarise
from mavedb_audit.recorder.crashes import was_given_up
from mavedb_audit.recorder.pausing import is_paused, lock_if_paused, resume_pipeline
from mavedb_audit.recorder.plans import (
    OpenedJob,
    PlannedPipeline,
    find_pipeline,
    open_pipeline,
    plan_pipeline,
    settle_pipeline,
)
from mavedb_audit.states import PipelineStatus

#: What a flow that is told to end leaves its running steps. They may be killed at any moment.
_GRACE_SECONDS = 2.0


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
    assert context.flow_run.state is not None
    began_at = context.flow_run.state.timestamp
    # A sync task of an async flow would make itself a client of Prefect's API, which takes longer
    # than all else between two steps.
    with flow_lock(flow_run_id), _ending_soon_if_told_to(), SyncClientContext.get_or_create():
        return await _run(name, pipeline_urn, params, context.flow_run, began_at)


async def _run(
    name: str,
    pipeline_urn: str | None,
    params: Mapping[str, Any],
    flow_run: FlowRun,
    began_at: datetime,
) -> State[Any]:
    flow_run_id = flow_run.id
    try:
        pipeline, jobs = await asyncio.to_thread(
            patiently(_open), name, pipeline_urn, params, flow_run_id
        )
    except RequestError as error:
        return Failed(message=str(error))
    if pipeline_urn is None:
        await asyncio.to_thread(
            show_flow_run, pipeline.pipeline_id, flow_run_id, flow_run.tags or ()
        )
    look = functools.partial(patiently(_is_paused), pipeline.pipeline_id, flow_run_id, began_at)

    async def is_paused_now() -> bool:
        return await asyncio.to_thread(look)

    futures = await _run_steps(pipeline.pipeline_id, jobs, is_paused_now)
    await is_paused_now()
    states = {key: (future.task_run_id, future.state) for key, future in futures.items()}
    ended = await asyncio.to_thread(patiently(_settle), pipeline, flow_run_id, states)
    await asyncio.to_thread(summarise, flow_run_id)
    return ended


def _is_paused(pipeline_id: int, flow_run_id: UUID, began_at: datetime) -> bool:
    """Whether the pipeline is paused.

    Ends without a word to Prefect when this process was taken for dead: another one runs in its
    place, and whatever this one says would end that one.
    """
    with connect() as connection:
        if was_given_up(connection, flow_run_id, began_at):
            raise Abort("It was taken for dead, and is tried again elsewhere.")
        return is_paused(connection, pipeline_id)


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


async def _run_steps(
    pipeline_id: int,
    jobs: Sequence[OpenedJob],
    is_paused_now: Callable[[], Awaitable[bool]],
) -> dict[str, PrefectConcurrentFuture[Any]]:
    """Submit each step once those it comes after have ended. Returns when all have ended.

    Between steps a paused pipeline's flow run is suspended: Prefect's Pause ends the process.
    """
    waiting = {job.key: job for job in jobs}
    futures: dict[str, PrefectConcurrentFuture[Any]] = {}
    running: dict[asyncio.Future[Any], str] = {}
    while waiting or running:
        unfinished = {*waiting, *running.values()}
        ready = [job for job in waiting.values() if unfinished.isdisjoint(job.step.after)]
        paused = bool(ready) and await is_paused_now()
        if paused and not running:
            await asyncio.to_thread(_suspend_if_paused, pipeline_id)
            continue
        for job in [] if paused else ready:
            futures[job.key] = _submit(waiting.pop(job.key), futures)
            running[asyncio.wrap_future(futures[job.key].wrapped_future)] = job.key
        # While these run, so that the next need not wait for it.
        await asyncio.to_thread(_import_steps, [job.function for job in waiting.values()])
        # Without a thread of our own, so that the flow's loop hears its signals at once.
        ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for end in ended:
            futures[running.pop(end)].wait()  # at once: it lets the future know its final state
    return futures


def _import_steps(job_functions: Sequence[str]) -> None:
    for job_function in job_functions:
        task_of(job_function)


def _submit(
    job: OpenedJob, futures: Mapping[str, PrefectConcurrentFuture[Any]]
) -> PrefectConcurrentFuture[Any]:
    parents: list[Any] = [futures[key] for key in job.step.after if key in futures]
    if job.step.dependency_type is DependencyType.COMPLETION_REQUIRED:
        parents = [allow_failure(parent) for parent in parents]
    step = task_of(job.function).with_options(task_run_name=job.key)
    future: PrefectConcurrentFuture[Any] = step.submit(wait_for=parents, **job.params)
    return future


def _suspend_if_paused(pipeline_id: int) -> None:
    """Suspend this flow run, unless the pipeline was resumed meanwhile, by us or in Prefect.

    Prefect lets each pause suspend a flow run once. The pipeline stays locked, so that nobody
    resumes it between our look at it and Prefect's suspension.
    """
    with connect() as connection, connection.begin():
        pause = lock_if_paused(connection, pipeline_id)
        if pause is not None:
            asyncio.run(asuspend_flow_run(key=pause))  # raises Pause when it is suspended
            resume_pipeline(connection, pipeline_id)


@contextmanager
def _ending_soon_if_told_to() -> Iterator[None]:
    """Leave steps that still run to their fate: Prefect's engine waits for them when it is told to
    end its flow run, and would be killed after half a minute."""
    try:
        yield
    except asyncio.CancelledError:
        end = threading.Timer(_GRACE_SECONDS, os._exit, [128 + signal.SIGTERM])
        end.daemon = True
        end.start()
        raise


def _settle(
    pipeline: PlannedPipeline,
    flow_run_id: UUID,
    states: Mapping[str, tuple[UUID, State[Any]]],
) -> State[Any]:
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
