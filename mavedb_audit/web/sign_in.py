"""The form that takes a token and begins a browser's session, and the one that ends it."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from mavedb_audit.access import require_same_origin, sign_in, sign_out
from mavedb_audit.logs import logger_of
from mavedb_audit.web.pages import page

logger = logger_of(__name__)

_LONGEST = 2_000


def router() -> APIRouter:
    """/sign-in and /sign-out."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/sign-in")
    def form(request: Request, to: str = "/") -> Response:
        return page("sign_in.html", request, to=_our_page(to), wrong=False)

    @routes.post("/sign-in")
    def enter(
        request: Request,
        token: Annotated[str, Form(max_length=_LONGEST)],
        to: Annotated[str, Form(max_length=_LONGEST)] = "/",
    ) -> Response:
        require_same_origin(request)
        base = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{base}{_our_page(to)}", status_code=303)
        if sign_in(request, answer, token.strip()):
            return answer
        logger.warning("http.sign_in_refused", address=request.client and request.client.host)
        return page("sign_in.html", request, status_code=401, to=_our_page(to), wrong=True)

    @routes.post("/sign-out")
    def leave(request: Request) -> Response:
        require_same_origin(request)
        base = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{base}/sign-in", status_code=303)
        sign_out(answer)
        return answer

    return routes


def _our_page(to: str) -> str:
    """The path to go on with, or the first page when it could lead to another site."""
    is_ours = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return to if is_ours else "/"
