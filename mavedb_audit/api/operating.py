"""The routes that change something: the operators' verbs. Each records who did it, and why."""

from typing import Annotated, Protocol

from fastapi import APIRouter
from fastapi import params as declared
from prefect.client.orchestration import SyncPrefectClient
from pydantic import ConfigDict, Field

from mavedb_audit import operations
from mavedb_audit.api import parameters as asked
from mavedb_audit.api.problems import Route, documented
from mavedb_audit.histories import impatient_client
from mavedb_audit.logs import logger_of
from mavedb_audit.states import PipelineStatus
from mavedb_audit.tokens import User
from mavedb_audit.views import View

logger = logger_of(__name__)


class Why(View):
    """Why somebody does it, for the audit."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        asked.Reason | None,
        Field(description="In words.", examples=["the wrong file"]),
    ] = None


class WhyRetry(Why):
    only_failed: Annotated[
        bool,
        Field(
            description="Only the jobs that failed, and those skipped because of them; otherwise"
            " also those that were cancelled or skipped for another reason."
        ),
    ] = True


class Changed(View):
    """A pipeline after what was done to it."""

    urn: str
    status: PipelineStatus


class _Verb(Protocol):
    __name__: str

    def __call__(
        self,
        client: SyncPrefectClient,
        pipeline_urn: str,
        /,
        *,
        actor: str,
        reason: str | None,
    ) -> PipelineStatus: ...


def routes(operator: declared.Depends) -> APIRouter:
    """The routes, for whom `operator` lets in."""
    router = APIRouter(
        route_class=Route,
        tags=["Operations"],
        responses={**documented(400, 401, 403, 404, 409, 503)},
    )
    Operator = Annotated[User, operator]  # noqa: N806 - a type

    @router.post("/pipelines/{urn}/pause", summary="Let no further step of it start")
    def pause_pipeline(urn: asked.PipelineUrn, user: Operator, why: Why | None = None) -> Changed:
        return _do(operations.pause, urn, user, why)

    @router.post("/pipelines/{urn}/resume", summary="Let it go on after a pause")
    def resume_pipeline(urn: asked.PipelineUrn, user: Operator, why: Why | None = None) -> Changed:
        return _do(operations.resume, urn, user, why)

    @router.post("/pipelines/{urn}/cancel", summary="End it, and account for its variants")
    def cancel_pipeline(urn: asked.PipelineUrn, user: Operator, why: Why | None = None) -> Changed:
        return _do(operations.cancel, urn, user, why)

    @router.post("/pipelines/{urn}/retry", summary="Run again what did not succeed")
    def retry_pipeline(
        urn: asked.PipelineUrn, user: Operator, why: WhyRetry | None = None
    ) -> Changed:
        only_failed = why is None or why.only_failed
        verb = operations.retry_failed if only_failed else operations.retry_unsuccessful
        return _do(verb, urn, user, why)

    @router.post("/pipelines/{urn}/restart", summary="Run all of it again, from the start")
    def restart_pipeline(urn: asked.PipelineUrn, user: Operator, why: Why | None = None) -> Changed:
        return _do(operations.restart, urn, user, why)

    @router.post(
        "/score-sets/{urn}/rerun-failed",
        status_code=201,
        summary="Annotate its failed variants again, in a new pipeline",
    )
    def rerun_failed_variants(
        urn: asked.ScoreSetUrn, user: Operator, why: Why | None = None
    ) -> Changed:
        planned = operations.rerun_failed_variants(
            urn, actor=user.name, reason=why.reason if why else None
        )
        logger.info("http.operated", verb="rerun_failed_variants", urn=urn, user=user.name)
        return Changed(urn=planned.pipeline_urn, status=PipelineStatus.CREATED)

    return router


def _do(verb: _Verb, urn: str, user: User, why: Why | None) -> Changed:
    with impatient_client() as client:
        status = verb(client, urn, actor=user.name, reason=why.reason if why else None)
    logger.info("http.operated", verb=verb.__name__, urn=urn, user=user.name)
    return Changed(urn=urn, status=status)
