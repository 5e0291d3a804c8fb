"""What each Prefect state means for a job and for a pipeline: one table, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from mavedb_audit.failure_categories import FailureCategory


class JobStatus(StrEnum):
    """MaveDB's values of job_runs.status."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    #: Failed by an exception that nobody expected; only newer releases of MaveDB tell it apart.
    ERRORED = "errored"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class PipelineStatus(StrEnum):
    """MaveDB's values of pipelines.status."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARTIAL = "partial"


TERMINAL_JOB_STATUSES = frozenset(
    {
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.ERRORED,
        JobStatus.CANCELLED,
        JobStatus.SKIPPED,
    }
)
TERMINAL_PIPELINE_STATUSES = frozenset(
    {
        PipelineStatus.SUCCEEDED,
        PipelineStatus.FAILED,
        PipelineStatus.CANCELLED,
        PipelineStatus.PARTIAL,
    }
)
#: Prefect's terminal state types.
FINAL_STATE_TYPES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
#: The names that Prefect and our flows give to states of each type.
STATE_NAMES: Mapping[str, frozenset[str]] = {
    "SCHEDULED": frozenset(
        {"Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"}
    ),
    "PENDING": frozenset({"Pending", "Submitting", "InfrastructurePending", "NotReady"}),
    "RUNNING": frozenset({"Running", "Retrying"}),
    "PAUSED": frozenset({"Paused", "Suspended"}),
    "CANCELLING": frozenset({"Cancelling"}),
    "COMPLETED": frozenset(
        {"Completed", "Cached", "RolledBack", "DoneBefore", "Skipped", "Partial"}
    ),
    "FAILED": frozenset({"Failed", "TimedOut"}),
    "CANCELLED": frozenset({"Cancelled"}),
    "CRASHED": frozenset({"Crashed"}),
}


class RunKind(StrEnum):
    FLOW = "flow"
    TASK = "task"


class Source(StrEnum):
    """Who witnessed a transition: values of prefect_transitions.source."""

    STEP = "step"
    HOOK = "hook"
    MIRROR = "mirror"
    RECONCILER = "reconciler"
    RECOVERY = "recovery"


@dataclass(frozen=True)
class Run:
    """A Prefect flow run or task run, with what binds it to a pipeline or a job.

    `name` is the run's name: a planned task run's name starts with its job key. `flow_run_id` is a
    task run's flow run. `pipeline_urn` is a flow run's parameter of that name.
    """

    run_id: UUID
    kind: RunKind
    name: str
    flow_run_id: UUID | None = None
    pipeline_urn: str | None = None

    @property
    def job_key(self) -> str | None:
        return self.name.split(" ", 1)[0] if self.kind is RunKind.TASK else None


@dataclass(frozen=True)
class Transition:
    """One state that a run entered. `state_id` is Prefect's own, the same from every source.

    `category` is known to a witness in the process, who has the exception at hand.
    """

    run: Run
    state_id: UUID
    type: str
    name: str
    timestamp: datetime
    source: Source
    run_count: int | None = None
    message: str | None = None
    category: FailureCategory | None = None


#: A state type's meaning for a job, unless its name says something else (below).
_JOB_STATUS_OF_TYPE: Mapping[str, JobStatus] = {
    "SCHEDULED": JobStatus.QUEUED,
    "PENDING": JobStatus.QUEUED,
    "RUNNING": JobStatus.RUNNING,
    "PAUSED": JobStatus.QUEUED,
    "CANCELLING": JobStatus.RUNNING,
    "COMPLETED": JobStatus.SUCCEEDED,
    "FAILED": JobStatus.FAILED,
    "CRASHED": JobStatus.FAILED,
    "CANCELLED": JobStatus.CANCELLED,
}
_JOB_STATUS_OF_NAME: Mapping[str, JobStatus] = {
    # Prefect leaves a task whose upstream failed in this pending state for good.
    "NotReady": JobStatus.SKIPPED,
    # The name that our steps give to a Completed state when there was nothing to do.
    "Skipped": JobStatus.SKIPPED,
}


def job_status(state_type: str, state_name: str) -> JobStatus:
    """The job status that a task run's state stands for. Unknown names count by their type."""
    return _JOB_STATUS_OF_NAME.get(state_name, _JOB_STATUS_OF_TYPE[state_type])
