"""Connections to the domain database, and the check of its tables."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from mavedb_audit.database import check_schema, connect, engine
from mavedb_audit.errors import ConfigurationError, DatabaseUnreachableError, SchemaError
from mavedb_audit.locks import IS_HELD, flow_lock, flow_lock_key


@pytest.fixture
def connection(domain_database: str) -> Iterator[Connection]:
    """A transaction on all tables, which is rolled back."""
    engine = create_engine(domain_database)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_a_connection_is_in_utc_and_keeps_the_urls_own_options(
    domain_database: str, use_database: Callable[[str], None]
) -> None:
    use_database(f"{domain_database}?options=-c%20lock_timeout%3D7s%20-c%20timezone%3DAsia/Tokyo")
    with connect() as connection:
        shown = [
            connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("timezone", "lock_timeout", "application_name")
        ]
    engine().dispose()

    assert shown == ["UTC", "7s", "mavedb-audit"]


def test_locks_are_held_in_sessions_of_their_own_url(
    domain_database: str,
    empty_database: str,
    use_database: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As behind a pooler; here the way around it leads to another database, to tell them apart."""
    monkeypatch.setenv("LOCK_DATABASE_URL", empty_database)
    use_database(domain_database)
    flow_run_id = uuid4()
    with flow_lock(flow_run_id), create_engine(empty_database).connect() as around:
        held = text(f"SELECT {IS_HELD.format(key=':key')}")
        key = {"key": flow_lock_key(flow_run_id)}
        assert around.execute(held, key).scalar_one()
        with connect() as connection:
            assert not connection.execute(held, key).scalar_one()
    engine().dispose()


def test_an_error_in_use_is_not_taken_for_an_unreachable_database(
    domain_database: str, use_database: Callable[[str], None]
) -> None:
    use_database(domain_database)
    with pytest.raises(OperationalError, match="statement timeout"), connect() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)"))
    engine().dispose()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:1/mavedb", "database mavedb on 127.0.0.1, port 1"),
        ("postgresql://me:secret@127.0.0.1:1/mavedb?sslmod=require", "sslmod"),
    ],
)
def test_an_unreachable_database_is_named_without_its_password(
    given: str, said: str, use_database: Callable[[str], None]
) -> None:
    use_database(given)
    with pytest.raises(DatabaseUnreachableError) as raised, connect():
        pass

    assert said in str(raised.value)
    assert "DATABASE_URL" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_parts_of_the_address_are_named_where_they_are_used(
    monkeypatch: pytest.MonkeyPatch, use_database: Callable[[str], None]
) -> None:
    monkeypatch.setenv("DB_HOST", "127.0.0.1")
    monkeypatch.setenv("DB_PORT", "1")
    use_database("")
    with pytest.raises(DatabaseUnreachableError, match="Check DB_HOST, DB_PORT"), connect():
        pass


@pytest.mark.parametrize("url", ["localhost/mavedb", "postgresql://me:se@cret@host:port/mavedb"])
def test_a_malformed_url_is_a_matter_of_configuration(
    url: str, use_database: Callable[[str], None]
) -> None:
    use_database(url)
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as raised:
        engine()
    assert "cret" not in str(raised.value)


def test_a_migrated_database_has_all_that_is_needed(connection: Connection) -> None:
    check_schema(connection)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE job_runs DROP COLUMN priority",
        "ALTER TABLE job_runs ADD COLUMN progress_updated_at timestamptz DEFAULT now()",
        "DROP TABLE variant_translations",
    ],
)
def test_what_the_audit_does_not_use_may_differ(connection: Connection, change: str) -> None:
    connection.execute(text(change))
    check_schema(connection)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE prefect_transitions", r"table prefect_transitions .* `alembic upgrade head`"),
        ("ALTER TABLE job_attempts DROP host", r"job_attempts\.host .* `alembic upgrade head`"),
        ("DROP TABLE job_dependencies", r"table job_dependencies .* MaveDB's"),
        (
            "ALTER TABLE variant_annotation_status RENAME success_data TO details",
            r"variant_annotation_status\.success_data .* MaveDB's",
        ),
        (
            "DROP MATERIALIZED VIEW published_variants_materialized_view",
            r"view published_variants_materialized_view .* MaveDB's",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(
    connection: Connection, change: str, said: str
) -> None:
    connection.execute(text(change))
    with pytest.raises(SchemaError, match=said):
        check_schema(connection)
