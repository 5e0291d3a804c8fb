"""The whole deployment on loopback, in one state folder, as child processes of this one."""

import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from deployments.local import postgres, processes, valkey
from deployments.local.ports import LOOPBACK, choose
from deployments.local.processes import Part
from deployments.local.simulators import SIMULATORS
from mavedb_audit.errors import MaveDBAuditError
from mavedb_audit.tokens import Role, new_token
from mavedb_audit.trigger import REQUESTS_CHANNEL

PROJECT = Path(__file__).resolve().parents[2]
WORK_POOL = "mavedb"
#: Our migrations, which make MaveDB's tables, too, as its first release with jobs had them.
STANDALONE_TABLES = ("-m", "alembic", "-x", "standalone=true", "upgrade", "head")
PORTS = ("postgres", "valkey", "prefect", "audit", *SIMULATORS)
_RETRY_DELAYS_SECONDS = (2.0, 5.0, 10.0)
PREFECT = (sys.executable, "-m", "prefect")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",
}


class AlreadyRunningError(MaveDBAuditError):
    """A stack of this state folder runs already."""


@dataclass(frozen=True)
class Stack:
    """Where everything of a running stack is.

    `env` is what our command line, `prefect` and `psql` need, as written to STATE/env. Who signs in
    at `audit_url` with `audit_token`, which is AUDIT_TOKEN there, may operate. The
    simulators' addresses, by their names, take switches under /simulator. The mapper's simulator
    replays what lies in `mapper_answers`, one file a score set, called by its URN with _ for : and
    .json or .json.gz.
    """

    state: Path
    env: Mapping[str, str]
    database_url: str
    prefect_api_url: str
    prefect_ui_url: str
    audit_url: str
    audit_token: str
    simulator_urls: Mapping[str, str]
    mapper_answers: Path

    @property
    def mapper_url(self) -> str:
        return self.simulator_urls["mapper"]

    @property
    def clingen_url(self) -> str:
        return self.simulator_urls["clingen"]


@contextmanager
def running(
    state: Path,
    *,
    durable: bool = True,
    retry_delays_seconds: Sequence[float] = _RETRY_DELAYS_SECONDS,
    making_tables: Sequence[str] = STANDALONE_TABLES,
) -> Iterator[Stack]:
    """A stack that is stopped at the end, unless `keep` was called on it, whatever happens.

    `making_tables` are the arguments to Python that make all tables in the empty database.
    """
    with held(state):
        yield _start_all(state.resolve(), durable, retry_delays_seconds, making_tables)


@contextmanager
def held(state: Path) -> Iterator[None]:
    """An empty set of parts in a state folder: what is started meanwhile is stopped at the end,
    unless it is kept."""
    state = state.resolve()
    if processes.is_running(state):
        raise AlreadyRunningError(
            f"The stack in {state} is running already. Stop it with `make demo-stop`, with the "
            "same STATE, or use another STATE."
        )
    processes.stop(state)  # what a killed supervisor may have left
    processes.prepare_folder(state)
    processes.claim(state)
    try:
        yield
    finally:
        if not processes.is_kept(state):
            stop(state)


def keep(stack: Stack) -> None:
    """Let the stack run on after this process has ended."""
    processes.keep(stack.state)


def how_to_sign_in(running: Stack) -> str:
    """Where our page is, in a line."""
    return f"Our page: {running.audit_url} (sign in with the token {running.audit_token})"


def stop(state: Path) -> list[str]:
    """End every process of the stack in `state`, whoever started it. Gives the parts' names."""
    return processes.stop(state.resolve())


