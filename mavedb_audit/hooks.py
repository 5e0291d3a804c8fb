"""Prefect's decorators with the audit already on: audited_flow and audited_task."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

import prefect
from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from mavedb_audit.database import connect
from mavedb_audit.errors import DatabaseUnreachableError, ServiceError
from mavedb_audit.failures import classify
from mavedb_audit.logs import logger_of
from mavedb_audit.prefect_ui import summarise
from mavedb_audit.recorder import transitions
from mavedb_audit.recorder.closing import lock_for_closing
from mavedb_audit.recorder.moves import close_open_jobs
from mavedb_audit.running import run_as_attempt, run_of_task, transition_of
from mavedb_audit.settings import settings
from mavedb_audit.states import FINAL_STATE_TYPES, Run, RunKind, Source, Transition
from mavedb_audit.steps import Step

P = ParamSpec("P")
logger = logger_of(__name__)


def pipeline_urn_of(flow_run_id: UUID, parameters: dict[str, Any] | None) -> str:
    """The URN of the flow run's pipeline: the one it was given, or, unplanned, one of its own."""
    return (parameters or {}).get("pipeline_urn") or f"urn:mavedb:pipeline-{flow_run_id}"


def audited_flow(
    body: Callable[P, Coroutine[Any, Any, State[Any]]],
) -> Flow[P, Coroutine[Any, Any, State[Any]]]:
    """A Prefect flow of the function's name whose states are recorded as it enters them."""
    return prefect.flow(
        name=body.__name__,
        on_running=[record_flow_state],
        on_completion=[record_flow_state],
        on_failure=[record_flow_state],
        on_cancellation=[close_cancelled_flow],
        on_crashed=[record_flow_state],
    )(body)


def audited_task(body: Callable[Concatenate[Step, P], None]) -> Task[P, State[Any]]:
    """A Prefect task of the function's name that runs it as one attempt of its job.

    The function takes a Step first, which the task's own signature lacks, and then the job's
    parameters. It is retried by Prefect when its failure is worth it.
    """
    signature = inspect.signature(body)
    parameters = list(signature.parameters.values())[1:]

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        return run_as_attempt(lambda step: body(step, *args, **kwargs))

    # The Step is ours to give, not the flow's; mypy knows no such attribute of a function.
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=State
    )
    delays = settings().step_retry_delays_seconds
    return prefect.task(
        name=body.__name__,
        retries=len(delays),
        retry_delay_seconds=delays,
        retry_condition_fn=is_worth_another_try,
        cache_policy=NO_CACHE,
        persist_result=False,
        on_completion=[record_task_state],
        on_failure=[record_task_state],
    )(run)


#: A service that asks for a longer wait is asked again after this one.
_LONGEST_RETRY_AFTER_SECONDS = 3600.0


def is_worth_another_try(task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: the failure's category decides.

    Prefect asks it right before it chooses the wait, from the task's own delays. Where the service
    said how long to wait, no delay of this task run stays below that.
    """
    error = state.data
    if not isinstance(error, BaseException) or not classify(error).retryable:
        return False
    if isinstance(error, ServiceError) and error.retry_after_seconds:
        asked = min(error.retry_after_seconds, _LONGEST_RETRY_AFTER_SECONDS)
        task.retry_delay_seconds = [
            max(asked, delay) for delay in settings().step_retry_delays_seconds
        ]
    return True


def record_task_state(
    task: Task[..., Any],  # noqa: ARG001 - Prefect passes it
    task_run: TaskRun,
    state: State[Any],
) -> None:
    """The hook of every audited task, for its end: its attempt records how it began."""
    witnessed = transition_of(run_of_task(task_run), task_run.run_count, state, Source.HOOK)
    if isinstance(state.data, BaseException):
        failure = classify(state.data)
        witnessed = replace(witnessed, message=failure.message, category=failure.category)
    record_quietly([witnessed])


def record_flow_state(
    flow: Flow[..., Any],  # noqa: ARG001 - Prefect passes it
    flow_run: FlowRun,
    state: State[Any],
) -> None:
    """The hook of every audited flow."""
    record_quietly([transition_of(_run_of_flow(flow_run), flow_run.run_count, state, Source.HOOK)])


def close_cancelled_flow(
    flow: Flow[..., Any],  # noqa: ARG001 - Prefect passes it
    flow_run: FlowRun,
    state: State[Any],
) -> None:
    """The hook of a cancelled flow run: close what it leaves open.

    Prefect calls it in the process that killed the flow, with a state of its own making that its
    server never has, so no transition is recorded here.
    """
    run = _run_of_flow(flow_run)

    def close(connection: Connection) -> None:
        pipeline_id = transitions.bind_flow_run(connection, run)
        if pipeline_id is not None:
            lock_for_closing(connection, [pipeline_id])
            close_open_jobs(connection, pipeline_id, "CANCELLED", state.message or "in Prefect")

    _write_quietly(close, what=f"the cancellation of {run.name}", may_take_long=True)
    summarise(flow_run.id)


def record_quietly(batch: Sequence[Transition]) -> None:
    """Record the states, or log once that they could not be: a hook never fails its run.

    What is not recorded here the reconciler finds in Prefect.
    """
    ends_flow = any(t.run.kind is RunKind.FLOW and t.type in FINAL_STATE_TYPES for t in batch)
    _write_quietly(
        lambda connection: transitions.record(connection, batch),
        what=f"{len(batch)} state(s)",
        may_take_long=ends_flow,
    )


def _write_quietly(write: Callable[[Connection], None], *, what: str, may_take_long: bool) -> None:
    """Waits for locks and, unless it may take long, for each statement a few seconds at most.

    The end of a flow may take long: nothing runs any more that it would hold up, and it may have
    to account for every variant.
    """
    limit = str(settings().hook_timeout_seconds * 1000)
    try:
        with connect() as connection, connection.begin():
            connection.execute(
                text(
                    "SELECT set_config('lock_timeout', :limit, true),"
                    " set_config('statement_timeout', :statements, true)"
                ),
                {"limit": limit, "statements": "0" if may_take_long else limit},
            )
            write(connection)
    except (SQLAlchemyError, DatabaseUnreachableError) as error:
        logger.warning("hook.not_recorded", what=what, error=str(error))


def _run_of_flow(flow_run: FlowRun) -> Run:
    return Run(
        run_id=flow_run.id,
        kind=RunKind.FLOW,
        name=flow_run.name,
        pipeline_urn=pipeline_urn_of(flow_run.id, flow_run.parameters),
    )


def record_task_states(flow_run_id: UUID, states: Mapping[str, tuple[UUID, State[Any]]]) -> None:
    """Record the states that a flow's task runs ended in, by job key.

    It brings what no hook sees: tasks that were never ready, and tasks that crashed or were
    cancelled.
    """
    record_quietly(
        [
            transition_of(
                Run(task_run_id, RunKind.TASK, job_key, flow_run_id), 0, state, Source.HOOK
            )
            for job_key, (task_run_id, state) in states.items()
        ]
    )
