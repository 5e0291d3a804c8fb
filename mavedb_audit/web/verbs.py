"""The operators' verbs as buttons: what each is called here, when it is offered, what it does."""

from collections.abc import Callable
from dataclasses import dataclass

from mavedb_audit import operations
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES, PipelineStatus

_OPEN = frozenset(PipelineStatus) - TERMINAL_PIPELINE_STATUSES
_UNSUCCESSFUL = TERMINAL_PIPELINE_STATUSES - {PipelineStatus.SUCCEEDED}


@dataclass(frozen=True)
class Verb:
    """A verb of `operations`, offered for pipelines of some statuses."""

    operate: Callable[..., object]
    label: str
    explanation: str
    offered_for: frozenset[PipelineStatus]
    is_destructive: bool = False

    @property
    def path(self) -> str:
        return self.operate.__name__.replace("_", "-")


VERBS = {
    verb.path: verb
    for verb in (
        Verb(
            operations.pause,
            "Pause",
            "A step that runs goes on to its end; no further one starts. A paused pipeline holds no"
            " worker, and goes on when it is resumed.",
            frozenset({PipelineStatus.CREATED, PipelineStatus.RUNNING}),
        ),
        Verb(
            operations.resume,
            "Resume",
            "It goes on with the steps that had not begun.",
            frozenset({PipelineStatus.PAUSED}),
        ),
        Verb(
            operations.retry_failed,
            "Retry what failed",
            "The failed steps run again, and those that were skipped because of them. What"
            " succeeded stays.",
            frozenset({PipelineStatus.FAILED, PipelineStatus.PARTIAL}),
        ),
        Verb(
            operations.retry_unsuccessful,
            "Retry all that did not succeed",
            "The failed, cancelled and skipped steps run again. What succeeded stays.",
            _UNSUCCESSFUL,
        ),
        Verb(
            operations.restart,
            "Restart",
            "All steps run again from the start. What has not ended is cancelled first; earlier"
            " attempts stay as evidence.",
            frozenset(PipelineStatus),
            is_destructive=True,
        ),
        Verb(
            operations.cancel,
            "Cancel",
            "Its open steps end now, and their variants are told so. What they have written stays.",
            _OPEN,
            is_destructive=True,
        ),
    )
}
RERUN_FAILED = Verb(
    operations.rerun_failed_variants,
    "Annotate the failed variants again",
    "A new pipeline annotates those variants again that have a failed annotation, and leaves the"
    " others alone.",
    frozenset(),
)


def offered(status: str) -> list[Verb]:
    """What can be done to a pipeline of that status."""
    return [verb for verb in VERBS.values() if status in verb.offered_for]
