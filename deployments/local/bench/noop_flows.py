"""Flow runs whose tasks do nothing. `noops.start_flows` runs this in a process of its own.

`tasks ANSWERS BLOCKS TASKS` and `stream ANSWERS RATE SECONDS` write to the file ANSWERS, as JSON,
what was measured.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext

from deployments.local.bench.figures import MeasurementError
from deployments.local.bench.noops import noop_key, plan_noops
from mavedb_audit.database import connect
from mavedb_audit.hooks import audited_task, pipeline_urn_of, record_task_state
from mavedb_audit.locks import flow_lock
from mavedb_audit.recorder.transitions import bind_flow_run
from mavedb_audit.states import Run, RunKind
from mavedb_audit.steps import Step

#: The mirror records the runs of the flows that we deploy, and no others.
_OUR_FLOW = "publish_score_set"
_WARM_UP = 3
_SERVER_TAKES_SECONDS = 120.0
_STREAMING_FLOWS = 10
_all_ready = asyncio.Barrier(_STREAMING_FLOWS)


@task
def plain() -> None:
    """Nothing."""


@task(on_completion=[record_task_state])
def hooked() -> None:
    """Nothing; its end is recorded, and moves its job."""


@audited_task
def audited(step: Step) -> None:
    """Nothing, as a step."""
    with step.finishing():
        pass


@task
async def plain_async() -> None:
    """Nothing."""


def _plan(jobs: int) -> UUID:
    """Plan the current flow run's pipeline. Returns the flow run's id."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    id_ = context.flow_run.id
    urn = pipeline_urn_of(id_, None)
    with connect() as connection, connection.begin():
        plan_noops(connection, [id_], jobs)
        bind_flow_run(connection, Run(id_, RunKind.FLOW, context.flow_run.name, pipeline_urn=urn))
    return id_


@flow(name=_OUR_FLOW)
def one_after_the_other(tasks: int) -> dict[str, float]:
    """The seconds that a task of each kind takes, of so many after a few to warm up."""
    each = _WARM_UP + tasks
    flow_run_id = _plan(2 * each)
    keys = [noop_key(number) for number in range(2 * each)]
    blocks: dict[str, list[Callable[[], Any]]] = {
        "plain": [plain] * each,
        "hooked": [hooked.with_options(task_run_name=key) for key in keys[:each]],
        "audited": [audited.with_options(task_run_name=key) for key in keys[each:]],
    }
    seconds = {}
    with flow_lock(flow_run_id), get_client(sync_client=True) as client:
        for number, (kind, block) in enumerate(blocks.items(), start=1):
            seconds[kind] = _seconds_a_task(block)
            _wait_for_server(client, flow_run_id, number * each)
    return seconds


def _seconds_a_task(tasks: Sequence[Callable[[], Any]]) -> float:
    for warm_up in tasks[:_WARM_UP]:
        warm_up()
    began = time.perf_counter()
    for measured in tasks[_WARM_UP:]:
        measured()
    return (time.perf_counter() - began) / (len(tasks) - _WARM_UP)


def _wait_for_server(client: SyncPrefectClient, flow_run_id: UUID, tasks: int) -> None:
    """Wait until Prefect's server has the ends of so many tasks, so that what it still does with
    one block does not slow the next."""
    its_ended_tasks = {
        "flow_runs": {"id": {"any_": [str(flow_run_id)]}},
        "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    deadline = time.monotonic() + _SERVER_TAKES_SECONDS
    while client.request("POST", "/task_runs/count", json=its_ended_tasks).json() < tasks:
        if time.monotonic() > deadline:
            raise MeasurementError("Prefect's server does not have the ends of its task runs")
        time.sleep(0.1)


@flow(name=_OUR_FLOW)
async def streaming(tasks: int, interval: float, offset: float) -> float:
    """Run so many tasks, one begun each `interval` seconds, however long each takes.

    Returns the seconds until the last was begun.
    """
    with flow_lock(await asyncio.to_thread(_plan, tasks)):
        await _all_ready.wait()
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = []
        for number in range(tasks):
            await asyncio.sleep(began + offset + number * interval - loop.time())
            noop = plain_async.with_options(task_run_name=noop_key(number))
            running.append(asyncio.create_task(noop()))
        took = loop.time() - began
        await asyncio.gather(*running)
        return took


async def _stream(rate: int, seconds: int) -> float:
    """Begin so many task runs a second, by flow runs beside each other. Returns the seconds it took
    to begin them all."""
    tasks = rate * seconds // _STREAMING_FLOWS
    interval = _STREAMING_FLOWS / rate
    took = await asyncio.gather(
        *(streaming(tasks, interval, number / rate) for number in range(_STREAMING_FLOWS))
    )
    return max(took)


def main() -> None:
    what, answers, first, second = sys.argv[1:]
    measured: Any
    if what == "tasks":
        measured = [one_after_the_other(int(second)) for _ in range(int(first))]
    else:
        measured = asyncio.run(_stream(int(first), int(second)))
    Path(answers).write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