def _start_all(
    state: Path,
    durable: bool,
    retry_delays_seconds: Sequence[float],
    making_tables: Sequence[str],
) -> Stack:
    ports = choose(state, PORTS)
    database, cluster = postgres.start(state, ports["postgres"], durable=durable)
    cache = valkey.start(state, ports["valkey"])
    stack = describe(state, ports, cluster, retry_delays_seconds)
    write_env(state, stack.env)
    postgres.wait(database, cluster)
    postgres.create_databases(cluster, ("mavedb", "prefect", "gnomad"))

    server = _start_prefect_server(stack, ports["prefect"], cluster)
    migrations = migrate(state, stack.env, making_tables)
    simulators = start_simulators(stack, ports)
    valkey.wait(cache, ports["valkey"])
    processes.wait_for_success(state, migrations)
    # The port is for it alone: another `serve` under the stack's settings could not have it, too.
    audit = start(
        stack,
        "audit",
        [script("mavedb-audit"), "serve"],
        {"AUDIT_HTTP_PORT": str(ports["audit"])},
    )

    # Without the caller's proxies: all of this is on loopback.
    with httpx.Client(trust_env=False, timeout=5) as http:
        wait_for_http(http, server, f"{stack.prefect_api_url}/health")
        create_work_pool(http, stack)
        limits = start(stack, "limits", [script("mavedb-audit"), "limits", "apply"])
        deploy = start(stack, "deploy", [*PREFECT, "--no-prompt", "deploy", "--all"])
        name = f"local-{secrets.token_hex(4)}"
        worker = start_worker(stack, "worker", name)
        for url in stack.simulator_urls.values():
            wait_for_http(http, simulators, f"{url}/simulator/requests")
        processes.wait_until(audit, lambda: is_audit_listening(stack))
        wait_for_http(http, audit, f"{stack.audit_url}/health")
        processes.wait_for_success(state, deploy)
        processes.wait_for_success(state, limits)
        processes.wait_until(worker, lambda: is_worker_online(http, stack, name))
    return stack


def migrate(
    state: Path, env: Mapping[str, str], making_tables: Sequence[str] = STANDALONE_TABLES
) -> Part:
    """Start making all tables, MaveDB's too, in the empty database of `env`."""
    command = [sys.executable, *making_tables]
    return processes.start(state, "migrations", command, env, folder=PROJECT)


def describe(
    state: Path,
    ports: Mapping[str, int],
    cluster: postgres.Cluster,
    retry_delays_seconds: Sequence[float],
) -> Stack:
    prefect_url = f"http://{LOOPBACK}:{ports['prefect']}"
    audit_url = f"http://{LOOPBACK}:{ports['audit']}"
    audit_token, token_line = new_token("local", Role.OPERATE)
    simulator_urls = {name: f"http://{LOOPBACK}:{ports[name]}" for name in SIMULATORS}
    env = {
        "DATABASE_URL": cluster.url("mavedb"),
        "DB_HOST": LOOPBACK,
        "DB_PORT": str(cluster.port),
        "DB_DATABASE_NAME": "mavedb",
        "DB_USERNAME": postgres.SUPERUSER,
        "DB_PASSWORD": cluster.password,
        "PGHOST": LOOPBACK,
        "PGPORT": str(cluster.port),
        "PGUSER": postgres.SUPERUSER,
        "PGPASSWORD": cluster.password,
        "PGDATABASE": "mavedb",
        "AUDIT_PAGE_URL": audit_url,
        "AUDIT_TOKEN": audit_token,
        "AUDIT_API_TOKENS": token_line,
        "PREFECT_API_URL": f"{prefect_url}/api",
        # The server asks for no such tokens: each new client would ask for one first.
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        "PREFECT_HOME": str(state / "prefect"),
        "REDIS_IP": LOOPBACK,
        "REDIS_PORT": str(ports["valkey"]),
        "REDIS_SSL": "false",
        "UPLOAD_STORE_URL": (state / "uploads").as_uri(),
        "DCD_MAPPING_URL": simulator_urls["mapper"],
        "CLIN_GEN_SUBMISSION_ENABLED": "true",
        "CAR_SUBMISSION_ENDPOINT": simulator_urls["clingen"],
        "CLINGEN_ALLELE_REGISTRY_URL": simulator_urls["clingen"],
        "CLINGEN_RETRY_DELAYS_SECONDS": "[0.1,0.5]",
        "GENBOREE_ACCOUNT_NAME": "local",
        "GENBOREE_ACCOUNT_PASSWORD": secrets.token_hex(8),
        "GENBOREE_URL": simulator_urls["genboree"],
        "CLIN_GEN_TENANT": "dev-clingen",
        "UNIPROT_API_URL": simulator_urls["uniprot"],
        "ENSEMBL_API_URL": simulator_urls["ensembl"],
        "ENSEMBL_RETRY_DELAYS_SECONDS": "[0.1,0.2]",
        "CLINVAR_ARCHIVE_URL": f"{simulator_urls['clinvar']}/archive",
        "CLINVAR_CACHE_DIR": (state / "clinvar").as_uri(),
        "GNOMAD_DATABASE_URL": cluster.url("gnomad", "postgresql+psycopg"),
        "GNOMAD_DATA_VERSION": "v4.1",
        "STEP_RETRY_DELAYS_SECONDS": json.dumps(list(retry_delays_seconds), separators=(",", ":")),
    }
    return Stack(
        state=state,
        env=env,
        database_url=env["DATABASE_URL"],
        prefect_api_url=env["PREFECT_API_URL"],
        prefect_ui_url=prefect_url,
        audit_url=audit_url,
        audit_token=audit_token,
        simulator_urls=simulator_urls,
        mapper_answers=state / "mapper-answers",
    )


