"""What Prefect knows of a run, and what recovery tells it. Gives what was set as transitions."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed

from mavedb_audit.hooks import pipeline_urn_of
from mavedb_audit.running import run_of_task
from mavedb_audit.states import (
    FINAL_STATE_TYPES,
    PipelineStatus,
    Run,
    RunKind,
    Source,
    Transition,
)

_GONE = "Its process is gone"


def flow_states(client: SyncPrefectClient, flow_run: FlowRun) -> list[Transition]:
    """All that the flow run went through."""
    return [_of_flow(flow_run, state) for state in client.read_flow_run_states(flow_run.id)]


def task_states(task_runs: Iterable[TaskRun]) -> list[Transition]:
    """Where the task runs are now."""
    return [
        _of_task(task_run, task_run.state) for task_run in task_runs if task_run.state is not None
    ]


def crash_flow(client: SyncPrefectClient, flow_run: FlowRun, why: str) -> list[Transition]:
    """End the flow run as crashed."""
    return _set_flow_state(client, flow_run, Crashed(message=f"{_GONE}: {why}"))


def cancel_flow(client: SyncPrefectClient, flow_run: FlowRun) -> list[Transition]:
    """End the flow run as cancelled."""
    return _set_flow_state(client, flow_run, Cancelled(message=_GONE))


def end_flow(
    client: SyncPrefectClient, flow_run: FlowRun, status: PipelineStatus
) -> list[Transition]:
    """End the flow run as its pipeline ended."""
    message = f"{_GONE}; its pipeline had ended before: {status}"
    match status:
        case PipelineStatus.SUCCEEDED:
            return _set_flow_state(client, flow_run, Completed(message=message))
        case PipelineStatus.PARTIAL:
            return _set_flow_state(client, flow_run, Completed(name="Partial", message=message))
        case PipelineStatus.CANCELLED:
            return _set_flow_state(client, flow_run, Cancelled(message=message))
        case _:
            return _set_flow_state(client, flow_run, Failed(message=message))


def retry_flow(client: SyncPrefectClient, flow_run: FlowRun, why: str) -> list[Transition]:
    """Have a worker run the flow again, as `prefect flow-run retry` does."""
    return _set_flow_state(client, flow_run, AwaitingRetry(message=why))


def end_task_run(
    client: SyncPrefectClient, task_run: TaskRun, *, is_done: bool
) -> list[Transition]:
    """End a task run whose process is gone: as completed where its step had committed."""
    state: State[Any] = (
        Completed(message=f"{_GONE}; the step had committed before")
        if is_done
        else Crashed(message=_GONE)
    )
    answer = client.set_task_run_state(task_run.id, state, force=True)
    return [] if answer.state is None else [_of_task(task_run, answer.state)]


def task_runs_of(client: SyncPrefectClient, flow_run_id: UUID) -> list[TaskRun]:
    """The task runs of the flow run that Prefect knows, of all its tries."""
    its = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    found: list[TaskRun] = []
    while page := client.read_task_runs(flow_run_filter=its, limit=200, offset=len(found)):
        found += page
    return found


def has_no_end(task_run: TaskRun) -> bool:
    """Whether the task run looks as if it ran, or were to run. One that is not ready stays so."""
    state = task_run.state
    return (
        state is not None
        and state.type.value not in FINAL_STATE_TYPES
        and (state.type is not StateType.PENDING or state.name != "NotReady")
    )


def _set_flow_state(
    client: SyncPrefectClient, flow_run: FlowRun, state: State[Any]
) -> list[Transition]:
    answer = client.set_flow_run_state(flow_run.id, state, force=True)
    return [] if answer.state is None else [_of_flow(flow_run, answer.state)]


def _of_flow(flow_run: FlowRun, state: State[Any]) -> Transition:
    run = Run(
        flow_run.id,
        RunKind.FLOW,
        flow_run.name,
        pipeline_urn=pipeline_urn_of(flow_run.id, flow_run.parameters),
    )
    return _transition(run, state, flow_run.run_count)


def _of_task(task_run: TaskRun, state: State[Any]) -> Transition:
    return _transition(run_of_task(task_run), state, task_run.run_count)


def _transition(run: Run, state: State[Any], run_count: int) -> Transition:
    return Transition(
        run=run,
        state_id=state.id,
        type=state.type.value,
        name=state.name or state.type.value.capitalize(),
        timestamp=state.timestamp,
        source=Source.RECOVERY,
        run_count=run_count,
        message=state.message,
    )
