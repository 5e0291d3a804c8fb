"""How long a pipeline still takes, from what its steps do."""

from collections.abc import Sequence

from mavedb_audit.queries.pipelines import Step
from mavedb_audit.states import TERMINAL_JOB_STATUSES


def seconds_left(steps: Sequence[Step]) -> float | None:
    """Until the last step has ended, if each starts as soon as those that it waits for have ended.

    The steps are in the order of their plan. None where the time of one that is open is not known.
    """
    left: dict[str, float] = {}
    for step in steps:
        if step.status in TERMINAL_JOB_STATUSES:
            continue
        if step.remaining_seconds is None:
            return None
        waits = max((left.get(key, 0.0) for key in step.after), default=0.0)
        left[step.job_key] = waits + step.remaining_seconds
    return max(left.values(), default=None)
