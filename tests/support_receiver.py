"""A receiver of webhooks, Slack's or any, on loopback."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support_servers import served

#: Part of each URL, as a webhook's secret part is.
SECRET_PATH = "/services/T000/B000/verysecretpath"


@dataclass(frozen=True)
class Received:
    headers: Mapping[str, str]
    body: bytes
    json: Any


@dataclass
class Receiver:
    """What was received, and how the next requests are answered: 200 where nothing is said.

    While `let_go` is not set, answers are held back.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    async def take(self, request: Request) -> Response:
        said = Received(dict(request.headers), await request.body(), await request.json())
        self.received.append(said)
        status, headers, text = self.answers.pop(0) if self.answers else (200, {}, "ok")
        await run_in_threadpool(self.let_go.wait, 30)
        return PlainTextResponse(text, status, headers)

    def answer(self, status: int, text: str = "no", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, named, text))

    @property
    def keys(self) -> list[str]:
        return [one.headers["idempotency-key"] for one in self.received]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.let_go.set()
    app = Starlette(routes=[Route(SECRET_PATH, receiver.take, methods=["POST"])])
    with served(app) as server:
        receiver.url = f"{server.url}{SECRET_PATH}"
        yield receiver
        receiver.let_go.set()
