"""Pipelines: as MaveDB's admin routes list them, and for people, with their steps."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit.errors import NotFoundError
from mavedb_audit.queries.filters import clauses
from mavedb_audit.states import TERMINAL_JOB_STATUSES, TERMINAL_PIPELINE_STATUSES, JobStatus
from mavedb_audit.views import View


class Pipeline(View):
    """A row of pipelines with the names of MaveDB's admin view model."""

    id: int
    urn: str | None
    name: str
    description: str | None
    status: str
    correlation_id: str | None
    mavedb_version: str | None
    metadata: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    created_by_user_id: int | None


class Progress(View):
    """How far a pipeline is. `duration` is in seconds, to now while it runs."""

    total_jobs: int
    completed_jobs: int
    successful_jobs: int
    failed_jobs: int
    running_jobs: int
    pending_jobs: int
    completion_percentage: float
    duration: int
    status_counts: dict[str, int]


class PipelineWithProgress(Pipeline):
    progress: Progress


class PipelineFilter(View):
    """What a list of pipelines is narrowed to; None does not narrow."""

    status: str | None = None
    name: str | None = None
    correlation_id: str | None = None
    created_by_user_id: int | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    score_set_urn: str | None = None


class Summary(View):
    """A pipeline in a line, for people."""

    urn: str
    name: str
    status: str
    score_set_urn: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    requested_by: str | None
    jobs: int
    jobs_ended: int
    jobs_failed: int


class Step(View):
    """A job of a pipeline, as its last attempt shows it.

    `remaining_seconds` is an estimate from the progress that the step tells, or from how long the
    same function took before; None where neither is known. `run_id` is Prefect's task run.
    """

    job_urn: str
    job_key: str
    job_function: str
    status: str
    attempts: int
    retry_count: int
    max_retries: int
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_seconds: float | None
    remaining_seconds: float | None
    progress_current: int | None
    progress_total: int | None
    progress_message: str | None
    failure_category: str | None
    error_message: str | None
    after: list[str]
    run_id: UUID | None


class Action(View):
    """What somebody did to the pipeline, and why."""

    action: str
    actor: str
    reason: str | None
    created_at: datetime


class Detail(Summary):
    """A pipeline with its steps in the order of its plan. `flow_run_id` is Prefect's."""

    description: str | None
    correlation_id: str | None
    flow_run_id: UUID | None
    waiting_because: str | None
    steps: list[Step]
    actions: list[Action]


_COLUMNS = ", ".join(f"pipeline.{name}" for name in Pipeline.model_fields)

_CLAUSES = {
    "status": "pipeline.status = :status",
    "name": "pipeline.name = :name",
    "correlation_id": "pipeline.correlation_id = :correlation_id",
    "created_by_user_id": "pipeline.created_by_user_id = :created_by_user_id",
    "created_after": "pipeline.created_at >= :created_after",
    "created_before": "pipeline.created_at <= :created_before",
    "score_set_urn": """pipeline.id IN (
        SELECT planned.pipeline_id FROM planned_jobs AS planned
          JOIN scoresets ON scoresets.id = planned.score_set_id
         WHERE scoresets.urn = :score_set_urn)""",
}

_NEWEST = "ORDER BY pipeline.created_at DESC, pipeline.id DESC LIMIT :limit OFFSET :offset"

#: A step says how many of its parts are done; before that, and for those to come, the median of
#: the five runs of the same job with the score sets nearest in size tells how long it takes.
_TYPICAL = """
    SELECT earlier.job_function,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY earlier.seconds) AS seconds
      FROM (SELECT job.job_function,
                   extract(epoch FROM job.finished_at - job.started_at) AS seconds,
                   row_number() OVER (
                     PARTITION BY job.job_function
                     ORDER BY abs(ln((scoresets.num_variants + 1.0) / (:variants + 1.0))),
                              job.id DESC
                   ) AS nearness
              FROM (SELECT id FROM pipelines
                     WHERE name = :name AND status IN ('succeeded', 'partial')
                     ORDER BY created_at DESC LIMIT 50) AS pipeline
              JOIN job_runs AS job ON job.pipeline_id = pipeline.id
              JOIN planned_jobs AS planned ON planned.job_id = job.id
              JOIN scoresets ON scoresets.id = planned.score_set_id
             WHERE job.status = 'succeeded' AND job.started_at IS NOT NULL
           ) AS earlier
     WHERE earlier.nearness <= 5
     GROUP BY earlier.job_function
"""

