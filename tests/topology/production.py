"""The topology of deployments/production on one machine: Prefect's servers, workers and `serve`
twice each, behind a load balancer, with the settings, the roles and the `apply` of production.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import psycopg

from deployments.local import postgres, processes, stack, valkey
from deployments.local.ports import LOOPBACK, choose
from deployments.local.stack import PREFECT, PROJECT, Stack

PRODUCTION = PROJECT / "deployments" / "production"
SERVERS = ("server-1", "server-2")
SERVICES = ("services-1", "services-2")
WORKERS = ("worker-1", "worker-2")
AUDITS = ("audit-1", "audit-2")
BROKER = "broker"
#: What is started again when it dies; of the rest, one is all that there is.
PARTS = (*SERVERS, *SERVICES, *WORKERS, *AUDITS, BROKER, "valkey")
_PORTS = (*SERVERS, *AUDITS, BROKER)
_AUTH = "mavedb:local"
#: A user of the rights of role.sql, and of no others.
_USER, _PASSWORD = "mavedb_audit_1", "local"


@contextmanager
def running(state: Path, *, retry_delays_seconds: Sequence[float]) -> Iterator[Stack]:
    """A stack of that topology, which is stopped at the end unless it is kept.

    Its `env` is that of workers and `serve`; its database URL is the owner's.
    """
    with stack.held(state):
        yield _start_all(state.resolve(), retry_delays_seconds)


def _start_all(state: Path, retry_delays_seconds: Sequence[float]) -> Stack:
    ports = choose(state, [*stack.PORTS, *_PORTS])
    database, cluster = postgres.start(state, ports["postgres"], durable=False)
    cache = valkey.start(state, ports["valkey"])
    broker = valkey.start(state, ports[BROKER], name=BROKER, options=_broker_options())
    owner = stack.describe(state, ports, cluster, retry_delays_seconds)
    postgres.wait(database, cluster)
    postgres.create_databases(cluster, ("mavedb", "prefect", "gnomad"))
    valkey.wait(cache, ports["valkey"])
    valkey.wait(broker, ports[BROKER])

    prefect = _prefect_settings(cluster, ports[BROKER])
    upgrade = [*PREFECT, "--no-prompt", "server", "database", "upgrade", "-y"]
    migrations = (
        stack.migrate(state, owner.env),
        stack.start(owner, "prefect-migrations", upgrade, prefect),
    )
    for part in migrations:
        processes.wait_for_success(state, part)
    with psycopg.connect(owner.database_url, autocommit=True) as connection:
        connection.execute((PRODUCTION / "role.sql").read_text())
        connection.execute(f"CREATE ROLE {_USER} LOGIN PASSWORD '{_PASSWORD}' IN ROLE mavedb_audit")
    simulators = stack.start_simulators(owner, ports)

    for service in SERVICES:
        stack.start(owner, service, [*PREFECT, "server", "services", "start"], prefect)
    servers = [
        stack.start(owner, name, [*PREFECT, *_server(ports[name])], prefect) for name in SERVERS
    ]
    balancer = [sys.executable, "-m", "tests.topology.balancer", str(ports["prefect"])]
    stack.start(owner, "balancer", [*balancer, *(str(ports[name]) for name in SERVERS)])

    limited = replace(
        owner,
        env={**owner.env, **_limited(cluster), "PREFECT_API_AUTH_STRING": _AUTH},
        # Whoever asks Prefect by this URL signs in by it, too.
        prefect_api_url=owner.prefect_api_url.replace("//", f"//{_AUTH}@"),
    )
    with httpx.Client(trust_env=False, timeout=5) as http:
        for name, server in zip(SERVERS, servers, strict=True):
            health = f"http://{LOOPBACK}:{ports[name]}/api/health"
            stack.wait_for_http(http, server, health)
        apply = stack.start(
            limited, "apply", [sys.executable, "-m", "deployments.production", "apply"]
        )
        processes.wait_for_success(state, apply)
        for url in owner.simulator_urls.values():
            stack.wait_for_http(http, simulators, f"{url}/simulator/requests")
        for name in WORKERS:
            worker = stack.start_worker(limited, name, name)
            online = partial(stack.is_worker_online, http, limited, name)
            processes.wait_until(worker, online)
        for name in AUDITS:
            own = {**_PATIENCE, "AUDIT_HTTP_PORT": str(ports[name])}
            audit = stack.start(limited, name, [stack.script("mavedb-audit"), "serve"], own)
            health = f"http://{LOOPBACK}:{ports[name]}/health"
            stack.wait_for_http(http, audit, health)
    return limited


#: A flow run that a dying worker took and never started is known by time alone.
_PATIENCE = {"RECOVERY_QUEUED_SECONDS": "30"}


def _server(port: int) -> list[str]:
    return f"server start --no-services --host {LOOPBACK} --port {port}".split()


def _prefect_settings(cluster: postgres.Cluster, broker_port: int) -> dict[str, str]:
    """Those of production, with this machine's addresses."""
    lines = (PRODUCTION / "env" / "prefect.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {
        **given,
        "PREFECT_API_DATABASE_CONNECTION_URL": cluster.url("prefect", "postgresql+asyncpg"),
        "PREFECT_REDIS_MESSAGING_URL": f"redis://{LOOPBACK}:{broker_port}/0",
        "PREFECT_SERVER_API_AUTH_STRING": _AUTH,
        "PREFECT_SERVER_DOCKET_URL": f"redis://{LOOPBACK}:{broker_port}/1",
    }


def _broker_options() -> list[str]:
    """Those of production."""
    lines = (PRODUCTION / "valkey-broker.conf").read_text().splitlines()
    settings = (line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    return [word for name, value in settings for word in (f"--{name}", value.strip('"'))]


def _limited(cluster: postgres.Cluster) -> Mapping[str, str]:
    url = f"postgresql://{_USER}:{_PASSWORD}@{LOOPBACK}:{cluster.port}/mavedb"
    return {"DATABASE_URL": url, "DB_USERNAME": _USER, "DB_PASSWORD": _PASSWORD}
