"""What chaos breaks: a deployment of one shape, its parts, and what is done to them."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.local import processes, stack
from deployments.local.stack import PROJECT, Stack
from tests.chaos.failpoints import FAILPOINTS
from tests.chaos.faults import (
    Fault,
    breaking,
    cut_postgres_sessions,
    kill_flow,
    killing,
    killing_worker_and_flow,
    restart_postgres,
    setting_state,
)
from tests.topology import production

_RETRY_DELAYS_SECONDS = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Topology:
    """How its stack is started; the parts that are started again when they die; each fault by its
    name in the figures; and the failpoints that strike as well."""

    running: Callable[[Path], AbstractContextManager[Stack]]
    parts: Sequence[str]
    faults: Mapping[str, Fault]
    failpoints: Sequence[str]


#: A second `mavedb-audit serve`: what one is about when it is killed, the other takes up.
_STANDBY = "standby"


@contextmanager
def _local(state: Path) -> Iterator[Stack]:
    with stack.running(state, retry_delays_seconds=_RETRY_DELAYS_SECONDS) as running:
        # A flow run that a dying worker took and never started is known by time alone. The standby
        # waits half a minute for that, not ten.
        processes.start(
            running.state,
            _STANDBY,
            [Path(sys.executable).with_name("mavedb-audit"), "serve"],
            {**running.env, "RECOVERY_QUEUED_SECONDS": "30"},
            folder=PROJECT,
        )
        yield running


def _production(state: Path) -> AbstractContextManager[Stack]:
    return production.running(state, retry_delays_seconds=_RETRY_DELAYS_SECONDS)


_CANCELLED = setting_state({"type": "CANCELLING", "name": "Cancelling"}, "running")

TOPOLOGIES: Mapping[str, Topology] = {
    "local": Topology(
        _local,
        ("worker", "audit", _STANDBY, "prefect", "postgres", "valkey"),
        {
            "flow killed": kill_flow,
            "worker and flow killed": killing_worker_and_flow("worker"),
            "worker killed": killing("worker"),
            "serve killed": killing("audit", _STANDBY),
            "Prefect killed": killing("prefect"),
            "PostgreSQL restarted": restart_postgres,
            "Valkey killed": killing("valkey"),
            "service failing": breaking({"kind": "status", "status": 503}),
            "service cut": breaking({"kind": "reset"}, {"kind": "truncate"}),
            "service slow": breaking({"kind": "slow", "seconds": 3}),
            "pipeline cancelled": _CANCELLED,
            "pipeline retried": setting_state(
                {"type": "SCHEDULED", "name": "AwaitingRetry"}, "failed"
            ),
        },
        FAILPOINTS,
    ),
    "production": Topology(
        _production,
        production.PARTS,
        {
            "worker and flow killed": killing_worker_and_flow(*production.WORKERS),
            "worker killed": killing(*production.WORKERS),
            "serve killed": killing(*production.AUDITS),
            "server killed": killing(*production.SERVERS),
            "services killed": killing(*production.SERVICES),
            "broker killed": killing(production.BROKER),
            "cache killed": killing("valkey"),
            "sessions cut": cut_postgres_sessions,
            "pipeline cancelled": _CANCELLED,
        },
        ("after dispatch", "in creation", "after mapping"),
    ),
}
