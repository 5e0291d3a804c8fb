"""What the pages are asked with, and how their errors are answered."""

from collections.abc import Callable, Coroutine
from datetime import date
from typing import Annotated, Any

from fastapi import Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from starlette.exceptions import HTTPException

from mavedb_audit.api.problems import PROBLEMS, http_error
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries.failures import By
from mavedb_audit.reasons import AnnotationStatus, Reason
from mavedb_audit.states import PipelineStatus
from mavedb_audit.web.pages import error_page

#: PostgreSQL's text holds no NUL.
Text = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^[^\x00]*$")
]
Urn = Annotated[Text, Path()]


class PageRoute(APIRoute):
    """A route that answers its errors as pages, but for who is not known: they get to sign in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                problem = HTTPException(422, f"{first['loc'][-1]}: {first['msg']}")
            except PROBLEMS as error:
                problem = http_error(error, request.method)
            except HTTPException as error:
                if error.status_code == 401:
                    raise
                problem = error
            return error_page(request, problem.status_code, problem.detail, problem.headers)

        return handle_or_explain


class Asked(BaseModel):
    """The query of a page. A form sends its empty fields, too: they ask for nothing."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, given: Any) -> Any:
        return {name: value for name, value in dict(given).items() if value != ""}


class AskedPipelines(Asked):
    """`since` and `until` are days in UTC, both included."""

    status: PipelineStatus | None = None
    name: Text | None = None
    score_set: Text | None = None
    since: date | None = None
    until: date | None = None
    page: int = Field(default=1, ge=1, le=100_000)


class AskedVariants(Asked):
    annotation_type: AnnotationType
    version: Text | None = None
    status: AnnotationStatus | None = None
    reason: Reason | None = None
    cursor: Text | None = None


class AskedFailures(Asked):
    """`days` is how far back; without it, all that still stands."""

    by: By = "reason"
    days: int | None = Field(default=None, ge=1, le=3650)
