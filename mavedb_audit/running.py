"""Run a step's code as one attempt of the job that its Prefect task run is planned for."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Cancelled, Completed, Failed
from sqlalchemy.exc import SQLAlchemyError

from mavedb_audit.database import connect_patiently
from mavedb_audit.errors import DatabaseUnreachableError, MaveDBAuditError, StepError
from mavedb_audit.failures import Failure, classify
from mavedb_audit.locks import step_lock
from mavedb_audit.logs import logger_of, saying
from mavedb_audit.prefect_ui import StepProgress
from mavedb_audit.recorder import attempts
from mavedb_audit.recorder.attempts import (
    Attempt,
    AttemptLostError,
    DoneBefore,
    Job,
    NotStartable,
)
from mavedb_audit.recorder.transitions import record_runs
from mavedb_audit.states import JobStatus, Run, RunKind, Source, Transition
from mavedb_audit.steps import Step
from mavedb_audit.tracing import mark_failed, span

logger = logger_of(__name__)


def run_of_task(task_run: TaskRun) -> Run:
    """The task run as the audit names it."""
    return Run(
        run_id=task_run.id,
        kind=RunKind.TASK,
        name=task_run.name,
        flow_run_id=task_run.flow_run_id,
    )


def transition_of(run: Run, run_count: int, state: State[Any], source: Source) -> Transition:
    """A state that a witness in the process saw the run enter."""
    return Transition(
        run=run,
        state_id=state.id,
        type=state.type.value,
        name=state.name or state.type.value.capitalize(),
        timestamp=state.timestamp,
        source=source,
        run_count=run_count,
        message=state.message,
    )


def run_as_attempt(body: Callable[[Step], None]) -> State[Any]:
    """Run the body as an attempt of the job that the current task run is planned for."""
    context = TaskRunContext.get()
    if context is None or context.task_run.flow_run_id is None:
        raise RuntimeError("A step runs as a task of a flow, under the job that was planned for it")
    task_run, flow_run_id = context.task_run, context.task_run.flow_run_id
    job = _planned_job(flow_run_id, task_run)
    # Prefect counts runs from 1, and gives a task run one more than its retries.
    tries_left = task_run.run_count <= context.task.retries
    with ExitStack() as held:
        held.enter_context(
            saying(
                correlation_id=job.correlation_id,
                pipeline_urn=job.pipeline_urn,
                job_urn=job.urn,
                step=job.key,
            )
        )
        try:
            held.enter_context(
                step_lock(job.score_set_id, job.key, on_wait=lambda: _report_wait(job))
            )
        except StepError as error:
            return Failed(message=str(error), data=error)
        begun = _begin(job, flow_run_id, task_run)
        match begun:
            case DoneBefore():
                return Completed(name="DoneBefore", message="It had succeeded already.")
            case NotStartable(status=JobStatus.SKIPPED):
                return Completed(name="Skipped", message=begun.failure.message)
            case NotStartable():
                return Cancelled(message=begun.failure.message)
            case Attempt():
                progress = StepProgress(flow_run_id, task_run.id)
                return _run_seen(Step(begun, tries_left, progress), body)


def _report_wait(job: Job) -> None:
    with connect_patiently() as connection, connection.begin():
        attempts.report_wait(connection, job)


def _planned_job(flow_run_id: UUID, task_run: TaskRun) -> Job:
    job_key = run_of_task(task_run).job_key or ""
    with connect_patiently() as connection:
        job = attempts.find_job(connection, flow_run_id, job_key)
    if job is None:
        raise RuntimeError(
            f"No job {job_key!r} is planned for the flow run {flow_run_id}:"
            " a step runs only within a pipeline of mavedb_audit/pipelines.py"
        )
    return job


def _begin(job: Job, flow_run_id: UUID, task_run: TaskRun) -> Attempt | DoneBefore | NotStartable:
    """Begin the attempt, and with it record the state that Prefect entered to run it."""
    assert task_run.state is not None
    entered = transition_of(run_of_task(task_run), task_run.run_count, task_run.state, Source.STEP)
    with connect_patiently() as connection, connection.begin():
        # What the job makes of it is decided below.
        record_runs(connection, [entered])
        return attempts.begin_attempt(
            connection,
            job,
            flow_run_id=flow_run_id,
            task_run_id=task_run.id,
            run_count=task_run.run_count,
            host=socket.gethostname(),
            process_id=os.getpid(),
        )


def _run_seen(step: Step, body: Callable[[Step], None]) -> State[Any]:
    """Run the attempt, told in the log and as a span."""
    number = step.attempt.number
    logger.info("attempt.began", attempt=number)
    with span("step", attempt=number):
        try:
            ended = _run_attempt(step, body)
        except Exception as error:
            logger.error("attempt.ended", attempt=number, state="Failed", error=str(error))
            raise
        if not ended.is_completed():
            mark_failed(ended.message or f"{ended.name}")
    logger.info("attempt.ended", attempt=number, state=ended.name)
    return ended


def _run_attempt(step: Step, body: Callable[[Step], None]) -> State[Any]:
    try:
        with step.meter.counting():
            body(step)
        if step.skipped_because is not None:
            return Completed(name="Skipped", message=step.skipped_because)
        if step.finish is None:
            raise RuntimeError(f"{step.attempt.job.function} returned without finishing its step")
    except AttemptLostError as lost:
        return Cancelled(message=str(lost))
    except Exception as error:
        failure = classify(error)
        _fail(step, failure)
        if isinstance(error, MaveDBAuditError):
            # Its message says it all: as a state it spares people a traceback of our code.
            return Failed(message=str(error), data=error)
        raise
    if step.finish.failure is not None:
        return Failed(message=str(step.finish.failure), data=step.finish.failure)
    return Completed(message=f"{step.attempt.job.key} succeeded", data=step.finish.data)


def _fail(step: Step, failure: Failure) -> None:
    used = step.meter.usage()
    try:
        with connect_patiently() as connection, connection.begin():
            step.fail(connection, failure, used)
    except AttemptLostError as lost:
        logger.warning("attempt.lost", why=str(lost), error=failure.message)
    except (SQLAlchemyError, DatabaseUnreachableError) as error:
        # The step's own error matters more. The attempt stays open for recovery, or for the next
        # attempt, which abandons it.
        logger.error("attempt.failure_unrecorded", failure=failure.message, error=str(error))
