"""What a route answers when it cannot: `{"detail": …}`, as MaveDB's own routes do."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from mavedb_audit.database import DATABASE_UNREACHABLE
from mavedb_audit.errors import (
    ConfigurationError,
    MaveDBAuditError,
    NotFoundError,
    PrefectUnreachableError,
    RequestError,
)
from mavedb_audit.logs import logger_of

logger = logger_of(__name__)

#: What routes raise that is answered as a problem.
PROBLEMS = (MaveDBAuditError, *DATABASE_UNREACHABLE)

_RETRY_AFTER = {"Retry-After": "5"}
_DESCRIPTIONS = {
    400: (
        "What was sent cannot be read, or a cursor is of another list",
        "'mine' is no cursor: give the one of the page before",
    ),
    401: ("Nobody that is known", "Give a token: Authorization: Bearer TOKEN"),
    403: ("Known, but not allowed", "ada has the role read, and this needs the role operate"),
    404: ("No such URN", "There is no pipeline urn:mavedb:pipeline-0"),
    409: (
        "Not now",
        "Cannot pause urn:mavedb:pipeline-0, which is succeeded. Only what is created or running"
        " can be paused",
    ),
    503: (
        "The database or Prefect does not answer; Retry-After has seconds",
        "The database does not answer: ask again in a few seconds",
    ),
}


class Problem(BaseModel):
    """An error. `detail` is a sentence for people."""

    detail: str


class Route(APIRoute):
    """A route whose errors are answered wherever its router is mounted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_answer(request: Request) -> Response:
            try:
                return await handle(request)
            except PROBLEMS as error:
                raise http_error(error, request.method) from error

        return handle_or_answer


def http_error(error: Exception, method: str) -> HTTPException:
    """The status and the words for an error of PROBLEMS, in answer to that HTTP method."""
    match error:
        case NotFoundError():
            return HTTPException(404, str(error))
        case RequestError():
            return HTTPException(409 if method == "POST" else 400, str(error))
        case PrefectUnreachableError():
            return HTTPException(503, str(error), _RETRY_AFTER)
    logger.error("http.not_answered", error=f"{type(error).__name__}: {error}")
    if isinstance(error, DATABASE_UNREACHABLE):
        return HTTPException(
            503, "The database does not answer: ask again in a few seconds", _RETRY_AFTER
        )
    if isinstance(error, ConfigurationError):
        return HTTPException(
            503, "A setting of this service is missing or wrong; its log says which", _RETRY_AFTER
        )
    return HTTPException(500, "This service cannot answer; its log says why")


def documented(*status_codes: int) -> Mapping[int | str, dict[str, Any]]:
    """Those problems of a route, for its OpenAPI description."""
    answers: dict[int | str, dict[str, Any]] = {}
    for code in status_codes:
        description, example = _DESCRIPTIONS[code]
        answers[code] = {
            "model": Problem,
            "description": description,
            "content": {"application/json": {"example": {"detail": example}}},
        }
    return answers
