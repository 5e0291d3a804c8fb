"""Attempts of a job: begun before its step runs, ended in the step's own transaction."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit.errors import StepError
from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.metrics import Usage
from mavedb_audit.recorder.closing import (
    close_unsuccessful,
    derive_pipeline_status,
    lock_for_closing,
    lock_pipeline,
    out_of_reach,
)
from mavedb_audit.recorder.superseding import superseded
from mavedb_audit.release import release_of
from mavedb_audit.states import TERMINAL_JOB_STATUSES, JobStatus


@dataclass(frozen=True)
class Job:
    """A planned job as its step sees it."""

    job_id: int
    urn: str
    key: str
    function: str
    pipeline_id: int | None
    score_set_id: int | None
    params: Mapping[str, Any]
    pipeline_urn: str | None
    correlation_id: str | None


@dataclass(frozen=True)
class Attempt:
    """One try of a job by one task run. `number` counts from 1 over the job's whole life."""

    attempt_id: int
    number: int
    job: Job


@dataclass(frozen=True)
class DoneBefore:
    """The job had succeeded already: it is not run again."""

    job: Job


@dataclass(frozen=True)
class NotStartable:
    """The job is not run: a job that it needs did not succeed, it was ended already, or a newer
    upload has replaced its variants."""

    job: Job
    status: JobStatus
    failure: Failure


class AttemptLostError(StepError):
    """Nothing of the attempt may be written: another one, or a newer upload, took its place."""

    def __init__(self, attempt: Attempt, superseded: Failure | None) -> None:
        why = "It is no longer the current one" if superseded is None else superseded.message
        super().__init__(
            f"Attempt {attempt.number} of {attempt.job.key} (job {attempt.job.urn}) wrote nothing."
            f" {why}",
            FailureCategory.CANCELLED,
        )


def find_job(connection: Connection, flow_run_id: UUID, job_key: str) -> Job | None:
    """The planned job of that key in the pipeline that the flow run is bound to."""
    row = connection.execute(
        text(
            """
            SELECT job.id, job.urn, planned.job_key, job.job_function, job.pipeline_id,
                   planned.score_set_id, coalesce(job.job_params, '{}'),
                   pipeline.urn AS pipeline_urn, job.correlation_id
              FROM prefect_runs AS flow_run
              JOIN planned_jobs AS planned USING (pipeline_id)
              JOIN job_runs AS job ON job.id = planned.job_id
              JOIN pipelines AS pipeline ON pipeline.id = planned.pipeline_id
             WHERE flow_run.run_id = :flow_run_id AND planned.job_key = :job_key
            """
        ),
        {"flow_run_id": flow_run_id, "job_key": job_key},
    ).one_or_none()
    return None if row is None else Job(*row)


def begin_attempt(
    connection: Connection,
    job: Job,
    *,
    flow_run_id: UUID,
    task_run_id: UUID,
    run_count: int,
    host: str,
    process_id: int,
) -> Attempt | DoneBefore | NotStartable:
    """Set the job running under a new attempt; an attempt still open before it is abandoned."""
    unmet = _unmet_dependency(connection, job)
    overtaken = superseded(connection, job.pipeline_id)
    if (unmet or overtaken) is not None and job.pipeline_id is not None:
        lock_for_closing(connection, [job.pipeline_id])
    else:
        lock_pipeline(connection, job.pipeline_id)
    status = JobStatus(
        connection.execute(
            text("SELECT status FROM job_runs WHERE id = :id FOR NO KEY UPDATE"),
            {"id": job.job_id},
        ).scalar_one()
    )
    if status is JobStatus.SUCCEEDED:
        return DoneBefore(job)
    if status in TERMINAL_JOB_STATUSES:
        ended = Failure(FailureCategory.CANCELLED, f"Not run: the job was {status} before.")
        return NotStartable(job, status, ended)
    if unmet is not None:
        close_unsuccessful(connection, job.job_id, JobStatus.SKIPPED, unmet)
        derive_pipeline_status(connection, job.pipeline_id)
        return NotStartable(job, JobStatus.SKIPPED, unmet)
    if overtaken is not None:
        close_unsuccessful(connection, job.job_id, JobStatus.CANCELLED, overtaken)
        derive_pipeline_status(connection, job.pipeline_id)
        return NotStartable(job, JobStatus.CANCELLED, overtaken)
    connection.execute(
        text(
            """
            UPDATE job_attempts SET outcome = 'abandoned', finished_at = now()
             WHERE job_id = :job_id AND outcome IS NULL
            """
        ),
        {"job_id": job.job_id},
    )
    attempt_id, number = connection.execute(
        text(
            """
            INSERT INTO job_attempts (job_id, attempt, flow_run_id, task_run_id, run_count, host,
                                      process_id)
            SELECT :job_id, coalesce(max(attempt), 0) + 1, :flow_run_id, :task_run_id,
                   :run_count, :host, :process_id
              FROM job_attempts WHERE job_id = :job_id
            RETURNING id, attempt
            """
        ),
        {
            "job_id": job.job_id,
            "flow_run_id": flow_run_id,
            "task_run_id": task_run_id,
            "run_count": run_count,
            "host": host,
            "process_id": process_id,
        },
    ).one()
    connection.execute(
        text(
            f"""
            UPDATE job_runs
               SET status = 'running', started_at = now(), finished_at = NULL,
                   retry_count = :number - 1, progress_current = NULL, progress_total = NULL,
                   progress_message = 'Started', error_message = NULL, error_traceback = NULL,
                   failure_category = NULL {release_of(connection).touched}
             WHERE id = :job_id
            """
        ),
        {"job_id": job.job_id, "number": number},
    )
    return Attempt(attempt_id, number, job)


