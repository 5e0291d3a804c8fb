"""What the audit adds to a task of Prefect's that does nothing."""

import json

from deployments.local import processes
from deployments.local.bench.figures import Figure, Pair, Target, figure_of, ratio_at_most
from deployments.local.bench.noops import start_flows
from deployments.local.stack import Stack

_MOST = 1.05
_OBSTACLE = (
    "a step's begin and end are each committed before Prefect hears of them, and a plain task"
    " commits nothing; three commits and some twenty statements take several times what it takes"
)


def audited_task(stack: Stack, blocks: int, tasks_a_block: int) -> list[Figure]:
    """A whole audited step, and of it the hook alone, each beside a plain task.

    In milliseconds of the flow's time, one task after the other. A block is a flow run of so many
    tasks of each kind.
    """
    answers = stack.state / "bench-tasks.json"
    part = start_flows(stack, "tasks", answers, blocks, tasks_a_block)
    processes.wait_for_success(stack.state, part, within_seconds=600)
    measured: list[dict[str, float]] = json.loads(answers.read_text())

    def figure(name: str, kind: str, target: Target | None) -> Figure:
        pairs = [Pair(1000 * block[kind], 1000 * block["plain"]) for block in measured]
        return figure_of(name, "ms a task", pairs, target)

    return [
        figure("audited no-op task", "audited", ratio_at_most(_MOST, _OBSTACLE)),
        figure("plain task with the audit's hook", "hooked", None),
    ]
