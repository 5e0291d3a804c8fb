"""What becomes of a pipeline whose flow run died: tried again, sent to Prefect again, or closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.pipelines import START_PIPELINE
from mavedb_audit.recorder.closing import close_unsuccessful, derive_pipeline_status, lock_pipeline
from mavedb_audit.recorder.moves import close_open_jobs
from mavedb_audit.release import release_of
from mavedb_audit.states import JobStatus


@dataclass(frozen=True)
class Try:
    """An open job that was tried: it ran, or waited for its next attempt, when its flow died.

    `attempts` counts those since the job was last scheduled, the one that ran among them.
    """

    job_id: int
    key: str
    attempts: int
    max_retries: int
    host: str
    process_id: int
    was_running: bool
    error_message: str | None

    @property
    def is_exhausted(self) -> bool:
        return self.attempts > self.max_retries

    @property
    def what_happened(self) -> str:
        process = f"(host {self.host}, pid {self.process_id})"
        if self.was_running:
            return f"The process ended while it ran {process}"
        return (
            f"The process ended before the next attempt {process};"
            f" the last one had failed: {self.error_message}"
        )


def is_open(connection: Connection, pipeline_id: int) -> bool:
    """Whether the pipeline can still be recovered: nobody has closed, cancelled or paused it."""
    is_open: bool = connection.execute(
        text("SELECT status IN ('created', 'running') FROM pipelines WHERE id = :id"),
        {"id": pipeline_id},
    ).scalar_one()
    return is_open


def tries(connection: Connection, pipeline_id: int) -> list[Try]:
    """The open jobs of the pipeline that were tried."""
    rows = connection.execute(
        text(
            """
            SELECT job.id, planned.job_key, count(*) AS attempts, job.max_retries,
                   (array_agg(attempt.host ORDER BY attempt.attempt DESC))[1] AS host,
                   (array_agg(attempt.process_id ORDER BY attempt.attempt DESC))[1] AS process_id,
                   bool_or(attempt.outcome IS NULL) AS was_running,
                   (array_agg(attempt.error_message ORDER BY attempt.attempt DESC))[1]
              FROM planned_jobs AS planned
              JOIN job_runs AS job ON job.id = planned.job_id
              JOIN job_attempts AS attempt
                ON attempt.job_id = job.id AND attempt.started_at >= job.scheduled_at
             WHERE planned.pipeline_id = :id AND job.status IN ('pending', 'queued', 'running')
             GROUP BY job.id, planned.job_key ORDER BY job.id
            """
        ),
        {"id": pipeline_id},
    )
    return [Try(*row) for row in rows]


def retries_in_vain(connection: Connection, pipeline_id: int) -> tuple[int, int]:
    """How often the pipeline was recovered since a job of it was last tried, and how often it may.

    It bounds what no job's own retries bound: a flow that dies between its steps again and again.
    """
    in_vain, allowed = connection.execute(
        text(
            """
            SELECT (SELECT count(*) FROM operator_actions AS action
                     WHERE action.pipeline_id = :id AND action.action = 'recover'
                       AND action.created_at > greatest(max(job.scheduled_at),
                                                        max(attempt.started_at))),
                   coalesce(max(job.max_retries), 0)
              FROM job_runs AS job LEFT JOIN job_attempts AS attempt ON attempt.job_id = job.id
             WHERE job.pipeline_id = :id AND job.job_function <> :start
            """
        ),
        {"id": pipeline_id, "start": START_PIPELINE},
    ).one()
    return in_vain, allowed


def fail_open_attempts(connection: Connection, pipeline_id: int, open_tries: Sequence[Try]) -> None:
    """End the attempts that nobody works on any more; their jobs wait for the next one.

    The caller holds the pipeline's lock.
    """
    running = [tried for tried in open_tries if tried.was_running]
    connection.execute(
        text(
            """
            UPDATE job_attempts AS attempt
               SET outcome = 'failed', finished_at = now(), error_message = tried.message,
                   failure_category = :category
              FROM unnest(CAST(:job_ids AS integer[]), CAST(:messages AS text[]))
                   AS tried (job_id, message)
             WHERE attempt.job_id = tried.job_id AND attempt.outcome IS NULL
            """
        ),
        {
            "job_ids": [tried.job_id for tried in running],
            "messages": [tried.what_happened for tried in running],
            "category": FailureCategory.SYSTEM_ERROR,
        },
    )
    connection.execute(
        text(
            f"""
            UPDATE job_runs AS job
               SET status = 'queued',
                   progress_message = 'Its process ended; the flow is tried again',
                   error_message = attempt.error_message,
                   failure_category = attempt.failure_category {release_of(connection).touched}
              FROM job_runs AS running LEFT JOIN LATERAL (
                SELECT error_message, failure_category FROM job_attempts
                 WHERE job_id = running.id ORDER BY attempt DESC LIMIT 1) AS attempt ON true
             WHERE job.id = running.id AND job.pipeline_id = :id AND job.status = 'running'
            """
        ),
        {"id": pipeline_id},
    )
    derive_pipeline_status(connection, pipeline_id)


def close_dead(
    connection: Connection, pipeline_id: int, open_tries: Sequence[Try], message: str
) -> None:
    """Close what a flow run left open that is not tried again.

    What was tried fails, or else what was due; the rest is skipped. The caller holds the locks of
    `lock_for_closing`.
    """
    failed = {tried.job_id: tried.what_happened for tried in open_tries} or {
        job_id: "The process ended before it began" for job_id in _due(connection, pipeline_id)
    }
    for job_id, what_happened in failed.items():
        failure = Failure(FailureCategory.SYSTEM_ERROR, f"{what_happened}. {message}")
        close_unsuccessful(connection, job_id, JobStatus.FAILED, failure, inferred=True)
    close_open_jobs(connection, pipeline_id, "FAILED", message)


def _due(connection: Connection, pipeline_id: int) -> list[int]:
    """The jobs that would have been next."""
    rows = connection.execute(
        text(
            """
            SELECT job.id FROM job_runs AS job
             WHERE job.pipeline_id = :id AND job.job_function <> :start
               AND job.status IN ('pending', 'queued', 'running')
               AND NOT EXISTS (
                 SELECT FROM job_dependencies AS dependency
                   JOIN job_runs AS parent ON parent.id = dependency.depends_on_job_id
                  WHERE dependency.id = job.id
                    AND parent.status IN ('pending', 'queued', 'running'))
             ORDER BY job.id
            """
        ),
        {"id": pipeline_id, "start": START_PIPELINE},
    )
    return list(rows.scalars())


def dispatch_again(connection: Connection, pipeline_id: int) -> bool:
    """Let a dispatcher take the pipeline's request once more. False when nobody requested it."""
    lock_pipeline(connection, pipeline_id)
    updated = connection.execute(
        text(
            """
            UPDATE pipeline_requests
               SET dispatched_at = NULL, flow_run_id = NULL, next_dispatch_at = clock_timestamp()
             WHERE pipeline_id = :id AND dispatched_at IS NOT NULL
            """
        ),
        {"id": pipeline_id},
    )
    return bool(updated.rowcount)


