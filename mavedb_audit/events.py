"""What Prefect's events say of flow runs and task runs: pure functions, no I/O."""

from prefect.client.schemas.objects import StateType
from prefect.events.schemas.events import Event

from mavedb_audit.hooks import pipeline_urn_of
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.states import Run, RunKind, Source, Transition

#: Flows that look after the audit. They run no pipeline, but leave a record, too.
UPKEEP_FLOWS = frozenset({"recover_stalled_runs", "reconcile_audit"})
OUR_FLOWS = frozenset(PIPELINES) | UPKEEP_FLOWS

#: The events of each kind of run start so. An event of a state ends with the state's name.
PREFIXES = {
    RunKind.FLOW: "prefect.flow-run.",
    RunKind.TASK: "prefect.task-run.",
}


class MalformedEventError(Exception):
    """The event of a state that lacks a part, or holds one that cannot be read.

    `kind` is the same for every event with that fault.
    """

    def __init__(self, kind: str, event: Event) -> None:
        super().__init__(f"{kind} in the event {event.id} ({event.event}, {event.resource.id})")
        self.kind = kind


def transition_of(event: Event) -> Transition | None:
    """The state that a run entered by this event; None for any other event, such as a heartbeat.

    The event bears the state's id and time. A flow run's pipeline is the one of its own URN: one
    that was requested is found by the request. Raises MalformedEventError.
    """
    kind = next((kind for kind in RunKind if event.event.startswith(PREFIXES[kind])), None)
    state_type = event.resource.get("prefect.state-type")
    if kind is None or state_type is None:
        return None
    if state_type not in StateType.__members__:
        raise MalformedEventError(f"an unknown state type {state_type!r}", event)
    return Transition(
        run=_run_of(event, kind),
        state_id=event.id,
        type=state_type,
        name=event.resource.get("prefect.state-name") or state_type.capitalize(),
        timestamp=event.occurred,
        source=Source.MIRROR,
        run_count=_run_count(event),
        message=event.resource.get("prefect.state-message") or None,
    )


def flow_name_of(event: Event) -> str | None:
    """The name of the flow that the run belongs to, if the event says it."""
    flow = event.resource_in_role.get("flow")
    return None if flow is None else flow.name


def _run_of(event: Event, kind: RunKind) -> Run:
    try:
        run_id = event.resource.prefect_object_id(f"prefect.{kind}-run")
        flow_run = event.resource_in_role.get("flow-run") if kind is RunKind.TASK else None
        flow_run_id = None if flow_run is None else flow_run.prefect_object_id("prefect.flow-run")
    except ValueError:
        raise MalformedEventError("a run id that is no UUID", event) from None
    if kind is RunKind.TASK:
        return Run(run_id, kind, _task_run_name(event), flow_run_id)
    return Run(run_id, kind, _name(event), pipeline_urn=pipeline_urn_of(run_id, None))


def _name(event: Event) -> str:
    if not event.resource.name:
        raise MalformedEventError("no name of the run", event)
    return event.resource.name


def _task_run_name(event: Event) -> str:
    """The task run's name, without what Prefect appends to it until the run begins.

    Before that Prefect calls a task run by its task and the start of its dynamic key. A job's
    key, which the run is named by later, is in most plans the task's name.
    """
    task_run = event.payload.get("task_run")
    dynamic_key = task_run.get("dynamic_key") if isinstance(task_run, dict) else None
    if isinstance(dynamic_key, str) and _run_count(event) == 0:
        return _name(event).removesuffix(f"-{dynamic_key[:3]}")
    return _name(event)


def _run_count(event: Event) -> int:
    count = event.resource.get("prefect.run-count") or ""
    if not count.isdecimal():
        raise MalformedEventError("a run count that is no number", event)
    return int(count)