def _unmet_dependency(connection: Connection, job: Job) -> Failure | None:
    """Why the job must be skipped, by MaveDB's rules: a parent that failed where its success is
    required, or that was skipped or cancelled."""
    row = connection.execute(
        text(
            """
            SELECT coalesce(planned.job_key, parent.job_function) AS key, parent.status
              FROM job_dependencies AS dependency
              JOIN job_runs AS parent ON parent.id = dependency.depends_on_job_id
              LEFT JOIN planned_jobs AS planned ON planned.job_id = parent.id
             WHERE dependency.id = :job_id
               AND (parent.status IN ('skipped', 'cancelled')
                    OR parent.status IN ('failed', 'errored')
                       AND dependency.dependency_type = 'success_required')
             ORDER BY parent.id LIMIT 1
            """
        ),
        {"job_id": job.job_id},
    ).one_or_none()
    return None if row is None else out_of_reach(row.key, row.status)


def hold_attempt(connection: Connection, attempt: Attempt) -> None:
    """Fence: raise AttemptLostError unless the attempt is current; keep it so until the commit.

    The caller holds the score set's account, so no newer upload's variants come in between.
    """
    lock_pipeline(connection, attempt.job.pipeline_id)
    status = connection.execute(
        text("SELECT status FROM job_runs WHERE id = :id FOR NO KEY UPDATE"),
        {"id": attempt.job.job_id},
    ).scalar_one()
    is_open = connection.execute(
        text("SELECT outcome IS NULL FROM job_attempts WHERE id = :id"),
        {"id": attempt.attempt_id},
    ).scalar_one_or_none()
    overtaken = superseded(connection, attempt.job.pipeline_id)
    if status != JobStatus.RUNNING or not is_open or overtaken is not None:
        raise AttemptLostError(attempt, overtaken)


def finish_attempt(
    connection: Connection, attempt: Attempt, data: Mapping[str, Any], used: Usage
) -> None:
    """Record the attempt, and with it the job, as succeeded. `data` becomes the job's result."""
    hold_attempt(connection, attempt)
    _end_attempt(connection, attempt, "succeeded", None, used)
    connection.execute(
        text(
            f"""
            UPDATE job_runs
               SET status = 'succeeded', finished_at = now(), progress_message = 'Done',
                   progress_current = coalesce(progress_total, 100),
                   progress_total = coalesce(progress_total, 100),
                   metadata = metadata || CAST(:result AS jsonb) {release_of(connection).touched}
             WHERE id = :job_id
            """
        ),
        {
            "job_id": attempt.job.job_id,
            "result": json.dumps(
                {"result": {"status": "ok", "data": dict(data), "exception_details": None}}
            ),
        },
    )
    derive_pipeline_status(connection, attempt.job.pipeline_id)


