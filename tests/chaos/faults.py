"""What is done to a deployment while pipelines run on it.

A fault gives the processes that it killed, or None where it could not strike: there may be no flow
to kill, or no pipeline to cancel.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from deployments.local import processes
from deployments.local.stack import Stack
from tests.support import MaveDB, mavedb_of

_LONGEST_DOWN_SECONDS = 4.0


@dataclass
class Deployment:
    """A stack on which things break, by a seeded choice. Of its `parts`, something like systemd
    starts those again that die."""

    stack: Stack
    parts: Sequence[str]
    random: random.Random
    _starts_again_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mavedb: MaveDB = mavedb_of(self.stack)

    def start_dead_parts(self, *, at_once: bool = False) -> None:
        """Start parts again that died, each some seconds after."""
        for part in self.parts:
            if processes.pid_of(self.stack.state, part) is None:
                pause = self.random.uniform(0, _LONGEST_DOWN_SECONDS)
                due = self._starts_again_at.setdefault(part, time.monotonic() + pause)
                if at_once or time.monotonic() >= due:
                    processes.restart(self.stack.state, part)
                    del self._starts_again_at[part]

    def mend_services(self) -> None:
        for simulator in self.stack.simulator_urls.values():
            httpx.delete(f"{simulator}/simulator/faults").raise_for_status()


Fault = Callable[[Deployment], list[int] | None]


def kill_flow(deployment: Deployment) -> list[int] | None:
    flows = _flows(deployment.stack)
    if not flows:
        return None
    flow = deployment.random.choice(flows)
    try:
        flow.kill()
    except psutil.NoSuchProcess:
        return None
    return [flow.pid]


def _flows(stack: Stack) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _is_flow(process, stack)]


def _is_flow(process: psutil.Process, stack: Stack) -> bool:
    try:
        is_engine = "flows.engine" in " ".join(process.cmdline())
        return is_engine and process.environ().get("PREFECT_HOME") == stack.env["PREFECT_HOME"]
    except psutil.Error:
        return False  # it ended meanwhile, or is somebody else's


def killing_worker_and_flow(*workers: str) -> Fault:
    """Both at once, as when their host goes: nobody is left to tell Prefect."""

    def strike(deployment: Deployment) -> list[int] | None:
        pids = {processes.pid_of(deployment.stack.state, worker) for worker in workers}
        flows = [flow for flow in _flows(deployment.stack) if _parent(flow) in pids]
        if not flows:
            return None
        flow = deployment.random.choice(flows)
        worker = _parent(flow)
        if worker is None:
            return None
        for pid in (worker, flow.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [worker, flow.pid]

    return strike


def _parent(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return None


def killing(*parts: str) -> Fault:
    """Kill one of the parts."""

    def strike(deployment: Deployment) -> list[int] | None:
        pid = processes.pid_of(deployment.stack.state, deployment.random.choice(parts))
        if pid is None:
            return None
        os.kill(pid, signal.SIGKILL)
        return [pid]

    return strike


def cut_postgres_sessions(deployment: Deployment) -> list[int]:
    """End every session with the cluster but this one, as a failover does."""
    deployment.mavedb.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        """
    )
    return []


def restart_postgres(deployment: Deployment) -> list[int]:
    processes.restart(deployment.stack.state, "postgres")
    return []


def breaking(*kinds: Mapping[str, Any]) -> Fault:
    """Let an external service misbehave at the next request or two."""

    def strike(deployment: Deployment) -> list[int]:
        stack = deployment.stack
        service = deployment.random.choice(list(stack.simulator_urls.values()))
        fault = {**deployment.random.choice(kinds), "times": deployment.random.randint(1, 2)}
        httpx.post(f"{service}/simulator/faults", json=fault).raise_for_status()
        return []

    return strike


def setting_state(state: Mapping[str, Any], of_one_that_is: str) -> Fault:
    """Do as the buttons of Prefect's UI do, to a pipeline of that status."""

    def strike(deployment: Deployment) -> list[int] | None:
        flow_runs = deployment.mavedb.rows(
            """
            SELECT run_id FROM prefect_runs JOIN pipelines ON pipelines.id = pipeline_id
             WHERE kind = 'flow' AND status = :status ORDER BY first_seen_at
            """,
            status=of_one_that_is,
        )
        if not flow_runs:
            return None
        chosen = deployment.random.choice(flow_runs).run_id
        url = f"{deployment.stack.prefect_api_url}/flow_runs/{chosen}/set_state"
        answer = httpx.post(url, json={"state": state, "force": True}, timeout=10)
        return [] if answer.is_success else None

    return strike
