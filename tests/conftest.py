"""Real parts for tests, each started when a test first asks for it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.local import postgres as local_postgres
from deployments.local import processes
from deployments.local import stack as local_stack
from deployments.local.ports import choose
from deployments.local.postgres import Cluster
from deployments.local.stack import Stack
from mavedb_audit.database import engine
from mavedb_audit.locks import idle_sessions
from mavedb_audit.settings import Settings, settings
from tests.support import MaveDB, mavedb_of, raise_limits
from tests.support_http import AuditServer, audit_served, write_tokens

_DRIVER = "postgresql+psycopg"
_MIGRATED = "migrated"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_caller() -> Iterator[None]:
    """No test reaches a database or a Prefect server of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.lower() in Settings.model_fields or name.startswith("PREFECT_"):
                patch.delenv(name)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("DO_NOT_TRACK", "1")
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """An empty PostgreSQL cluster."""
    with _state_folder() as state:
        processes.prepare_folder(state)
        processes.claim(state)
        try:
            port = choose(state, ["postgres"])["postgres"]
            part, cluster = local_postgres.start(state, port, durable=False)
            local_postgres.wait(part, cluster)
            yield cluster
        finally:
            processes.stop(state)


@pytest.fixture
def empty_database(postgres: Cluster) -> Iterator[str]:
    """The SQLAlchemy URL of a database without any table."""
    with _database(postgres, "template1") as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_database(postgres: Cluster) -> str:
    """The name of a database with all tables, to make copies of."""
    local_postgres.create_databases(postgres, [_MIGRATED])
    with _state_folder() as state:
        processes.prepare_folder(state)
        processes.claim(state)
        migrations = local_stack.migrate(state, {"DATABASE_URL": postgres.url(_MIGRATED)})
        processes.wait_for_success(state, migrations)
    return _MIGRATED


@pytest.fixture
def domain_database(postgres: Cluster, _migrated_database: str) -> Iterator[str]:
    """The SQLAlchemy URL of a database with MaveDB's tables and ours, all empty."""
    with _database(postgres, _migrated_database) as url:
        yield url


@pytest.fixture
def use_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes this process connect to a URL, as if it had started with it."""

    def forget() -> None:
        settings.cache_clear()
        engine.cache_clear()
        idle_sessions.cache_clear()

    def use(url: str) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        forget()

    yield use
    monkeypatch.undo()
    forget()


@pytest.fixture
def audit_server(
    domain_database: str,
    use_database: Callable[[str], None],
    tmp_path: Path,
) -> Iterator[AuditServer]:
    """Our HTTP server on a database with MaveDB's tables and ours, all empty; without Prefect."""
    from prefect.context import refresh_global_settings_context

    tokens_file = tmp_path / "tokens"
    tokens = write_tokens(tokens_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_API_TOKENS_FILE", str(tokens_file))
        # What the stack has set, where another test has started it.
        patch.delenv("AUDIT_API_TOKENS", raising=False)
        patch.delenv("PREFECT_API_URL", raising=False)
        refresh_global_settings_context()
        use_database(domain_database)
        with audit_served(tokens_file, *tokens) as server:
            yield server
    refresh_global_settings_context()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole deployment, with simulators; this process has its settings from then on."""
    import prefect.context

    with (
        _state_folder() as state,
        local_stack.running(state, durable=False, retry_delays_seconds=[0, 0]) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.env.items():
            patch.setenv(name, value)
        settings.cache_clear()
        prefect.context.refresh_global_settings_context()
        raise_limits(running)
        yield running


@pytest.fixture(scope="session")
def mavedb(stack: Stack) -> MaveDB:
    return mavedb_of(stack)


@contextmanager
def _state_folder() -> Iterator[Path]:
    """A folder that the database server, which is another user when we are root, may enter."""
    state = Path(tempfile.mkdtemp(prefix="mavedb-audit-tests-"))
    try:
        yield state
    finally:
        shutil.rmtree(state)


@contextmanager
def _database(cluster: Cluster, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    local_postgres.create_databases(cluster, [name], template)
    try:
        yield cluster.url(name, _DRIVER)
    finally:
        local_postgres.drop_database(cluster, name)