def note(connection: Connection, pipeline_id: int, action: str, reason: str) -> None:
    """Remember what recovery did to a pipeline, and why."""
    connection.execute(
        text(
            """
            INSERT INTO operator_actions (pipeline_id, action, actor, reason)
            VALUES (:pipeline_id, :action, 'recovery', :reason)
            """
        ),
        {"pipeline_id": pipeline_id, "action": action, "reason": reason},
    )


def times_noted(connection: Connection, pipeline_id: int, action: str) -> int:
    """How often recovery did that to the pipeline."""
    times: int = connection.execute(
        text(
            """
            SELECT count(*) FROM operator_actions
             WHERE pipeline_id = :id AND action = :action AND actor = 'recovery'
            """
        ),
        {"id": pipeline_id, "action": action},
    ).scalar_one()
    return times


def was_given_up(connection: Connection, flow_run_id: UUID, began_at: datetime) -> bool:
    """Whether the process that began the flow run then was taken for dead, and another one is to
    run in its place."""
    given_up: bool = connection.execute(
        text(
            """
            SELECT EXISTS (
                SELECT FROM prefect_transitions AS crash
                  JOIN prefect_transitions AS later USING (run_id)
                 WHERE run_id = :id AND crash.type = 'CRASHED' AND crash.timestamp > :began_at
                   AND later.type = 'SCHEDULED' AND later.timestamp > crash.timestamp)
            """
        ),
        {"id": flow_run_id, "began_at": began_at},
    ).scalar_one()
    return given_up
