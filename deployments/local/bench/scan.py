"""How long a scan of recovery takes while many jobs are open, all of them in good hands."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from deployments.local import filled
from deployments.local.bench.figures import Figure, Pair, each_below, figure_of
from deployments.local.bench.rows import vacuum
from mavedb_audit.locks import flow_lock_key
from mavedb_audit.recovery import findings
from mavedb_audit.settings import settings

_MOST_MILLISECONDS = 200.0
#: A start job has succeeded, one runs, and the rest waits for it.
_OPEN_JOBS_A_PIPELINE = len(filled.PLAN.steps)
_SCANS = 20
_SCORE_SETS = 101
_MINUTES_BETWEEN = 30

_OPEN_JOBS = text("SELECT id FROM job_runs WHERE status IN ('pending', 'queued', 'running')")
_OPEN_FLOW_RUNS = text(
    """
    SELECT run_id FROM prefect_runs JOIN pipelines ON pipelines.id = pipeline_id
     WHERE kind = 'flow' AND status = 'running'
    """
)
_LOCK = text(
    """
    SELECT count(pg_advisory_lock(hashtextextended(key, 0)))
      FROM unnest(CAST(:keys AS text[])) AS key
    """
)
_UPTIME = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float")


def scanning(engine: Engine, open_jobs: int, ended_pipelines: int) -> Figure:
    """The milliseconds that a scan asks the database for, beside reading the open jobs' ids.

    Their flows hold their locks, so that nothing is found, and Prefect is not asked. As many
    pipelines lie behind them as have ended.
    """
    with engine.begin() as connection, filled.in_bulk(connection):
        score_set_ids = filled.insert_score_sets(connection, "tmp:scanned", [1] * _SCORE_SETS)
        filled.insert_pipelines(
            connection, score_set_ids, ended_pipelines, minutes_between=_MINUTES_BETWEEN
        )
        filled.insert_pipelines(
            connection,
            score_set_ids,
            -(-open_jobs // _OPEN_JOBS_A_PIPELINE),
            minutes_between=0.1,
            is_open=True,
        )
    vacuum(engine)
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        _flows_alive(engine),
    ):
        _wait_until_locks_count(connection)
        pairs = [
            Pair(_milliseconds(connection, _scan), _milliseconds(connection, _read_open_jobs))
            for _ in range(_SCANS)
        ]
    return figure_of(
        f"recovery scan at {open_jobs:,} open jobs",
        "ms",
        pairs,
        each_below(_MOST_MILLISECONDS, "ms"),
    )


@contextmanager
def _flows_alive(engine: Engine) -> Iterator[None]:
    """Meanwhile a session holds the locks of all open flow runs, as their processes would."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
        flow_run_ids = session.execute(_OPEN_FLOW_RUNS).scalars()
        session.execute(_LOCK, {"keys": [flow_lock_key(id_) for id_ in flow_run_ids]})
        yield
        session.execute(text("SELECT pg_advisory_unlock_all()"))


def _wait_until_locks_count(connection: Connection) -> None:
    """Until then a scan takes nobody for dead, and so looks at no lock."""
    uptime = connection.execute(_UPTIME).scalar_one()
    time.sleep(max(0.0, settings().recovery_restart_grace_seconds - uptime))


def _scan(connection: Connection) -> None:
    found = [
        *findings.suspects(connection, by_time=True),
        *findings.unreported_ends(connection),
        *findings.stuck_cancellations(connection),
        *findings.left_task_runs(connection),
    ]
    assert found == []


def _read_open_jobs(connection: Connection) -> None:
    connection.execute(_OPEN_JOBS).all()


def _milliseconds(connection: Connection, work: Callable[[Connection], None]) -> float:
    began = time.perf_counter()
    work(connection)
    return (time.perf_counter() - began) * 1000