_STEPS = """
    SELECT job.urn AS job_urn, coalesce(planned.job_key, job.job_function) AS job_key,
           job.job_function, job.status, tried.attempts, job.retry_count, job.max_retries,
           job.started_at, job.finished_at,
           extract(epoch FROM coalesce(job.finished_at, now()) - job.started_at)::float
             AS elapsed_seconds,
           job.progress_current, job.progress_total, job.progress_message,
           job.failure_category, job.error_message,
           ARRAY(SELECT coalesce(parent_plan.job_key, parent.job_function)
                   FROM job_dependencies AS dependency
                   JOIN job_runs AS parent ON parent.id = dependency.depends_on_job_id
                   LEFT JOIN planned_jobs AS parent_plan ON parent_plan.job_id = parent.id
                  WHERE dependency.id = job.id ORDER BY parent.id) AS after,
           (SELECT run_id FROM prefect_runs
             WHERE job_id = job.id AND kind = 'task'
             ORDER BY first_seen_at DESC LIMIT 1) AS run_id
      FROM job_runs AS job
      LEFT JOIN planned_jobs AS planned ON planned.job_id = job.id
     CROSS JOIN LATERAL (SELECT count(*) AS attempts FROM job_attempts WHERE job_id = job.id)
           AS tried
     WHERE job.pipeline_id = :id ORDER BY job.id
"""


def find(
    connection: Connection, by: PipelineFilter, *, limit: int = 50, offset: int = 0
) -> Sequence[Pipeline]:
    """The pipelines that the filter leaves, newest first."""
    where, given = clauses(by, _CLAUSES)
    rows = connection.execute(
        text(f"SELECT {_COLUMNS} FROM pipelines AS pipeline WHERE {where} {_NEWEST}"),
        {**given, "limit": limit, "offset": offset},
    )
    return [Pipeline.model_validate(row) for row in rows]


def one(connection: Connection, urn: str) -> PipelineWithProgress:
    """Raises NotFoundError for an unknown URN."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS},
                   extract(epoch FROM coalesce(finished_at, now()) - created_at)::int AS duration,
                   coalesce((SELECT jsonb_object_agg(status, jobs)
                               FROM (SELECT status, count(*) AS jobs FROM job_runs
                                      WHERE pipeline_id = pipeline.id GROUP BY status) AS counted),
                            '{{}}') AS status_counts
              FROM pipelines AS pipeline WHERE urn = :urn
            """
        ),
        {"urn": urn},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no pipeline {urn}")
    pipeline = Pipeline.model_validate(row)
    return PipelineWithProgress(
        **dict(pipeline), progress=progress_of(row.status_counts, row.duration)
    )


def progress_of(status_counts: Mapping[str, int], duration: int) -> Progress:
    """A pipeline's progress, from its number of jobs of each status, as MaveDB counts it."""
    total = sum(status_counts.values())
    completed = sum(status_counts.get(status, 0) for status in TERMINAL_JOB_STATUSES)
    return Progress(
        total_jobs=total,
        completed_jobs=completed,
        successful_jobs=status_counts.get(JobStatus.SUCCEEDED, 0),
        failed_jobs=sum(
            status_counts.get(status, 0) for status in (JobStatus.FAILED, JobStatus.ERRORED)
        ),
        running_jobs=sum(
            status_counts.get(status, 0) for status in (JobStatus.RUNNING, JobStatus.QUEUED)
        ),
        pending_jobs=status_counts.get(JobStatus.PENDING, 0),
        completion_percentage=100.0 * completed / total if total else 100.0,
        duration=duration,
        status_counts=dict(status_counts),
    )


