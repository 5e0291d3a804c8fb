"""What routes are asked with. Query parameters are snake_case, as MaveDB's are."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BeforeValidator, StringConstraints

from mavedb_audit.queries.jobs import JobFilter
from mavedb_audit.queries.pipelines import PipelineFilter
from mavedb_audit.states import JobStatus, PipelineStatus

#: PostgreSQL's text holds no NUL.
_WITHOUT_NUL = r"^[^\x00]*$"
_TEXT = StringConstraints(max_length=500, pattern=_WITHOUT_NUL)
_LARGEST_INTEGER = 2**31 - 1

Text = Annotated[str, _TEXT]
Reason = Annotated[str, StringConstraints(max_length=2_000, pattern=_WITHOUT_NUL)]
Identifier = Annotated[int, Query(ge=1, le=_LARGEST_INTEGER)]

JobUrn = Annotated[str, _TEXT, Path(examples=["urn:mavedb:job-0b7e3c1a"])]
PipelineUrn = Annotated[str, _TEXT, Path(examples=["urn:mavedb:pipeline-5d2f1c9e"])]
ScoreSetUrn = Annotated[str, _TEXT, Path(examples=["urn:mavedb:00000001-a-1"])]
VariantUrn = Annotated[
    str,
    _TEXT,
    Path(
        description="In a URL its # is written %23.",
        examples=["urn:mavedb:00000001-a-1#17"],
    ),
]


def _written_out(moment: Any) -> Any:
    """pydantic takes a number for seconds since 1970, which nobody means here."""
    try:
        float(moment)
    except (TypeError, ValueError):
        return moment
    raise ValueError("give a time as 2026-11-24T10:00:00Z")


Moment = Annotated[datetime, BeforeValidator(_written_out)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=_LARGEST_INTEGER, description="How many to leave out.")]


def job_filter(
    status: JobStatus | None = None,
    job_type: Text | None = None,
    job_function: Text | None = None,
    correlation_id: Text | None = None,
    pipeline_id: Identifier | None = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> JobFilter:
    return JobFilter(
        status=status,
        job_type=job_type,
        job_function=job_function,
        correlation_id=correlation_id,
        pipeline_id=pipeline_id,
        created_after=created_after,
        created_before=created_before,
    )


def pipeline_filter(
    status: PipelineStatus | None = None,
    name: Text | None = None,
    correlation_id: Text | None = None,
    created_by_user_id: Identifier | None = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
    score_set_urn: Text | None = None,
) -> PipelineFilter:
    return PipelineFilter(
        status=status,
        name=name,
        correlation_id=correlation_id,
        created_by_user_id=created_by_user_id,
        created_after=created_after,
        created_before=created_before,
        score_set_urn=score_set_urn,
    )
