"""Connections to MaveDB's database, and whether it has the tables that the audit needs."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

import psycopg
import stamina
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mavedb_audit.errors import ConfigurationError, DatabaseUnreachableError, SchemaError
from mavedb_audit.settings import settings

#: What is raised by a database that does not answer, or that has no connection left for us.
DATABASE_UNREACHABLE = (DatabaseUnreachableError, OperationalError, PoolTimeoutError)

#: Tables of the models that no step touches: they are there for foreign keys and for people.
_NOT_NEEDED = frozenset(
    {
        "users",
        "roles",
        "users_roles",
        "licenses",
        "experiment_sets",
        "experiments",
        "taxonomies",
        "genome_identifiers",
        "variant_translations",
    }
)
#: Columns that MaveDB has dropped in later releases.
_OPTIONAL_COLUMNS = frozenset({("job_runs", "priority")})
#: What MaveDB has renamed in later releases: a table or a column of either name will do.
_RENAMED_TABLES = {"clinical_controls": "clinvar_controls"}
_RENAMED_COLUMNS = {("variant_annotation_status", "success_data"): "annotation_metadata"}
_VIEW = "published_variants_materialized_view"

if TYPE_CHECKING:
    # Importing it takes a tenth of the time that a flow needs to start, and no flow uses it.
    from sqlalchemy.orm import Session

#: What has a transaction of the caller's: a connection, or a session as MaveDB's API has it.
AnyConnection: TypeAlias = "Connection | Session"

P = ParamSpec("P")
T = TypeVar("T")


@functools.cache
def engine() -> Engine:
    """The engine of this process, on the database of DATABASE_URL or of the DB_* variables."""
    url = _url(settings().sqlalchemy_url, "DATABASE_URL")
    given_options = url.query.get("options", "")
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        connect_args={
            "connect_timeout": settings().database_connect_timeout_seconds,
            # A server that is gone without a word is noticed within half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "fallback_application_name": "mavedb-audit",
            "options": f"{given_options} -c timezone=UTC",
        },
    )


def patiently(work: Callable[P, T]) -> Callable[P, T]:
    """The function, called again while the database does not answer, for some minutes.

    For what a flow does between its steps. A step waits for its connections alone: what fails
    within a transaction of its own is tried again by Prefect.
    """
    retry = stamina.retry(
        on=(DatabaseUnreachableError, OperationalError, psycopg.OperationalError),
        attempts=None,
        timeout=settings().database_patience_seconds,
        wait_initial=0.2,
        wait_max=5.0,
    )
    return retry(work)


@contextmanager
def connect() -> Iterator[Connection]:
    """A connection of the pool, for one or more transactions.

    Raises DatabaseUnreachableError when there is none to be had.
    """
    with _checked_out() as connection:
        yield connection


@contextmanager
def connect_patiently() -> Iterator[Connection]:
    """As `connect`, after waiting some minutes for a database that does not answer."""
    with patiently(_checked_out)() as connection:
        yield connection


def _checked_out() -> Connection:
    try:
        return engine().connect()
    except DBAPIError as error:
        raise DatabaseUnreachableError(_why_unreachable(engine().url, error)) from error


def check_schema(connection: Connection) -> None:
    """Raise SchemaError for the first table, view or column that is needed and missing."""
    # Here, not above: a step's process needs connections, but no models.
    from mavedb_audit.models import OUR_TABLES, metadata

    there = _columns_by_table(connection)
    # MaveDB's first: where they are missing as well, it is another database.
    for table in sorted(metadata.sorted_tables, key=lambda table: table.name in OUR_TABLES):
        if table.name in _NOT_NEEDED:
            continue
        remedy = (
            "Run `alembic upgrade head`"
            if table.name in OUR_TABLES
            else "It is one of MaveDB's: is this MaveDB's database, and of a release that we know?"
        )
        columns = there.get(table.name) or there.get(_RENAMED_TABLES.get(table.name, ""))
        if columns is None:
            raise SchemaError(f"The table {table.name} is missing. {remedy}")
        for column in table.columns:
            place = (table.name, column.name)
            is_there = column.name in columns or _RENAMED_COLUMNS.get(place) in columns
            if not is_there and place not in _OPTIONAL_COLUMNS:
                raise SchemaError(f"The column {table.name}.{column.name} is missing. {remedy}")
    if _VIEW not in there:
        raise SchemaError(
            f"The materialized view {_VIEW} is missing. It is MaveDB's: is this MaveDB's database?"
        )


def _columns_by_table(connection: Connection) -> dict[str, set[str]]:
    """The columns of every table and view that a name without a schema finds."""
    rows = connection.execute(
        text(
            """
            SELECT relation.relname, array_agg(attribute.attname::text)
              FROM pg_class AS relation
              JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
             WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f')
               AND pg_table_is_visible(relation.oid)
               AND attribute.attnum > 0 AND NOT attribute.attisdropped
             GROUP BY relation.relname
            """
        )
    )
    return {table: set(columns) for table, columns in rows}


def lock_url() -> URL:
    """Where sessions are opened that hold locks."""
    return _url(settings().sqlalchemy_lock_url, "LOCK_DATABASE_URL")


def _url(given: URL | str, variable: str) -> URL:
    try:
        return make_url(given)
    except (ArgumentError, ValueError):
        # The URL may hold a password, so neither it nor SQLAlchemy's message of it is shown.
        raise ConfigurationError(
            f"{variable} cannot be read: it must look like"
            " postgresql://user:password@host:5432/mavedb, with special characters in the"
            " password percent-encoded"
        ) from None


def _why_unreachable(url: URL, error: DBAPIError) -> str:
    host = url.host or url.query.get("host", "localhost")
    variables = (
        "DATABASE_URL"
        if settings().database_url
        else "DB_HOST, DB_PORT, DB_DATABASE_NAME, DB_USERNAME and DB_PASSWORD"
    )
    cause = str(error.orig).strip().splitlines()[0]
    return (
        f"Cannot connect to the database {url.database} on {host}, port {url.port or 5432}:"
        f" {cause}. Check {variables}, and that the server runs"
    )
