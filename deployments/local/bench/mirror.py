"""How late the mirror is, beside a bare subscriber to the same stream of Prefect's events."""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect.events.clients import PrefectEventSubscriber
from prefect.events.filters import EventFilter, EventNameFilter
from sqlalchemy import Engine, text

from deployments.local import processes
from deployments.local.bench.figures import (
    Figure,
    MeasurementError,
    Pair,
    each_below,
    figure_of,
    p99,
    ratio_at_least,
)
from deployments.local.bench.noops import start_flows
from deployments.local.stack import Stack
from mavedb_audit.events import PREFIXES
from mavedb_audit.states import RunKind

#: More than Prefect's server bears on two slow cores tells of its queue alone.
_RATE = 20
_MOST_SECONDS = 0.5
_OBSTACLE = (
    "most of it is Prefect's own stream's; the mirror adds the fiftieth of a second in which it"
    " gathers a batch"
)
_LEAST_OF_STREAM = 0.9
_STATES_OF_A_TASK = 3
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 300.0

_STATES = """
      FROM prefect_transitions AS state JOIN prefect_runs AS run USING (run_id)
     WHERE run.kind = 'task' AND state.timestamp > :began
"""
_COUNT = text(f"SELECT count(*) {_STATES}")
#: A row's own time is that of its transaction's start: it is seen by others from the commit on.
_LAGS = text(
    f"""
    SELECT extract(epoch FROM pg_xact_commit_timestamp(state.xmin) - state.timestamp) {_STATES}
       AND state.source = 'mirror'
    """
)


@dataclass(frozen=True)
class _Stream:
    """What one stream of task runs brought, each as seconds after the state's own time: to the
    mirror's rows, from when others could see them, and to the bare subscriber."""

    states: int
    rate: float
    rows: Sequence[float]
    events: Sequence[float]

    @property
    def lags(self) -> Pair:
        return Pair(p99(self.rows), p99(self.events))

    @property
    def percent(self) -> Pair:
        return Pair(100 * len(self.rows) / self.states, 100 * len(self.events) / self.states)


def streaming(stack: Stack, engine: Engine, streams: int, seconds: int) -> list[Figure]:
    """How late the mirror's rows are, and how many of all states Prefect's stream brought: the rest
    its server has dropped, and the reconciler recorded.

    The database must track the times of commits.
    """
    measured = [_stream(stack, engine, seconds) for _ in range(streams)]
    rate = statistics.median(stream.rate for stream in measured)
    return [
        figure_of(
            "mirror's lag, p99",
            f"s at {rate:.0f} task runs/s",
            [stream.lags for stream in measured],
            each_below(_MOST_SECONDS, "s", _OBSTACLE),
        ),
        figure_of(
            "states that the stream brought",
            "%",
            [stream.percent for stream in measured],
            ratio_at_least(_LEAST_OF_STREAM),
        ),
    ]


def _stream(stack: Stack, engine: Engine, seconds: int) -> _Stream:
    began = datetime.now(UTC)
    task_runs = _RATE * seconds
    states = task_runs * _STATES_OF_A_TASK
    enough = threading.Event()
    answers = stack.state / "bench-stream.json"
    with ThreadPoolExecutor(1) as threads:
        events = threads.submit(_receive, stack.prefect_api_url, began, enough)
        part = start_flows(stack, "stream", answers, _RATE, seconds)
        try:
            processes.wait_for_success(stack.state, part, within_seconds=_PATIENCE_SECONDS)
            rows = _wait_for_rows(stack, engine, began, states)
        finally:
            enough.set()
    took: float = json.loads(answers.read_text())
    return _Stream(states, task_runs / took, rows, events.result())


def _wait_for_rows(stack: Stack, engine: Engine, began: datetime, states: int) -> list[float]:
    """Wait until all states of task runs since then are recorded. Returns the lags of the mirror's
    rows."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while (there := connection.execute(_COUNT, {"began": began}).scalar_one()) < states:
            processes.check_all_alive(stack.state)
            if time.monotonic() > deadline:
                raise MeasurementError(
                    f"Of {states} states of task runs {there} were recorded within"
                    f" {_PATIENCE_SECONDS:g} seconds"
                )
            time.sleep(_POLL_SECONDS)
        lags = connection.execute(_LAGS, {"began": began}).scalars()
        return [float(seconds) for seconds in lags]


def _receive(prefect_api_url: str, began: datetime, enough: threading.Event) -> list[float]:
    """For each state of a task run since then, the seconds until its event was received."""
    seconds: list[float] = []

    async def subscribe() -> None:
        events = EventFilter(event=EventNameFilter(prefix=[PREFIXES[RunKind.TASK]]))
        async with PrefectEventSubscriber(prefect_api_url, events) as subscriber:
            async for event in subscriber:
                if event.occurred > began:
                    seconds.append((datetime.now(UTC) - event.occurred).total_seconds())

    async def subscribe_until_enough() -> None:
        subscription = asyncio.create_task(subscribe())
        await asyncio.to_thread(enough.wait)
        subscription.cancel()

    asyncio.run(subscribe_until_enough())
    return seconds
