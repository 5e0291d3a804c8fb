"""Switches that make a simulator fail on demand, and its log of requests.

Generic kinds, the same for every simulator (`seconds`, where given, is waited out first):

- status: answer `status` with `headers` and `body`; the service itself is not asked
- slow: wait, silently, and then answer as usual
- reset: do the work, send half of the answer's first piece, drop the connection
- truncate: do the work, answer well-formed HTTP whose body breaks off early
- malformed: answer 200 with a body (`body`, else HTML) that is not JSON

A simulator's own kinds arrive in `own_fault(request)`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Collection
from urllib.parse import parse_qsl, unquote_plus, urlencode

from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GENERIC_KINDS = frozenset({"status", "slow", "reset", "truncate", "malformed"})

_SECRET_PARAMETERS = frozenset({"gbtoken", "token", "api_key", "apikey", "key", "password"})
_UNTOUCHED_PATHS = ("/simulator/", "/openapi.json", "/docs")


class Fault(BaseModel):
    """One switch. It holds for `times` requests (None: until cleared) that contain `match`."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    status: int = Field(default=503, ge=200, le=599)
    headers: dict[str, str] = {}
    body: str | None = None
    seconds: float = Field(default=0, ge=0)
    times: int | None = Field(default=None, ge=1)
    match: str = ""


class Faults:
    """The switches that are on, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault.model_copy())

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, request_target: str) -> Fault | None:
        """The oldest switch whose `match` is in the path and query; uses up one of its times."""
        with self._lock:
            for fault in self._faults:
                if fault.match in request_target:
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times == 0:
                            self._faults.remove(fault)
                    return fault
        return None


class LoggedRequest(BaseModel):
    method: str
    path: str
    query: str


RequestsLog = deque[LoggedRequest]


def router(faults: Faults, requests_log: RequestsLog, own_kinds: Collection[str] = ()) -> APIRouter:
    """The routes under /simulator that tests and the demo turn the switches with."""
    routes = APIRouter(prefix="/simulator", tags=["simulator"])

    @routes.post("/faults", status_code=204)
    def add_fault(fault: Fault) -> None:
        kinds = GENERIC_KINDS | set(own_kinds)
        if fault.kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise HTTPException(422, f"Unknown kind {fault.kind!r}; this simulator knows {known}.")
        faults.add(fault)

    @routes.delete("/faults", status_code=204)
    def clear_faults() -> None:
        faults.clear()

    @routes.get("/requests")
    def list_requests() -> list[LoggedRequest]:
        return list(requests_log)

    @routes.delete("/requests", status_code=204)
    def clear_requests() -> None:
        requests_log.clear()

    return routes


def attach_faults(app: FastAPI, own_kinds: Collection[str] = ()) -> Faults:
    """Gives a simulator the /simulator routes, the request log and the generic kinds."""
    faults, requests_log = Faults(), RequestsLog(maxlen=100_000)
    app.include_router(router(faults, requests_log, own_kinds))
    app.add_middleware(_FaultMiddleware, faults=faults, requests_log=requests_log)
    return faults


def own_fault(request: Request) -> Fault | None:
    """The fault that the simulator itself has to carry out for this request, if any."""
    fault: Fault | None = getattr(request.state, "fault", None)
    return fault


class _FaultMiddleware:
    def __init__(self, app: ASGIApp, faults: Faults, requests_log: RequestsLog) -> None:
        self.app = app
        self.faults = faults
        self.requests_log = requests_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNTOUCHED_PATHS):
            await self.app(scope, receive, send)
            return
        query: str = scope["query_string"].decode()
        self.requests_log.append(
            LoggedRequest(method=scope["method"], path=scope["path"], query=_without_secrets(query))
        )
        fault = self.faults.take(f"{scope['path']}?{unquote_plus(query)}")
        if fault is not None and fault.seconds:
            await asyncio.sleep(fault.seconds)
        match fault.kind if fault else None:
            case "status" | "malformed":
                assert fault is not None
                await _prepared_answer(fault)(scope, receive, send)
            case "reset" | "truncate" as kind:
                await self.app(scope, receive, _cut_short(send, completes=kind == "truncate"))
            case None | "slow":
                await self.app(scope, receive, send)
            case _:
                scope.setdefault("state", {})["fault"] = fault
                await self.app(scope, receive, send)


def _without_secrets(query: str) -> str:
    return urlencode(
        [
            (name, "***" if name.lower() in _SECRET_PARAMETERS else value)
            for name, value in parse_qsl(query, keep_blank_values=True)
        ]
    )


def _prepared_answer(fault: Fault) -> Response:
    if fault.kind == "malformed":
        status, default_body = 200, "<html><body>Something else answers here.</body></html>"
    else:
        status, default_body = fault.status, '{"detail":"switched on in the simulator"}'
    body = default_body if fault.body is None else fault.body
    media_type = "application/json" if body.startswith(("{", "[")) else "text/html"
    return Response(body, status, headers=fault.headers, media_type=media_type)


def _cut_short(send: Send, *, completes: bool) -> Send:
    """A `send` that lets half of the first piece through and drops the rest.

    Without the closing message the server drops the connection when the application returns.
    """
    cut = False

    async def cutting(message: Message) -> None:
        nonlocal cut
        if message["type"] == "http.response.start":
            # Without a length the body goes out chunked, so that its end is the closing message.
            headers = [
                (name, value)
                for name, value in message["headers"]
                if name.lower() != b"content-length"
            ]
            await send({**message, "headers": headers})
        elif message["type"] == "http.response.body" and not cut and message.get("body"):
            cut = True
            half = message["body"][: len(message["body"]) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": not completes})

    return cutting
