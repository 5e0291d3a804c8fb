"""What an attempt takes: time, memory, requests to services, and what a cache saved of these.

Clients count through `count_request` without knowing whom they work for: the meter of the attempt
that runs lies in a context variable, which threads of asyncio and its tasks inherit.
"""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

#: getrusage tells the peak in kilobytes, but on macOS in bytes.
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Usage:
    """What an attempt took, up to the writing of its end.

    `cpu_seconds` are those of the step's own thread; threads of libraries, such as those that
    polars reads a file with, are not in it. `peak_memory_bytes` is the most that the step's process
    has held at once since it started, whatever other steps ran in it. `http_requests` are numbers
    of requests by service and outcome. `variants` are those that the step itself accounted for,
    None where it did not.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    http_requests: Mapping[str, Mapping[str, int]]
    cache_hits: int
    cache_misses: int
    variants: int | None


@dataclass
class Meter:
    """Measures an attempt, from when it is made, in the thread that the attempt runs in."""

    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    cache_hits: int = 0
    cache_misses: int = 0
    variants: int | None = None
    _began: float = field(default_factory=time.monotonic)
    _cpu_began: float = field(default_factory=time.thread_time)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Meanwhile, whatever this context does is counted here."""
        token = _running.set(self)
        try:
            yield
        finally:
            _running.reset(token)

    def usage(self) -> Usage:
        return Usage(
            wall_seconds=time.monotonic() - self._began,
            cpu_seconds=time.thread_time() - self._cpu_began,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT,
            http_requests=self.requests,
            cache_hits=self.cache_hits,
            cache_misses=self.cache_misses,
            variants=self.variants,
        )


_running: ContextVar[Meter | None] = ContextVar("running_meter", default=None)


def count_request(service: str, outcome: str) -> None:
    """Count a request to the service; one for no attempt is not counted."""
    if (meter := _running.get()) is not None:
        outcomes = meter.requests.setdefault(service, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + 1


def count_cached(hits: int, misses: int) -> None:
    """Count answers that a cache had, and those that it had not."""
    if (meter := _running.get()) is not None:
        meter.cache_hits += hits
        meter.cache_misses += misses
