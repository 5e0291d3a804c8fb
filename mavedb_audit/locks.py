"""The locks that a running flow and a running step hold: each shows that its process lives.

They are session-level advisory locks on connections of their own: when the process dies,
PostgreSQL drops them at once. A step's lock also excludes a second run of the same step on the
same score set. A connection that PostgreSQL lost (a restart) is made anew, and its lock taken
again, by a thread that looks after it.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any
from uuid import UUID

import psycopg

from mavedb_audit.database import lock_url, patiently
from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.logs import logger_of
from mavedb_audit.settings import settings

logger = logger_of(__name__)

Session = psycopg.Connection[Any]


#: SQL that says whether somebody holds the lock on a key: format it with an expression of text.
IS_HELD = """
    EXISTS (SELECT FROM pg_locks
             WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND (classid::bigint << 32 | objid::bigint) = hashtextextended({key}, 0))
"""


def flow_lock_key(flow_run_id: UUID) -> str:
    """What a flow run's lock is taken on; in SQL: 'mavedb_audit:flow:' || flow_run_id."""
    return f"mavedb_audit:flow:{flow_run_id}"


def step_lock_key(score_set_id: int | None, job_key: str) -> str:
    """What a step's lock is taken on: the same step on the same score set, in any pipeline."""
    return f"mavedb_audit:step:{score_set_id}:{job_key}"


@contextmanager
def flow_lock(flow_run_id: UUID) -> Iterator[None]:
    """Hold the flow run's lock. Another process that still holds it does not hinder this one."""
    with _kept_session(flow_lock_key(flow_run_id), _try_to_take):
        yield


@contextmanager
def step_lock(
    score_set_id: int | None, job_key: str, *, on_wait: Callable[[], None]
) -> Iterator[None]:
    """Hold the step's lock. Calls `on_wait` once if another run holds it, then waits for it.

    Raises StepError (scheduling_error, so Prefect tries again) when it stays taken.
    """
    key = step_lock_key(score_set_id, job_key)
    with in_turn(key, "Another run of this step on this score set", on_wait=on_wait):
        yield


@contextmanager
def in_turn(key: str, others: str, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on `key`, when those that hold it now have let it go.

    Calls `on_wait` once if it has to wait. Raises StepError (scheduling_error), which speaks of
    the `others`, when it stays taken.
    """

    def take(session: Session, key: str) -> None:
        if not _try_to_take(session, key):
            on_wait()
            _wait_for(session, key, others)

    with _kept_session(key, take):
        yield


@functools.cache
def idle_sessions() -> list[Session]:
    """Sessions that let their locks go: to open one takes as long as a small step."""
    return []


@contextmanager
def _kept_session(key: str, take: Callable[[Session, str], object]) -> Iterator[None]:
    sessions = [_session()]
    stop = threading.Event()
    # In our context, so that what it logs says for which step it is.
    keeper = threading.Thread(
        target=copy_context().run, args=(_keep, key, sessions, stop), daemon=True
    )
    try:
        try:
            take(sessions[-1], key)
        except psycopg.OperationalError as lost:
            logger.warning("lock.wait_interrupted", lock=key, error=str(lost))
            sessions[-1].close()
            sessions.append(patiently(_connect)())
            # The holder's session is gone as well: it takes its lock again before we ask for it.
            time.sleep(3 * settings().lock_check_seconds)
            take(sessions[-1], key)
        keeper.start()
        yield
    finally:
        stop.set()
        if keeper.ident is not None:
            keeper.join()
        _let_go(sessions[-1])


def _session() -> Session:
    try:
        return idle_sessions().pop()
    except IndexError:
        return patiently(_connect)()


def _let_go(session: Session) -> None:
    try:
        session.execute("DISCARD ALL")
    except psycopg.Error as lost:
        logger.debug("lock.session_closed", error=str(lost))
        session.close()
    else:
        idle_sessions().append(session)


def _keep(key: str, sessions: list[Session], stop: threading.Event) -> None:
    """Look after the session until told to stop; `sessions[-1]` is the one that lives."""
    while not stop.wait(settings().lock_check_seconds):
        try:
            sessions[-1].execute("SELECT 1")
        except psycopg.OperationalError as lost:
            logger.warning("lock.lost", lock=key, error=str(lost))
            sessions[-1].close()
            try:
                sessions.append(_connect())
                _try_to_take(sessions[-1], key)
            except psycopg.OperationalError as error:
                logger.warning("lock.not_retaken", lock=key, error=str(error))


def _connect() -> Session:
    url = lock_url().set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(
        url,
        autocommit=True,
        application_name="mavedb-audit lock",
        connect_timeout=settings().database_connect_timeout_seconds,
        # DISCARD ALL, before a session is idle, would take them away.
        prepare_threshold=None,
        # PostgreSQL, and we, notice a host that vanished without a word.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )


def _try_to_take(session: Session, key: str) -> bool:
    row = session.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key]).fetchone()
    return row is not None and bool(row[0])


def _wait_for(session: Session, key: str, others: str) -> None:
    seconds = settings().step_lock_timeout_seconds
    session.execute("SELECT set_config('lock_timeout', %s, false)", [str(int(seconds * 1000))])
    try:
        session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
    except psycopg.errors.LockNotAvailable as error:
        raise StepError(
            f"{others} did not end within {seconds:g} seconds; this one gave way to it",
            FailureCategory.SCHEDULING_ERROR,
        ) from error
