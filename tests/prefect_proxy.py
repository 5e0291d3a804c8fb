"""Prefect's API through a door of the tests' own, to count requests and to answer wrongly."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx

from deployments.local.ports import LOOPBACK


@dataclass
class Proxy:
    """`asked` are the paths with their queries. What `answer` gives for one, (status, body), is
    answered instead of Prefect's own. Its answers are dated `seconds_ahead` of the true time.
    """

    api_url: str
    asked: list[str] = field(default_factory=list)
    answer: Callable[[str], tuple[int, bytes] | None] = lambda _path: None
    seconds_ahead: float = 0.0

    def histories_asked(self) -> set[UUID]:
        """The runs whose states were asked for."""
        return {UUID(path.split("run_id=")[1]) for path in self.asked if "run_id=" in path}


@contextmanager
def proxy_of(api_url: str) -> Iterator[Proxy]:
    """A proxy of the API at that address, for as long as it is needed."""

    class Door(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            proxy.asked.append(self.path)
            given = proxy.answer(self.path)
            if given is None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = upstream.request(self.command, self.path, content=body)
                given = answer.status_code, answer.content
            self.send_response(given[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(given[1])))
            self.end_headers()
            self.wfile.write(given[1])

        def date_time_string(self, timestamp: float | None = None) -> str:
            moment = time.time() if timestamp is None else timestamp
            return super().date_time_string(moment + proxy.seconds_ahead)  # type: ignore[arg-type]

        do_GET = do_POST = _pass_on  # noqa: N815 - http.server looks for these names

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Door)
    proxy = Proxy(f"http://{LOOPBACK}:{server.server_port}/api")
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=api_url.removesuffix("/api"), headers=headers) as upstream:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