def summaries(
    connection: Connection, by: PipelineFilter, *, limit: int = 50, offset: int = 0
) -> Sequence[Summary]:
    """The pipelines that the filter leaves, newest first, in a line each."""
    where, given = clauses(by, _CLAUSES)
    rows = connection.execute(
        text(
            f"""
            SELECT listed.*, scoresets.urn AS score_set_urn, users.username AS requested_by,
                   extract(epoch FROM coalesce(listed.finished_at, now()) - listed.started_at
                          )::float AS duration_seconds,
                   jobs.*
              FROM (SELECT pipeline.* FROM pipelines AS pipeline WHERE {where} {_NEWEST}) AS listed
              LEFT JOIN users ON users.id = listed.created_by_user_id
             CROSS JOIN LATERAL (
                   SELECT count(*) AS jobs,
                          count(*) FILTER (WHERE job.status = ANY (:ended)) AS jobs_ended,
                          count(*) FILTER (WHERE job.status IN ('failed', 'errored'))
                            AS jobs_failed,
                          max(planned.score_set_id) AS score_set_id
                     FROM job_runs AS job
                     LEFT JOIN planned_jobs AS planned ON planned.job_id = job.id
                    WHERE job.pipeline_id = listed.id) AS jobs
              LEFT JOIN scoresets ON scoresets.id = jobs.score_set_id
             ORDER BY listed.created_at DESC, listed.id DESC
            """
        ),
        {**given, "limit": limit, "offset": offset, "ended": sorted(TERMINAL_JOB_STATUSES)},
    )
    return [Summary.model_validate(row) for row in rows]


def detail(connection: Connection, urn: str) -> Detail:
    """Raises NotFoundError for an unknown URN."""
    row = connection.execute(
        text(
            """
            SELECT pipeline.id, pipeline.urn, pipeline.name, pipeline.status,
                   pipeline.description, pipeline.correlation_id, pipeline.created_at,
                   pipeline.started_at, pipeline.finished_at,
                   extract(epoch FROM coalesce(pipeline.finished_at, now()) - pipeline.started_at
                          )::float AS duration_seconds,
                   users.username AS requested_by, scoresets.urn AS score_set_urn,
                   coalesce(scoresets.num_variants, 0) AS variants, request.last_error,
                   coalesce((SELECT run_id FROM prefect_runs
                              WHERE pipeline_id = pipeline.id AND kind = 'flow'
                              ORDER BY first_seen_at DESC LIMIT 1),
                            request.flow_run_id) AS flow_run_id
              FROM pipelines AS pipeline
              LEFT JOIN users ON users.id = pipeline.created_by_user_id
              LEFT JOIN scoresets ON scoresets.id = (
                        SELECT max(score_set_id) FROM planned_jobs
                         WHERE pipeline_id = pipeline.id)
              LEFT JOIN pipeline_requests AS request ON request.pipeline_id = pipeline.id
             WHERE pipeline.urn = :urn
            """
        ),
        {"urn": urn},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no pipeline {urn}")
    typical: dict[str, float] = {}
    if row.status not in TERMINAL_PIPELINE_STATUSES:
        typical = {
            function: float(seconds)
            for function, seconds in connection.execute(
                text(_TYPICAL), {"name": row.name, "variants": row.variants}
            )
        }
    steps = [
        Step(
            **step,
            remaining_seconds=remaining_seconds(
                step["status"],
                step["elapsed_seconds"],
                step["progress_current"],
                step["progress_total"],
                typical.get(step["job_function"]),
            ),
        )
        for step in connection.execute(text(_STEPS), {"id": row.id}).mappings()
    ]
    actions = connection.execute(
        text(
            "SELECT action, actor, reason, created_at FROM operator_actions"
            " WHERE pipeline_id = :id ORDER BY id"
        ),
        {"id": row.id},
    )
    return Detail(
        **{name: row._mapping[name] for name in Detail.model_fields if name in row._mapping},
        jobs=len(steps),
        jobs_ended=sum(step.status in TERMINAL_JOB_STATUSES for step in steps),
        jobs_failed=sum(step.status in (JobStatus.FAILED, JobStatus.ERRORED) for step in steps),
        waiting_because=row.last_error if row.flow_run_id is None else None,
        steps=steps,
        actions=[Action.model_validate(action) for action in actions],
    )


def urn_of(connection: Connection, pipeline_id: int) -> str | None:
    """The URN of the pipeline of that id; None when it has none, or is gone."""
    urn: str | None = connection.execute(
        text("SELECT urn FROM pipelines WHERE id = :id"), {"id": pipeline_id}
    ).scalar_one_or_none()
    return urn


def remaining_seconds(
    status: str,
    elapsed: float | None,
    progress_current: int | None,
    progress_total: int | None,
    typical: float | None,
) -> float | None:
    """How long a job still takes, from its own progress, or from what it `typical`ly takes."""
    if status in TERMINAL_JOB_STATUSES:
        return None
    if status != JobStatus.RUNNING or elapsed is None:
        return typical
    if progress_current and progress_total and progress_current <= progress_total:
        return elapsed * (progress_total - progress_current) / progress_current
    return None if typical is None else max(typical - elapsed, 0.0)
