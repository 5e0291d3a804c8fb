"""The lock that a running step holds, which excludes a second run and shows that it lives.

It is a session-level advisory lock on a connection of its own: when the process dies, PostgreSQL
drops it at once. Keepalives let PostgreSQL notice a host that vanished without a word.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from mavedb_audit.database import engine
from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.settings import settings

_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


def step_lock_key(score_set_id: int | None, job_key: str) -> str:
    """What the lock is taken on: the same step on the same score set, whatever the pipeline."""
    return f"mavedb_audit:step:{score_set_id}:{job_key}"


@contextmanager
def step_lock(
    score_set_id: int | None, job_key: str, *, on_wait: Callable[[], None]
) -> Iterator[None]:
    """Hold the step's lock. Calls `on_wait` once if another run holds it, then waits for it.

    Raises StepError (scheduling_error, so Prefect tries again) when it stays taken.
    """
    key = step_lock_key(score_set_id, job_key)
    own_engine = create_engine(
        engine().url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={
            **_KEEPALIVES,
            "application_name": "mavedb-audit step lock",
            "connect_timeout": settings().database_connect_timeout_seconds,
        },
    )
    with own_engine.connect() as connection:
        taken = connection.execute(
            text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))"), {"key": key}
        ).scalar_one()
        if not taken:
            on_wait()
            _wait_for(connection, key)
        yield


def _wait_for(connection: Connection, key: str) -> None:
    seconds = settings().step_lock_timeout_seconds
    connection.execute(
        text("SELECT set_config('lock_timeout', :milliseconds, false)"),
        {"milliseconds": str(int(seconds * 1000))},
    )
    try:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), {"key": key})
    except OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        raise StepError(
            f"Another run of this step on this score set did not end within {seconds:g} seconds;"
            " this one gave way to it",
            FailureCategory.SCHEDULING_ERROR,
        ) from error