def skip_attempt(connection: Connection, attempt: Attempt, why: str, used: Usage) -> None:
    """Record the job as skipped: the step has nothing to do in this installation, and says why."""
    _lock_for_closing(connection, attempt)
    hold_attempt(connection, attempt)
    failure = Failure(FailureCategory.CONFIGURATION_ERROR, why)
    _end_attempt(connection, attempt, "skipped", failure, used)
    close_unsuccessful(connection, attempt.job.job_id, JobStatus.SKIPPED, failure)
    derive_pipeline_status(connection, attempt.job.pipeline_id)


def fail_attempt(
    connection: Connection,
    attempt: Attempt,
    failure: Failure,
    used: Usage,
    *,
    will_be_retried: bool,
) -> None:
    """Record the attempt as failed; the job with it, unless Prefect is about to try again."""
    if not will_be_retried:
        _lock_for_closing(connection, attempt)
    hold_attempt(connection, attempt)
    _end_attempt(connection, attempt, "failed", failure, used)
    if will_be_retried:
        connection.execute(
            text(
                f"""
                UPDATE job_runs SET status = 'queued', progress_message = left(:message, 500),
                                    error_message = :failure, failure_category = :category
                                    {release_of(connection).touched}
                 WHERE id = :job_id
                """
            ),
            {
                "job_id": attempt.job.job_id,
                "message": f"Attempt {attempt.number} failed, trying again: {failure.message}",
                "failure": failure.message,
                "category": failure.category,
            },
        )
        return
    close_unsuccessful(connection, attempt.job.job_id, JobStatus.FAILED, failure)
    derive_pipeline_status(connection, attempt.job.pipeline_id)


def _lock_for_closing(connection: Connection, attempt: Attempt) -> None:
    if attempt.job.pipeline_id is not None:
        lock_for_closing(connection, [attempt.job.pipeline_id])


def _end_attempt(
    connection: Connection, attempt: Attempt, outcome: str, failure: Failure | None, used: Usage
) -> None:
    """The only writer of job_metrics, in the statement that ends the attempt."""
    connection.execute(
        text(
            """
            WITH ended AS (
                UPDATE job_attempts
                   SET outcome = :outcome, finished_at = now(), error_message = :message,
                       error_traceback = :traceback, failure_category = :category
                 WHERE id = :attempt_id
             RETURNING id
            )
            INSERT INTO job_metrics (attempt_id, wall_seconds, cpu_seconds, peak_memory_bytes,
                                     http_requests, cache_hits, cache_misses, variants)
            SELECT id, :wall_seconds, :cpu_seconds, :peak_memory_bytes,
                   CAST(:http_requests AS jsonb), :cache_hits, :cache_misses,
                   CAST(:variants AS integer)
              FROM ended
            """
        ),
        {
            **asdict(used),
            "http_requests": json.dumps(used.http_requests),
            "attempt_id": attempt.attempt_id,
            "outcome": outcome,
            "message": failure.message if failure else None,
            "traceback": failure.traceback if failure else None,
            "category": failure.category if failure else None,
        },
    )


def report_wait(connection: Connection, job: Job) -> None:
    """Show others that the job waits for another run of the same step."""
    connection.execute(
        text(
            f"""
            UPDATE job_runs SET progress_message = :message {release_of(connection).touched}
             WHERE id = :id
            """
        ),
        {"id": job.job_id, "message": "Waiting for another run of this step on this score set"},
    )


def report_progress(
    connection: Connection, attempt: Attempt, current: int, total: int, message: str
) -> None:
    """Show how far the attempt is; does nothing once the job has left it behind.

    The attempt keeps it, when the job's own columns tell of a later one.
    """
    connection.execute(
        text(
            f"""
            WITH shown AS (
                UPDATE job_runs AS job
                   SET progress_current = :current, progress_total = :total,
                       progress_message = left(:message, 500) {release_of(connection).touched}
                  FROM job_attempts AS attempt
                 WHERE job.id = :job_id AND job.status = 'running'
                   AND attempt.id = :attempt_id AND attempt.outcome IS NULL
             RETURNING attempt.id
            )
            UPDATE job_attempts AS attempt
               SET progress_current = :current, progress_total = :total,
                   progress_message = left(:message, 500)
              FROM shown WHERE attempt.id = shown.id AND attempt.outcome IS NULL
            """
        ),
        {
            "job_id": attempt.job.job_id,
            "attempt_id": attempt.attempt_id,
            "current": current,
            "total": total,
            "message": message,
        },
    )
