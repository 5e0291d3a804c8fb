"""The HTTP server of `mavedb-audit serve`: the API, the pages and the metrics, behind one door."""

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from urllib.parse import quote
from uuid import uuid4

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mavedb_audit import api, exposition
from mavedb_audit.api.problems import PROBLEMS, http_error
from mavedb_audit.errors import ConfigurationError
from mavedb_audit.logs import saying
from mavedb_audit.settings import settings
from mavedb_audit.tokens import stored_tokens
from mavedb_audit.web import assets, routes, sign_in
from mavedb_audit.web.pages import error_page

CORRELATION_HEADER = "X-Correlation-ID"

#: Nothing but what this server itself serves: no inline script or style, no frame, no other origin.
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LARGEST_BODY_BYTES = 64 * 1024
#: Fewer than the connections of the pool, which the other loops of `serve` share.
_REQUESTS_AT_ONCE = 12
_SECONDS_TO_END = 3
_STOP_CHECK_SECONDS = 0.2


def app() -> FastAPI:
    """The application, under the settings of this process."""
    application = FastAPI(
        title="mavedb-audit",
        description=api.__doc__ or "",
        version=version("mavedb-audit"),
        docs_url=None,  # both pages fetch scripts from elsewhere
        redoc_url=None,
        lifespan=_with_few_threads,
        middleware=[
            Middleware(_WithHeaders),
            Middleware(TrustedHostMiddleware, settings().audit_http_trusted_hosts, False),
            Middleware(RequestBodyLimitMiddleware, _LARGEST_BODY_BYTES),
        ],
        exception_handlers={
            HTTPException: _answer_or_sign_in,
            **dict.fromkeys(PROBLEMS, _answer_problem),
        },
    )
    application.include_router(api.router())
    application.include_router(sign_in.router())
    application.include_router(assets.routes)
    application.include_router(routes.routes)
    application.include_router(exposition.routes)
    application.add_api_route("/health", _health, include_in_schema=False)
    return application


def serve_http_until(stop: threading.Event) -> None:
    """Answer on AUDIT_HTTP_HOST and AUDIT_HTTP_PORT. Open streams are cut at the end.

    Raises ConfigurationError when the port is taken, or the tokens cannot be read.
    """
    stored_tokens()
    config = uvicorn.Config(
        app(),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    with _listening() as listener:
        asyncio.run(_serve(uvicorn.Server(config), listener, stop))


async def _serve(server: uvicorn.Server, listener: socket.socket, stop: threading.Event) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not stop.is_set() and not serving.done():
        await asyncio.sleep(_STOP_CHECK_SECONDS)
    server.should_exit = True
    await serving


def _listening() -> socket.socket:
    host, port = settings().audit_http_host, settings().audit_http_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port or 0), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on AUDIT_HTTP_HOST {host}, AUDIT_HTTP_PORT {port}: {error}. Of several"
            " `serve` on a host, one may have the port"
        ) from None


@asynccontextmanager
async def _with_few_threads(_application: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _REQUESTS_AT_ONCE
    yield


def _health() -> str:
    return "ok"


async def _answer_or_sign_in(request: Request, error: Exception) -> Response:
    """A browser gets a page: the form to sign in, where its session is none."""
    assert isinstance(error, HTTPException)
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if error.status_code == 401 and wants_page:
        base = request.scope.get("root_path", "")
        query = f"?{request.url.query}" if request.url.query else ""
        to = quote(f"{request.url.path.removeprefix(base)}{query}")
        return RedirectResponse(f"{base}/sign-in?to={to}", status_code=303)
    if wants_page:
        return error_page(request, error.status_code, error.detail, error.headers)
    return await http_exception_handler(request, error)


async def _answer_problem(request: Request, error: Exception) -> Response:
    """An error outside the API's own routes, as those answer it."""
    answer = http_error(error, request.method)
    return JSONResponse({"detail": answer.detail}, answer.status_code, answer.headers)


class _WithHeaders:
    """Gives each answer the security headers, and each request its correlation id.

    A caller's own id is kept where it is one; what is logged meanwhile carries it.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        correlation_id = _correlation_id(Request(scope))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[CORRELATION_HEADER] = correlation_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with saying(correlation_id=correlation_id):
            await self._application(scope, receive, send_with_headers)


def _correlation_id(request: Request) -> str:
    given = request.headers.get(CORRELATION_HEADER, "")
    return given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else uuid4().hex
