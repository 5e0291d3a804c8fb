"""The database and Prefect, as commands reach them. Both are imported when a command asks."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mavedb_audit.errors import DatabaseUnreachableError, RequestError, SchemaError

if TYPE_CHECKING:
    from sqlalchemy import Connection


@contextmanager
def database() -> Iterator["Connection"]:
    """A connection, to ask what the read side knows."""
    from mavedb_audit.database import connect

    with expecting_our_database(), connect() as connection:
        yield connection


@contextmanager
def expecting_our_database() -> Iterator[None]:
    """Names what the database lacks, or does not allow, and says so when it went away."""
    from psycopg.errors import InsufficientPrivilege
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from mavedb_audit.database import check_schema, connect

    try:
        yield
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            raise SchemaError(
                f"The database does not allow it: {str(error.orig).splitlines()[0]}. Connect as a"
                " role that may"
            ) from error
        # Looked at only now: it takes longer to know all tables than to answer most questions.
        with connect() as connection:
            check_schema(connection)
        raise
    except OperationalError as error:
        cause = str(error.orig).strip().splitlines()[0]
        raise DatabaseUnreachableError(f"The database went away: {cause}") from error


def require_prefect() -> None:
    """Raise ConfigurationError unless a Prefect server is named."""
    from mavedb_audit import histories

    histories.require_prefect()


def actor_of(given: str | None) -> str:
    """Who does what the audit writes down: the one who is named, or the user of this process."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise RequestError("Nobody knows who you are here: say it, with --as NAME") from None


def in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment
