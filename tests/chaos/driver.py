"""Starts pipelines and breaks what they run on, in an order that the seed alone decides."""

import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import psycopg
from sqlalchemy.exc import OperationalError

from deployments.local.stack import Stack
from tests.chaos.failpoints import Failpoints
from tests.chaos.faults import Deployment
from tests.chaos.invariants import open_rows
from tests.chaos.topologies import Topology
from tests.support import Submitted, brca1

#: So many pipelines are open at a time.
_AT_ONCE = 4
_NEW, _MISTAKEN, _AGAIN, _UPLOADED_AGAIN = "new", "mistaken", "again", "uploaded again"
_SUBMISSIONS = (_NEW, _NEW, _NEW, _MISTAKEN, _AGAIN, _UPLOADED_AGAIN)
#: What a part that is down makes the driver's own requests raise.
_DOWN = (OperationalError, psycopg.OperationalError, httpx.TransportError)

T = TypeVar("T")


@dataclass(frozen=True)
class Struck:
    """A fault or a failpoint that struck, and the processes that it killed."""

    at: datetime
    name: str
    process_ids: Sequence[int]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S.%f} {self.name} {', '.join(map(str, self.process_ids))}"


def walk(seed: str, things: Sequence[T]) -> Iterator[T]:
    """All of the things in a random order, and then all again in another one, without an end."""
    chosen = random.Random(seed)
    while True:
        yield from chosen.sample(things, len(things))


@dataclass
class Driver:
    """One run of chaos on a stack of that topology."""

    topology: Topology
    stack: Stack
    seed: int
    submitted: list[Submitted] = field(default_factory=list)
    journal: list[Struck] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed} victims and pauses")
        self.submissions = walk(f"{self.seed} submissions", _SUBMISSIONS)
        self.deployment = Deployment(self.stack, self.topology.parts, self.random)
        self.round = (*self.topology.faults, *self.topology.failpoints)
        self.mavedb = self.deployment.mavedb
        self.failpoints = Failpoints(self.stack.database_url)
        self.order = random.Random(f"{self.seed} faults")
        self.ahead: list[str] = []
        self.due: list[str] = []

    def run(self, pipelines: int, seconds: float) -> None:
        """Break one thing after the other until so many pipelines have ended and everything has
        struck once, or the time is up."""
        self.failpoints.install()
        deadline = time.monotonic() + seconds
        next_fault_at = time.monotonic()
        while time.monotonic() < deadline:
            self.deployment.start_dead_parts()
            with suppress(*_DOWN):
                self.strike_failpoints()
                unfinished = self.unfinished()
                is_enough = len(self.submitted) >= pipelines and not self.not_struck()
                if is_enough and not unfinished:
                    break
                if not is_enough and unfinished < _AT_ONCE:
                    self.submit()
                if time.monotonic() >= next_fault_at and not is_enough:
                    next_fault_at = time.monotonic() + self.random.uniform(0.2, 1.8)
                    self.strike()
            time.sleep(0.1)

    def calm_down(self, seconds: float) -> None:
        """Break nothing more, and wait until nothing is open; gives up after so many seconds."""
        deadline = time.monotonic() + seconds
        is_mended = False
        while time.monotonic() < deadline:
            self.deployment.start_dead_parts(at_once=True)
            with suppress(*_DOWN):
                if not is_mended:
                    self.failpoints.disarm()
                    self.deployment.mend_services()
                    is_mended = True
                if not open_rows(self.mavedb):
                    return
            time.sleep(0.5)

    def submit(self) -> None:
        """Another score set, or another pipeline of one that is there."""
        kind = next(self.submissions)
        if kind == _AGAIN and self.submitted:
            again = self.random.choice(self.submitted)
            self.submitted.append(self.mavedb.request("map_annotate_score_set", again))
            return
        scores, counts = brca1(self.random.randint(10, 60), self.random.randrange(1_000))
        urn = None
        if kind == _MISTAKEN:
            scores = scores.replace("p.", "q.", 1)
        elif kind == _UPLOADED_AGAIN and self.submitted:
            urn = self.random.choice(self.submitted).score_set_urn
        self.submitted.append(self.mavedb.submit(scores, counts, urn=urn))

    def unfinished(self) -> int:
        count: int = self.mavedb.value(
            "SELECT count(*) FROM pipelines WHERE status IN ('created', 'running', 'paused')"
        )
        return count

    def strike(self) -> None:
        """Do what is due. What cannot be done now stays due, and an armed failpoint strikes later:
        a round ends when everything has struck.
        """
        if self.ahead:
            self.due.append(self.ahead.pop())
        elif not self.due and not self.failpoints.armed:
            self.ahead = self.order.sample(self.round, len(self.round))
        for name in list(self.due):
            if name in self.topology.faults:
                killed = self.topology.faults[name](self.deployment)
                if killed is None:
                    continue
                self.note(name, killed)
            else:
                self.failpoints.arm(name)
            self.due.remove(name)

    def strike_failpoints(self) -> None:
        for struck in self.failpoints.strike():
            self.note(struck.failpoint, [struck.process_id])

    def note(self, name: str, process_ids: Sequence[int]) -> None:
        struck = Struck(datetime.now(UTC), name, process_ids)
        self.journal.append(struck)
        with (self.stack.state / "logs" / "chaos.log").open("a") as log:
            log.write(f"{struck}\n")

    def counts(self) -> Counter[str]:
        """How often each fault and each failpoint struck."""
        return Counter(struck.name for struck in self.journal)

    def not_struck(self) -> list[str]:
        """The faults and failpoints that never did."""
        struck = self.counts()
        return [name for name in self.round if not struck[name]]

    def recovery_seconds(self) -> list[float]:
        """From each kill of a flow to the end of the attempts that it cut off."""
        killed_at = {pid: struck.at for struck in self.journal for pid in struck.process_ids}
        cut_off = self.mavedb.rows(
            """
            SELECT process_id, finished_at FROM job_attempts
             WHERE process_id = ANY (:pids) AND outcome <> 'succeeded'
            """,
            pids=list(killed_at),
        )
        waits = [(row.finished_at - killed_at[row.process_id]).total_seconds() for row in cut_off]
        return [wait for wait in waits if wait > 0]


def summary(seconds: Sequence[float]) -> str:
    """The median and the longest of some times."""
    if not seconds:
        return "no recovery"
    return f"recovery {statistics.median(seconds):.1f} s median, {max(seconds):.1f} s at most"
