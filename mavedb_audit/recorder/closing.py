"""What follows when a job ends: its dependents, its variants' account, its pipeline's status."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from mavedb_audit import accounts, score_sets
from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.pipelines import CREATE, MAP, START_PIPELINE, step_of
from mavedb_audit.reasons import Reason
from mavedb_audit.recorder.superseding import superseded
from mavedb_audit.release import release_of
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES, JobStatus, PipelineStatus


@dataclass(frozen=True)
class Ended:
    """A job that ended without success, as far as its closing needs it."""

    job_id: int
    key: str
    function: str
    params: Mapping[str, Any]
    pipeline_id: int | None
    score_set_id: int | None


def lock_pipeline(connection: Connection, pipeline_id: int | None) -> None:
    """Hold the pipeline's row until the transaction ends, so that its jobs end one at a time."""
    if pipeline_id is not None:
        # NO KEY: rows that refer to the pipeline or a job may be written meanwhile.
        connection.execute(
            text("SELECT FROM pipelines WHERE id = :id FOR NO KEY UPDATE"), {"id": pipeline_id}
        )


def lock_for_closing(connection: Connection, pipeline_ids: Sequence[int]) -> None:
    """Hold the accounts of all score sets of the pipelines, and then the pipelines."""
    score_set_ids = connection.execute(
        text(
            """
            SELECT DISTINCT score_set_id FROM planned_jobs
             WHERE pipeline_id = ANY (:ids) AND score_set_id IS NOT NULL
            """
        ),
        {"ids": list(pipeline_ids)},
    ).scalars()
    accounts.lock_accounts(connection, score_set_ids)
    for pipeline_id in sorted(pipeline_ids):
        lock_pipeline(connection, pipeline_id)


def close_unsuccessful(
    connection: Connection,
    job_id: int,
    status: JobStatus,
    failure: Failure,
    *,
    inferred: bool = False,
) -> None:
    """Write the end of a job that did not succeed, and what follows from it.

    `failure` is the cause: of a failed or cancelled job, or why a skipped one had nothing to do.
    The job's variants get their reason, and the jobs that needed its success are skipped with
    theirs. The caller holds the locks of `lock_for_closing`. `inferred` marks an end that nobody
    witnessed, which a witness may still correct. A superseded pipeline leaves the score set alone:
    its variants, and its states, are those of a newer upload.
    """
    ended = _end_job(connection, job_id, status, failure, inferred=inferred)
    reason = {
        JobStatus.FAILED: Reason.STEP_FAILED,
        JobStatus.CANCELLED: Reason.STEP_CANCELLED,
        JobStatus.SKIPPED: Reason.UPSTREAM_NOT_DONE
        if failure.category is FailureCategory.DEPENDENCY_FAILURE
        else Reason.STEP_SKIPPED,
    }[status]
    not_run = out_of_reach(ended.key, status)
    dependents = _skip_dependents(connection, ended, status, not_run)
    if superseded(connection, ended.pipeline_id) is not None:
        return
    _account_for(connection, ended, reason, failure)
    for dependent in dependents:
        _account_for(connection, dependent, Reason.UPSTREAM_NOT_DONE, not_run)


def _account_for(connection: Connection, ended: Ended, reason: Reason, failure: Failure) -> None:
    """Give the rest of the job's scope its reason, and its score set the state it ends in."""
    if ended.score_set_id is None or ended.function == START_PIPELINE:
        return
    step = step_of(ended.function)
    for annotation_type in step.annotation_types:
        accounts.write_rest_of_scope(
            connection,
            job_id=ended.job_id,
            score_set_id=ended.score_set_id,
            annotation_type=annotation_type,
            version=step.version_of(ended.params),
            reason=reason,
            addition=f"[{ended.key}] {failure.message}",
        )
    never_ran = reason is Reason.UPSTREAM_NOT_DONE
    if ended.function == CREATE.function:
        score_sets.creation_failed(connection, ended.score_set_id, failure.message, failure.details)
    elif ended.function == MAP.function and never_ran:
        score_sets.mapping_not_attempted(connection, ended.score_set_id)
    elif ended.function == MAP.function:
        score_sets.mapping_failed(connection, ended.score_set_id, failure.message)


def out_of_reach(parent_key: str, parent_status: str) -> Failure:
    """Why a job is skipped that needed another one's success."""
    has_failed = parent_status in (JobStatus.FAILED, JobStatus.ERRORED)
    ending = "failed" if has_failed else f"was {parent_status}"
    return Failure(FailureCategory.DEPENDENCY_FAILURE, f"Not run, because {parent_key} {ending}.")