def write_env(state: Path, env: Mapping[str, str]) -> None:
    """STATE/env, for `set -a; . STATE/env; set +a`."""
    file = state / "env"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={_for_shell(value)}\n" for name, value in env.items()))


def _for_shell(value: str) -> str:
    # In an assignment the shell leaves brackets and commas alone, so JSON lists stay readable.
    return value if re.fullmatch(r"[\w@%+=:,./\[\]-]*", value) else shlex.quote(value)


def _start_prefect_server(stack: Stack, port: int, cluster: postgres.Cluster) -> Part:
    return start(
        stack,
        "prefect",
        [*PREFECT, "server", "start", "--host", LOOPBACK, "--port", str(port)],
        {
            "PREFECT_API_DATABASE_CONNECTION_URL": cluster.url("prefect", "postgresql+asyncpg"),
            "PREFECT_UI_API_URL": stack.prefect_api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # In memory the leases would be lost with the server, and their slots taken for ever.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            # How long a step that found no slot waits before it asks again, at most.
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        },
    )


def start_simulators(stack: Stack, ports: Mapping[str, int]) -> Part:
    stack.mapper_answers.mkdir(exist_ok=True)
    return start(
        stack,
        "simulators",
        [
            *(sys.executable, "-m", "deployments.local.simulators"),
            *("--ports", json.dumps({name: ports[name] for name in SIMULATORS})),
            *("--mapper-answers", stack.mapper_answers),
        ],
    )


def start(
    stack: Stack, name: str, command: Sequence[str | Path], own: Mapping[str, str] | None = None
) -> Part:
    """Start a part in the project's folder, with the stack's settings and with its `own`."""
    return processes.start(
        stack.state, name, command, {**stack.env, **_QUIET, **(own or {})}, folder=PROJECT
    )


def start_worker(stack: Stack, part: str, name: str) -> Part:
    """Start a worker, whose flows run in this Python."""
    command = f"worker start --type process --pool {WORK_POOL} --name {name}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return start(stack, part, [*PREFECT, *command.split()], {"PATH": path})


def script(name: str) -> Path:
    """A command that was installed beside the running Python."""
    return Path(sys.executable).with_name(name)


def wait_for_http(http: httpx.Client, part: Part, url: str) -> None:
    def answers() -> bool:
        try:
            return http.get(url).status_code == 200
        except httpx.TransportError:
            return False

    processes.wait_until(part, answers)


def create_work_pool(http: httpx.Client, stack: Stack) -> None:
    """Make the pool, once. Its worker completes it with the template of its type."""
    answer = http.post(
        f"{stack.prefect_api_url}/work_pools/", json={"name": WORK_POOL, "type": "process"}
    )
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()


def is_worker_online(http: httpx.Client, stack: Stack, name: str) -> bool:
    answer = http.post(f"{stack.prefect_api_url}/work_pools/{WORK_POOL}/workers/filter", json={})
    workers: list[dict[str, Any]] = answer.raise_for_status().json()
    return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)


def is_audit_listening(stack: Stack) -> bool:
    with psycopg.connect(stack.database_url, connect_timeout=5) as connection:
        row = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query = %s",
            [f"LISTEN {REQUESTS_CHANNEL}"],
        ).fetchone()
    return row is not None
