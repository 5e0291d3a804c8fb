"""Job runs, as MaveDB's own admin routes list them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from mavedb_audit.errors import NotFoundError
from mavedb_audit.queries.filters import clauses
from mavedb_audit.views import View


class Job(View):
    """A row of job_runs, under the names of MaveDB's admin view model."""

    id: int
    urn: str | None
    job_type: str
    job_function: str
    status: str
    correlation_id: str | None
    pipeline_id: int | None
    failure_category: str | None
    error_message: str | None
    mavedb_version: str | None
    job_params: dict[str, Any] | None
    metadata: dict[str, Any]
    max_retries: int
    retry_count: int
    retry_delay_seconds: int | None
    scheduled_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    progress_current: int | None
    progress_total: int | None
    progress_message: str | None


class JobWithTraceback(Job):
    error_traceback: str | None


class JobFilter(View):
    """What a list of jobs is narrowed to; None does not narrow. Both times are included."""

    status: str | None = None
    job_type: str | None = None
    job_function: str | None = None
    correlation_id: str | None = None
    pipeline_id: int | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


_CLAUSES = {
    "status": "status = :status",
    "job_type": "job_type = :job_type",
    "job_function": "job_function = :job_function",
    "correlation_id": "correlation_id = :correlation_id",
    "pipeline_id": "pipeline_id = :pipeline_id",
    "created_after": "created_at >= :created_after",
    "created_before": "created_at <= :created_before",
}


def find(
    connection: Connection, by: JobFilter, *, limit: int = 50, offset: int = 0
) -> Sequence[Job]:
    """The jobs that the filter leaves, newest first."""
    where, given = clauses(by, _CLAUSES)
    rows = connection.execute(
        text(
            f"SELECT {', '.join(Job.model_fields)} FROM job_runs WHERE {where}"
            " ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset"
        ),
        {**given, "limit": limit, "offset": offset},
    )
    return [Job.model_validate(row) for row in rows]


def one(connection: Connection, urn: str) -> JobWithTraceback:
    """Raises NotFoundError for an unknown URN."""
    row = connection.execute(
        text(f"SELECT {', '.join(JobWithTraceback.model_fields)} FROM job_runs WHERE urn = :urn"),
        {"urn": urn},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no job {urn}")
    return JobWithTraceback.model_validate(row)
