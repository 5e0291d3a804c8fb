"""What the tests of recovery do to processes: find, kill, stop and restart them."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from sqlalchemy import Row

from deployments.local import postgres, processes
from deployments.local.postgres import Cluster
from mavedb_audit.database import engine
from mavedb_audit.recovery import recover_until
from tests.support import MaveDB, Submitted, wait_until


def running_attempt(mavedb: MaveDB, submitted: Submitted, job_key: str) -> Row[Any]:
    """The open attempt of the job, once it waits for the service that it asks."""

    def found() -> list[Row[Any]]:
        return mavedb.rows(
            """
            SELECT attempt.*
              FROM job_attempts AS attempt JOIN planned_jobs AS planned USING (job_id)
              JOIN job_runs AS job ON job.id = planned.job_id
             WHERE planned.pipeline_id = :id AND job_key = :key AND outcome IS NULL
               AND job.progress_message LIKE 'Waiting for%'
            """,
            id=submitted.pipeline_id,
            key=job_key,
        )

    rows: list[Row[Any]] = wait_until(found)
    return rows[0]


def attempts(mavedb: MaveDB, submitted: Submitted, job_key: str) -> list[Row[Any]]:
    """All attempts of the job, oldest first."""
    return mavedb.rows(
        """
        SELECT attempt.* FROM job_attempts AS attempt JOIN planned_jobs USING (job_id)
         WHERE pipeline_id = :id AND job_key = :key ORDER BY attempt
        """,
        id=submitted.pipeline_id,
        key=job_key,
    )


def kill(pid: int) -> None:
    """kill -9, and wait until the process is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)


def terminate(pid: int) -> None:
    """SIGTERM, as a deploy sends it, and wait until the process is gone."""
    os.kill(pid, signal.SIGTERM)
    wait_for_end(pid)


def drop_locks(mavedb: MaveDB) -> None:
    """End the sessions that hold locks of flows and steps, as a network that breaks does."""
    mavedb.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'mavedb-audit lock' AND datname = current_database()
        """
    )


def stop_postgres(mavedb: MaveDB) -> None:
    """End the cluster: nobody of MaveDB, of gnomAD or of Prefect finds a database any more."""
    pid = pid_of(mavedb, "postgres")
    os.kill(pid, signal.SIGINT)
    wait_for_end(pid)


def restart_postgres(mavedb: MaveDB) -> None:
    """Stop the cluster, if it runs, and start it again on the same port and data."""
    part = processes.restart(mavedb.stack.state, "postgres")
    env = mavedb.stack.env
    postgres.wait(part, Cluster(int(env["PGPORT"]), env["PGPASSWORD"]))
    mavedb.engine.dispose()
    engine().dispose()


def wait_for_end(pid: int) -> None:
    def has_ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(has_ended)


def pid_of(mavedb: MaveDB, part: str) -> int:
    """The pid of a part of the stack, such as worker, prefect or postgres."""
    pid = processes.pid_of(mavedb.stack.state, part)
    assert pid is not None
    return pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def recovering() -> Iterator[None]:
    """One more recovery runs meanwhile, beside that of the stack."""
    stop = threading.Event()
    thread = threading.Thread(target=recover_until, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
