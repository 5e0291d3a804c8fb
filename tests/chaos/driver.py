"""Starts pipelines and breaks what they run on, by a seeded choice."""

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil
from sqlalchemy.exc import OperationalError

from deployments.local import processes
from deployments.local.stack import Stack
from tests.chaos.invariants import differences, open_rows, unaccounted
from tests.support import MaveDB, Submitted, brca1, mavedb_of

#: Parts that something like systemd starts again when they die.
RESTARTED = ("worker", "audit", "prefect", "postgres", "valkey")
CANCEL = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
RETRY = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}


@dataclass(frozen=True)
class Figures:
    """What a run comes to. Times in seconds."""

    pipelines: int
    transitions: int
    kills: str
    differences: int
    still_open: int
    unaccounted: int
    recovery_median: float
    recovery_max: float


@dataclass
class Driver:
    """One run of chaos on a stack."""

    stack: Stack
    seed: int
    submitted: list[Submitted] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    killed_at: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.mavedb: MaveDB = mavedb_of(self.stack)
        self.faults: list[tuple[Callable[[], None], int]] = [
            (self.kill_flow, 8),
            (self.kill_worker, 2),
            (self.kill_serve, 2),
            (self.kill_prefect, 1),
            (self.restart_postgres, 1),
            (self.stop_valkey, 1),
            (self.break_simulator, 6),
            (self.cancel, 2),
            (self.retry, 2),
        ]

    def run(self, pipelines: int) -> None:
        """Submit that many, a few at a time, and break something now and then until all ended."""
        deadline = time.monotonic() + 30 + 15 * pipelines
        while time.monotonic() < deadline:
            self.keep_parts_up()
            with suppress(OperationalError, httpx.TransportError):
                unfinished = self.unfinished()
                if len(self.submitted) < pipelines and unfinished < 4:
                    self.submit()
                elif len(self.submitted) == pipelines and not unfinished:
                    break
                if self.random.random() < 0.5:
                    work, weights = zip(*self.faults, strict=True)
                    self.random.choices(work, weights)[0]()
            time.sleep(self.random.uniform(0.2, 1.2))
        self.keep_parts_up()
        for simulator in (self.stack.mapper_url, self.stack.clingen_url):
            httpx.delete(f"{simulator}/simulator/faults").raise_for_status()

    def wait_for_calm(self, seconds: float) -> None:
        """Wait until nothing is open, or give up: the invariants tell."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.keep_parts_up()
            with suppress(OperationalError):
                if not open_rows(self.mavedb):
                    return
            time.sleep(1)

    def submit(self) -> None:
        """Another score set, or another pipeline of one that is there."""
        roll = self.random.random()
        seed = self.random.randrange(1_000)
        if roll < 0.15 and self.submitted:
            again = self.random.choice(self.submitted)
            self.submitted.append(self.mavedb.request("map_annotate_score_set", again))
            return
        scores, counts = brca1(self.random.randint(10, 60), seed)
        if roll < 0.3:
            scores = scores.replace("p.", "q.", 1)  # a curator's mistake
        urn = None
        if roll > 0.85 and self.submitted:
            urn = self.random.choice(self.submitted).score_set_urn
        self.submitted.append(self.mavedb.submit(scores, counts, urn=urn))

    def unfinished(self) -> int:
        count: int = self.mavedb.value(
            "SELECT count(*) FROM pipelines WHERE status IN ('created', 'running', 'paused')"
        )
        return count

    def keep_parts_up(self) -> None:
        for name in RESTARTED:
            if processes.pid_of(self.stack.state, name) is None:
                processes.restart(self.stack.state, name)

    def kill_flow(self) -> None:
        flows = [p for p in psutil.process_iter(["cmdline"]) if self.is_flow(p)]
        if flows:
            flow = self.random.choice(flows)
            self.killed_at[flow.pid] = time.time()
            with suppress(psutil.NoSuchProcess):
                flow.kill()
                self.kills["flow"] += 1

    def is_flow(self, process: psutil.Process) -> bool:
        try:
            is_engine = "prefect.engine" in " ".join(process.cmdline())
            return is_engine and str(self.stack.state) in str(process.environ().values())
        except psutil.Error:
            return False

    def kill_worker(self) -> None:
        self.kill_part("worker")
        if self.random.random() < 0.5:
            self.kill_flow()

    def kill_serve(self) -> None:
        self.kill_part("audit")

    def kill_prefect(self) -> None:
        self.kill_part("prefect")

    def restart_postgres(self) -> None:
        self.kills["postgres"] += 1
        processes.restart(self.stack.state, "postgres")

    def stop_valkey(self) -> None:
        self.kill_part("valkey")

    def kill_part(self, name: str) -> None:
        pid = processes.pid_of(self.stack.state, name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.kills[name] += 1
            time.sleep(self.random.uniform(0, 2))

    def break_simulator(self) -> None:
        simulator = self.random.choice([self.stack.mapper_url, self.stack.clingen_url])
        fault = self.random.choice(
            [
                {"kind": "status", "status": 503},
                {"kind": "reset"},
                {"kind": "truncate"},
                {"kind": "slow", "seconds": 3},
            ]
        )
        httpx.post(
            f"{simulator}/simulator/faults", json={**fault, "times": self.random.randint(1, 2)}
        ).raise_for_status()
        self.kills["simulator"] += 1

    def cancel(self) -> None:
        self.set_state_of_one("running", CANCEL, "cancelled")

    def retry(self) -> None:
        self.set_state_of_one("failed", RETRY, "retried")

    def set_state_of_one(self, status: str, state: dict[str, object], counted_as: str) -> None:
        """As the buttons of Prefect's UI do."""
        flow_runs = [
            row.run_id
            for row in self.mavedb.rows(
                """
                SELECT run.run_id FROM prefect_runs AS run
                  JOIN pipelines ON pipelines.id = run.pipeline_id
                 WHERE run.kind = 'flow' AND pipelines.status = :status ORDER BY run.run_id
                """,
                status=status,
            )
        ]
        if flow_runs:
            chosen = self.random.choice(flow_runs)
            url = f"{self.stack.prefect_api_url}/flow_runs/{chosen}/set_state"
            if httpx.post(url, json=state, timeout=10).is_success:
                self.kills[counted_as] += 1

    def figures(self) -> Figures:
        seconds = self.seconds_to_recovery()
        return Figures(
            pipelines=len(self.submitted),
            transitions=self.mavedb.value("SELECT count(*) FROM prefect_transitions"),
            kills=", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items())),
            differences=len(differences(self.stack)),
            still_open=len(open_rows(self.mavedb)),
            unaccounted=len(unaccounted(self.mavedb)),
            recovery_median=statistics.median(seconds) if seconds else 0.0,
            recovery_max=max(seconds, default=0.0),
        )

    def seconds_to_recovery(self) -> list[float]:
        """From a kill of a flow process to the end of the attempt that it cut off."""
        ended = self.mavedb.rows(
            """
            SELECT process_id, extract(epoch FROM max(finished_at)) AS finished
              FROM job_attempts WHERE process_id = ANY (:pids) AND outcome <> 'succeeded'
             GROUP BY 1
            """,
            pids=list(self.killed_at),
        )
        return [max(0.0, float(row.finished) - self.killed_at[row.process_id]) for row in ended]