def _end_job(
    connection: Connection, job_id: int, status: JobStatus, failure: Failure, *, inferred: bool
) -> Ended:
    release = release_of(connection)
    unexpected = status is JobStatus.FAILED and failure.category is FailureCategory.UNKNOWN
    stored_status = JobStatus.ERRORED if unexpected and release.has_errored else status
    connection.execute(
        text(
            """
            UPDATE job_attempts SET outcome = :status, finished_at = now(),
                                    error_message = :message, failure_category = :category
             WHERE job_id = :job_id AND outcome IS NULL
            """
        ),
        {
            "job_id": job_id,
            "status": status,
            "message": failure.message,
            "category": failure.category,
        },
    )
    row = connection.execute(
        text(
            f"""
            UPDATE job_runs AS job
               SET status = :stored_status, finished_at = now(),
                   error_message = :message,
                   error_traceback = :traceback,
                   failure_category = :category,
                   metadata = (job.metadata - 'inferred') || CAST(:result AS jsonb)
                   {release.touched}
              FROM job_runs AS named LEFT JOIN planned_jobs AS planned ON planned.job_id = named.id
             WHERE job.id = :job_id AND named.id = job.id
         RETURNING job.id, coalesce(planned.job_key, job.job_function) AS key, job.job_function,
                   job.job_params, job.pipeline_id, planned.score_set_id
            """
        ),
        {
            "job_id": job_id,
            "stored_status": stored_status,
            "message": failure.message,
            "traceback": failure.traceback,
            "category": failure.category,
            "result": json.dumps(
                {
                    "result": {"status": status, "data": {}, "exception_details": None},
                    **({"inferred": True} if inferred else {}),
                }
            ),
        },
    ).one()
    return _ended(row)


def _ended(row: Row[Any]) -> Ended:
    return Ended(
        row.id,
        row.key,
        row.job_function,
        row.job_params or {},
        row.pipeline_id,
        row.score_set_id,
    )


def _skip_dependents(
    connection: Connection, parent: Ended, parent_status: JobStatus, not_run: Failure
) -> list[Ended]:
    """Skip every job that can no longer run because `parent` ended as it did."""
    rows = connection.execute(
        text(
            f"""
            WITH RECURSIVE unreachable (id) AS (
                SELECT dependency.id FROM job_dependencies AS dependency
                 WHERE dependency.depends_on_job_id = :job_id
                   AND (dependency.dependency_type = 'success_required' OR NOT :failed)
                 UNION
                SELECT dependency.id FROM job_dependencies AS dependency
                  JOIN unreachable ON dependency.depends_on_job_id = unreachable.id
            )
            UPDATE job_runs AS job
               SET status = 'skipped', finished_at = now(), error_message = :message,
                   failure_category = :category {release_of(connection).touched}
              FROM unreachable, job_runs AS named
              LEFT JOIN planned_jobs AS planned ON planned.job_id = named.id
             WHERE job.id = unreachable.id AND named.id = job.id
               AND job.status IN ('pending', 'queued')
         RETURNING job.id, coalesce(planned.job_key, job.job_function) AS key, job.job_function,
                   job.job_params, job.pipeline_id, planned.score_set_id
            """
        ),
        {
            "job_id": parent.job_id,
            "failed": parent_status is JobStatus.FAILED,
            "message": not_run.message,
            "category": not_run.category,
        },
    )
    return [_ended(row) for row in rows]


#: A pipeline's status by the statuses of its jobs, as an aggregate over `job_runs AS job` without
#: the start job. While a job can still run the pipeline runs. A failed job that others depend on
#: fails it, and so does an errored one; a failed leaf leaves it partial, and so does a job that is
#: switched off.
DERIVED_STATUS = """
    CASE
      WHEN bool_or(job.status IN ('pending', 'queued', 'running')) THEN 'running'
      WHEN bool_or(job.status = 'errored') THEN 'failed'
      WHEN bool_or(job.status = 'failed' AND EXISTS (
             SELECT FROM job_dependencies AS dependency
              WHERE dependency.depends_on_job_id = job.id
                AND dependency.dependency_type = 'success_required')) THEN 'failed'
      WHEN bool_and(job.status = 'succeeded') THEN 'succeeded'
      WHEN bool_or(job.status = 'succeeded') THEN 'partial'
      WHEN bool_or(job.status = 'failed') THEN 'failed'
      WHEN bool_or(job.status = 'cancelled') THEN 'cancelled'
      WHEN bool_or(job.failure_category = 'configuration_error') THEN 'partial'
      ELSE 'failed'
    END
"""


def derive_pipeline_status(
    connection: Connection, pipeline_id: int | None, *, overrule: bool = False
) -> None:
    """Set the pipeline's status from its jobs'. The caller holds the pipeline's lock.

    Terminal pipelines stay as they are, and paused ones while a job can still run; `overrule`
    corrects an end that was derived, but never a cancellation.
    """
    if pipeline_id is None:
        return
    connection.execute(
        text(
            f"""
            UPDATE pipelines AS pipeline
               SET status = derived.status,
                   finished_at = CASE WHEN derived.status = 'running' THEN NULL ELSE now() END
              FROM (
                SELECT {DERIVED_STATUS} AS status FROM job_runs AS job
                 WHERE job.pipeline_id = :pipeline_id AND job.job_function <> :start
              ) AS derived
             WHERE pipeline.id = :pipeline_id
               AND pipeline.status <> ALL (:settled)
               AND pipeline.status <> derived.status
               AND NOT (pipeline.status IN ('created', 'paused') AND derived.status = 'running')
            """
        ),
        {
            "pipeline_id": pipeline_id,
            "start": START_PIPELINE,
            "settled": [PipelineStatus.CANCELLED] if overrule else [*TERMINAL_PIPELINE_STATUSES],
        },
    )
