"""The routes that change nothing."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from mavedb_audit import live
from mavedb_audit.api import parameters as asked
from mavedb_audit.api.problems import Route, documented
from mavedb_audit.database import connect
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries import accounts, failures, histories, jobs, pipelines, stories, system
from mavedb_audit.reasons import AnnotationStatus, Reason

routes = APIRouter(route_class=Route, responses={**documented(401, 403, 503)})


@routes.get("/job-runs/", tags=["Job runs"], summary="List job runs, newest first")
@routes.get("/job-runs", include_in_schema=False)
def list_job_runs(
    by: Annotated[jobs.JobFilter, Depends(asked.job_filter)],
    limit: asked.Limit = 50,
    offset: asked.Offset = 0,
) -> Sequence[jobs.Job]:
    with connect() as connection:
        return jobs.find(connection, by, limit=limit, offset=offset)


@routes.get(
    "/job-runs/{urn}",
    tags=["Job runs"],
    summary="One job run, with the traceback of its error",
    responses={**documented(404)},
)
def get_job_run(urn: asked.JobUrn) -> jobs.JobWithTraceback:
    with connect() as connection:
        return jobs.one(connection, urn)


@routes.get("/pipelines/", tags=["Pipelines"], summary="List pipelines, newest first")
@routes.get("/pipelines", include_in_schema=False)
def list_pipelines(
    by: Annotated[pipelines.PipelineFilter, Depends(asked.pipeline_filter)],
    limit: asked.Limit = 50,
    offset: asked.Offset = 0,
) -> Sequence[pipelines.Pipeline]:
    with connect() as connection:
        return pipelines.find(connection, by, limit=limit, offset=offset)


@routes.get(
    "/pipelines/{urn}",
    tags=["Pipelines"],
    summary="One pipeline, and how far it is",
    responses={**documented(404)},
)
def get_pipeline(urn: asked.PipelineUrn) -> pipelines.PipelineWithProgress:
    with connect() as connection:
        return pipelines.one(connection, urn)


@routes.get(
    "/pipelines/{urn}/steps",
    tags=["Pipelines"],
    summary="Its steps: each one's state, attempts, progress and time left",
    responses={**documented(404)},
)
def get_pipeline_steps(urn: asked.PipelineUrn) -> pipelines.Detail:
    with connect() as connection:
        return pipelines.detail(connection, urn)


@routes.get(
    "/pipelines/{urn}/history",
    tags=["Pipelines"],
    summary="All that befell it: states, attempts and operators' actions, oldest first",
    responses={**documented(404)},
)
def get_pipeline_history(urn: asked.PipelineUrn) -> histories.History:
    with connect() as connection:
        return histories.history(connection, urn)


LastEventId = Annotated[
    str | None, Header(max_length=100, description="The last event that the client has seen.")
]


async def _watched(urn: asked.PipelineUrn, last_event_id: LastEventId = None) -> pipelines.Detail:
    """The pipeline now. Raises 204 for a client that has seen its end, so that it stays away."""
    detail: pipelines.Detail = await live.latest(urn)
    if live.has_ended(detail) and last_event_id == live.mark_of(detail):
        raise HTTPException(204)
    return detail


@routes.get(
    "/pipelines/{urn}/events",
    tags=["Pipelines"],
    summary="Its steps as they change, as server-sent events",
    description=(
        "An event `progress` for each change, with what `/steps` answers, and an event `ended`"
        " once it is over, after which the stream ends. A client that comes back with"
        " Last-Event-ID hears only what is new; 204 tells it that nothing will be."
    ),
    response_class=EventSourceResponse,
    responses={204: {"description": "It has ended, as the client knows"}, **documented(404)},
)
async def stream_pipeline_events(
    seen: Annotated[pipelines.Detail, Depends(_watched)], last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    async for mark, detail in live.changes(seen, last_event_id):
        yield ServerSentEvent(
            event="ended" if live.has_ended(detail) else "progress",
            id=mark,
            raw_data=detail.model_dump_json(by_alias=True),
        )


@routes.get(
    "/score-sets/{urn}/annotation-account",
    tags=["Annotations"],
    summary="How many of its variants have which status of each annotation, and why",
    responses={**documented(404)},
)
def get_annotation_account(urn: asked.ScoreSetUrn) -> accounts.Account:
    with connect() as connection:
        return accounts.account(connection, urn)


@routes.get(
    "/score-sets/{urn}/variants",
    tags=["Annotations"],
    summary="Its variants that have a status of an annotation",
    responses={**documented(400, 404)},
)
def list_variants(
    urn: asked.ScoreSetUrn,
    annotation_type: AnnotationType,
    version: Annotated[asked.Text | None, Query(description="Of its source.")] = None,
    status: AnnotationStatus | None = None,
    reason: Reason | None = None,
    cursor: Annotated[
        asked.Text | None, Query(description="The `nextCursor` of the page before.")
    ] = None,
    limit: asked.Limit = 50,
) -> accounts.VariantPage:
    with connect() as connection:
        return accounts.variants(
            connection,
            urn,
            annotation_type,
            version=version,
            status=status,
            reason=reason,
            cursor=cursor,
            limit=limit,
        )


@routes.get(
    "/variants/{urn}/why",
    tags=["Annotations"],
    summary="A variant's story: what was tried for each annotation, and what came of it",
    responses={**documented(404)},
)
def get_why(
    urn: asked.VariantUrn,
    annotation_type: Annotated[
        list[AnnotationType] | None, Query(description="Only these; all without any.")
    ] = None,
) -> stories.Story:
    with connect() as connection:
        return stories.why(connection, urn, annotation_type)


@routes.get("/failures", tags=["System"], summary="What failed, in groups")
def list_failures(
    by: failures.By = "reason", since: asked.Moment | None = None
) -> Sequence[failures.FailureGroup]:
    with connect() as connection:
        return failures.failures(connection, by=by, since=since)


@routes.get("/system", tags=["System"], summary="How the whole does: lag, open runs, services")
def get_system() -> system.System:
    with connect() as connection:
        return system.system(connection)
