"""The pages, and the forms of the operators' verbs. Each page needs the role read."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prefect.utilities.urls import url_for

from mavedb_audit import access, live, operations
from mavedb_audit.database import connect
from mavedb_audit.errors import RequestError
from mavedb_audit.histories import impatient_client
from mavedb_audit.logs import logger_of
from mavedb_audit.pipelines import PIPELINES, AnnotationType
from mavedb_audit.queries import accounts, failures, histories, jobs, pipelines, stories, system
from mavedb_audit.queries.pipelines import Detail, PipelineFilter
from mavedb_audit.queries.stories import Chapter
from mavedb_audit.reasons import MEANINGS, AnnotationStatus, Reason
from mavedb_audit.settings import settings
from mavedb_audit.states import PipelineStatus
from mavedb_audit.tokens import Role, User
from mavedb_audit.web.asked import (
    AskedFailures,
    AskedPipelines,
    AskedVariants,
    PageRoute,
    Text,
    Urn,
)
from mavedb_audit.web.following import follow
from mavedb_audit.web.matrix import matrix_of
from mavedb_audit.web.pages import in_path, page
from mavedb_audit.web.verbs import RERUN_FAILED, VERBS, Verb, offered

logger = logger_of(__name__)

_LISTED = 50

Reader = Annotated[User, Depends(access.reader)]
Operator = Annotated[User, Depends(access.operator)]
CallerOf = Annotated[access.Caller, Depends(access.caller)]
Why = Annotated[Text, Form()]


def _remember(request: Request, user: Reader) -> None:
    """Also a page that says what is wrong offers the ways to others."""
    request.state.user = user


routes = APIRouter(
    route_class=PageRoute, include_in_schema=False, dependencies=[Depends(_remember)]
)


@routes.get("/")
def list_pipelines(
    request: Request, user: Reader, asked: Annotated[AskedPipelines, Query()]
) -> Response:
    by = PipelineFilter(
        status=asked.status,
        name=asked.name,
        score_set_urn=asked.score_set,
        created_after=datetime.combine(asked.since, time.min, UTC) if asked.since else None,
        created_before=datetime.combine(asked.until, time.max, UTC) if asked.until else None,
    )
    with connect() as connection:
        found = pipelines.summaries(
            connection, by, limit=_LISTED + 1, offset=(asked.page - 1) * _LISTED
        )
    given = asked.model_dump(mode="json", exclude_none=True, exclude={"page"})
    return page(
        "pipelines.html",
        request,
        caller=user,
        pipelines=found[:_LISTED],
        asked=asked,
        is_filtered=bool(given),
        statuses=list(PipelineStatus),
        names=sorted(PIPELINES),
        newer=_query(given, page=asked.page - 1) if asked.page > 1 else None,
        older=_query(given, page=asked.page + 1) if len(found) > _LISTED else None,
    )


@routes.get("/pipelines/{urn}")
def show_pipeline(request: Request, user: Reader, urn: Urn) -> Response:
    with connect() as connection:
        pipeline = pipelines.detail(connection, urn)
    return page(
        "pipeline.html",
        request,
        caller=user,
        pipeline=pipeline,
        has_ended=live.has_ended(pipeline),
        verbs=offered(pipeline.status) if _can_operate(user) else [],
        flow_run_url=url_for("flow-run", pipeline.flow_run_id) if pipeline.flow_run_id else None,
    )


async def _seen(urn: Urn) -> Detail:
    detail: Detail = await live.latest(urn)
    return detail


@routes.get("/pipelines/{urn}/live", response_class=EventSourceResponse)
async def follow_pipeline(
    request: Request, user: Reader, seen: Annotated[Detail, Depends(_seen)]
) -> AsyncIterator[ServerSentEvent]:
    async for event in follow(request, seen, _can_operate(user)):
        yield event


@routes.get("/pipelines/{urn}/history")
def show_history(request: Request, user: Reader, urn: Urn) -> Response:
    with connect() as connection:
        history = histories.history(connection, urn)
    return page("history.html", request, caller=user, history=history)


@routes.get("/pipelines/{urn}/{path}")
def confirm_verb(request: Request, caller: CallerOf, urn: Urn, path: str) -> Response:
    verb = _verb(path)
    _require_operator(caller.user)
    return _confirm(request, caller, verb, urn, f"/pipelines/{in_path(urn)}")


@routes.post("/pipelines/{urn}/{path}")
def do_verb(
    request: Request, user: Operator, caller: CallerOf, urn: Urn, path: str, reason: Why = ""
) -> Response:
    verb = _verb(path)
    back = f"/pipelines/{in_path(urn)}"
    try:
        with impatient_client() as client:
            verb.operate(client, urn, actor=user.name, reason=reason or None)
    except RequestError as error:
        return _confirm(request, caller, verb, urn, back, error)
    _log(verb, urn, user)
    return _see(request, back)


@routes.get("/jobs/{urn}")
def show_job(request: Request, user: Reader, urn: Urn) -> Response:
    with connect() as connection:
        job = jobs.one(connection, urn)
        history = histories.history(connection, urn)
        pipeline_urn = pipelines.urn_of(connection, job.pipeline_id) if job.pipeline_id else None
        steps = pipelines.detail(connection, pipeline_urn).steps if pipeline_urn else []
    run_id = next((step.run_id for step in steps if step.job_urn == urn), None)
    return page(
        "job.html",
        request,
        caller=user,
        job=job,
        history=history,
        pipeline_urn=pipeline_urn,
        task_run_url=url_for("task-run", run_id) if run_id else None,
    )


@routes.get("/score-sets/{urn}")
def show_score_set(request: Request, user: Reader, urn: Urn) -> Response:
    with connect() as connection:
        account = accounts.account(connection, urn)
    has_failed = any(count.status == AnnotationStatus.FAILED for count in account.counts)
    return page(
        "score_set.html",
        request,
        caller=user,
        account=account,
        matrix=matrix_of(account),
        can_rerun=has_failed and _can_operate(user),
        score_set_url=f"{settings().mave_frontend_url}/score-sets/{in_path(urn)}",
    )


@routes.get("/score-sets/{urn}/variants")
def list_variants(
    request: Request, user: Reader, urn: Urn, asked: Annotated[AskedVariants, Query()]
) -> Response:
    given = asked.model_dump(mode="json", exclude_none=True)
    with connect() as connection:
        found = accounts.variants(connection, urn, limit=_LISTED, **given)
    first = {name: value for name, value in given.items() if name != "cursor"}
    return page(
        "variants.html",
        request,
        caller=user,
        urn=urn,
        found=found,
        asked=asked,
        meaning=MEANINGS[asked.reason] if asked.reason else None,
        annotation_types=list(AnnotationType),
        statuses=list(AnnotationStatus),
        reasons=list(Reason),
        first=_query(first) if asked.cursor else None,
        next=_query(first, cursor=found.next_cursor) if found.next_cursor else None,
    )


@routes.get("/score-sets/{urn}/rerun-failed")
def confirm_rerun(request: Request, caller: CallerOf, urn: Urn) -> Response:
    _require_operator(caller.user)
    return _confirm(request, caller, RERUN_FAILED, urn, f"/score-sets/{in_path(urn)}")


@routes.post("/score-sets/{urn}/rerun-failed")
def rerun_failed(
    request: Request, user: Operator, caller: CallerOf, urn: Urn, reason: Why = ""
) -> Response:
    try:
        planned = operations.rerun_failed_variants(urn, actor=user.name, reason=reason or None)
    except RequestError as error:
        return _confirm(request, caller, RERUN_FAILED, urn, f"/score-sets/{in_path(urn)}", error)
    _log(RERUN_FAILED, urn, user)
    return _see(request, f"/pipelines/{in_path(planned.pipeline_urn)}")


@routes.get("/variants/{urn}")
def show_variant(request: Request, user: Reader, urn: Urn) -> Response:
    with connect() as connection:
        story = stories.why(connection, urn)
    return page(
        "variant.html",
        request,
        caller=user,
        story=story,
        groups=_by_type(story.chapters),
        tally=Counter(chapter.status for chapter in story.chapters),
    )


@routes.get("/failures")
def show_failures(
    request: Request, user: Reader, asked: Annotated[AskedFailures, Query()]
) -> Response:
    since = datetime.now(UTC) - timedelta(days=asked.days) if asked.days else None
    with connect() as connection:
        found = failures.failures(connection, by=asked.by, since=since)
    return page("failures.html", request, caller=user, failures=found, by=asked.by, days=asked.days)


@routes.get("/system")
def show_system(request: Request, user: Reader) -> Response:
    with connect() as connection:
        found = system.system(connection)
    return page("system.html", request, caller=user, system=found)


@routes.get("/search")
def search(request: Request, urn: Text) -> Response:
    """To the page of what the URN names, as its form tells."""
    if urn.startswith("urn:mavedb:pipeline-"):
        kind = "pipelines"
    elif urn.startswith("urn:mavedb:job-"):
        kind = "jobs"
    else:
        kind = "variants" if "#" in urn else "score-sets"
    return _see(request, f"/{kind}/{in_path(urn)}")


def _query(given: dict[str, Any], **more: Any) -> str:
    return f"?{urlencode({**given, **more})}"


def _see(request: Request, path: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", status_code=303)


def _can_operate(user: User) -> bool:
    return user.role.includes(Role.OPERATE)


def _require_operator(user: User) -> None:
    if not _can_operate(user):
        raise HTTPException(403, f"{user.name} has the role {user.role}, and this needs operate")


def _verb(path: str) -> Verb:
    if path not in VERBS:
        raise HTTPException(404, f"Nothing of a pipeline is called {path}")
    return VERBS[path]


def _log(verb: Verb, urn: str, user: User) -> None:
    logger.info("http.operated", verb=verb.operate.__name__, urn=urn, user=user.name)


def _confirm(
    request: Request,
    caller: access.Caller,
    verb: Verb,
    urn: str,
    back: str,
    error: RequestError | None = None,
) -> Response:
    return page(
        "verb.html",
        request,
        status_code=409 if error else 200,
        caller=caller.user,
        csrf_token=caller.csrf_token or "",
        verb=verb,
        urn=urn,
        back=f"{request.scope.get('root_path', '')}{back}",
        error=error,
    )


def _by_type(chapters: Sequence[Chapter]) -> list[tuple[Chapter, list[Chapter]]]:
    """Each annotation's newest chapter with its other versions, newest first."""
    groups = []
    for _, versions in groupby(chapters, key=lambda chapter: chapter.annotation_type):
        newest, *others = reversed(list(versions))
        groups.append((newest, others))
    return groups
