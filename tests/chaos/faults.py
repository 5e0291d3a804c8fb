"""What is done to a deployment while pipelines run on it.

A fault gives the processes that it killed, or None where it could not strike: there may be no flow
to kill, or no pipeline to cancel.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from deployments.local import processes
from deployments.local.stack import PROJECT, Stack
from tests.support import MaveDB, mavedb_of

#: A second `mavedb-audit serve`: what one is about when it is killed, the other takes up.
STANDBY = "standby"
#: Parts that something like systemd starts again when they die.
_PARTS = ("worker", "audit", STANDBY, "prefect", "postgres", "valkey")
_LONGEST_DOWN_SECONDS = 4.0


@dataclass
class Deployment:
    """A stack on which things break, by a seeded choice."""

    stack: Stack
    random: random.Random
    _starts_again_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mavedb: MaveDB = mavedb_of(self.stack)

    def start_dead_parts(self, *, at_once: bool = False) -> None:
        """Start parts again that died, each some seconds after."""
        for part in _PARTS:
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


def start_standby(stack: Stack) -> None:
    """A flow run that a dying worker took and never started is known by time alone. The standby
    waits half a minute for that, not ten."""
    processes.start(
        stack.state,
        STANDBY,
        [Path(sys.executable).with_name("mavedb-audit"), "serve"],
        {**stack.env, "RECOVERY_QUEUED_SECONDS": "30"},
        folder=PROJECT,
    )


def kill_flow(deployment: Deployment) -> list[int] | None:
    flows = [p for p in psutil.process_iter() if _is_flow(p, deployment.stack)]
    if not flows:
        return None
    flow = deployment.random.choice(flows)
    try:
        flow.kill()
    except psutil.NoSuchProcess:
        return None
    return [flow.pid]


def _is_flow(process: psutil.Process, stack: Stack) -> bool:
    try:
        is_engine = "prefect.engine" in " ".join(process.cmdline())
        return is_engine and process.environ().get("PREFECT_HOME") == stack.env["PREFECT_HOME"]
    except psutil.Error:
        return False  # it ended meanwhile, or is somebody else's


def kill_worker_and_flow(deployment: Deployment) -> list[int] | None:
    """Both at once, as when their host goes: nobody is left to tell Prefect."""
    worker = processes.pid_of(deployment.stack.state, "worker")
    flow = kill_flow(deployment) if worker is not None else None
    if worker is None or flow is None:
        return None
    os.kill(worker, signal.SIGKILL)
    return [worker, *flow]


def _killing(*parts: str) -> Fault:
    """Kill one of the parts."""

    def strike(deployment: Deployment) -> list[int] | None:
        pid = processes.pid_of(deployment.stack.state, deployment.random.choice(parts))
        if pid is None:
            return None
        os.kill(pid, signal.SIGKILL)
        return [pid]

    return strike


def restart_postgres(deployment: Deployment) -> list[int]:
    processes.restart(deployment.stack.state, "postgres")
    return []


def _breaking(*kinds: Mapping[str, Any]) -> Fault:
    """Let an external service misbehave at the next request or two."""

    def strike(deployment: Deployment) -> list[int]:
        stack = deployment.stack
        service = deployment.random.choice(list(stack.simulator_urls.values()))
        fault = {**deployment.random.choice(kinds), "times": deployment.random.randint(1, 2)}
        httpx.post(f"{service}/simulator/faults", json=fault).raise_for_status()
        return []

    return strike


def _setting_state(state: Mapping[str, Any], of_one_that_is: str) -> Fault:
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


#: Each kind by its name in the figures.
FAULTS: Mapping[str, Fault] = {
    "flow killed": kill_flow,
    "worker and flow killed": kill_worker_and_flow,
    "worker killed": _killing("worker"),
    "serve killed": _killing("audit", STANDBY),
    "Prefect killed": _killing("prefect"),
    "PostgreSQL restarted": restart_postgres,
    "Valkey killed": _killing("valkey"),
    "service failing": _breaking({"kind": "status", "status": 503}),
    "service cut": _breaking({"kind": "reset"}, {"kind": "truncate"}),
    "service slow": _breaking({"kind": "slow", "seconds": 3}),
    "pipeline cancelled": _setting_state({"type": "CANCELLING", "name": "Cancelling"}, "running"),
    "pipeline retried": _setting_state({"type": "SCHEDULED", "name": "AwaitingRetry"}, "failed"),
}
