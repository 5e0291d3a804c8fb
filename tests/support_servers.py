"""Servers that a test of a client runs in its own process: simulators, or whatever it needs."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn


@dataclass(frozen=True)
class Simulator:
    """A simulator at `url`, and a client of its switches."""

    url: str
    http: httpx.Client

    def fail(self, kind: str, **more: Any) -> None:
        self.http.post("/simulator/faults", json={"kind": kind, **more}).raise_for_status()

    def requests(self, method: str = "", path: str = "") -> int:
        """How many requests of that method there were whose path holds `path`."""
        logged = self.http.get("/simulator/requests").json()
        return sum(method in one["method"] and path in one["path"] for one in logged)

    def reset(self) -> None:
        """Turn all switches off, and forget all requests."""
        self.http.delete("/simulator/faults").raise_for_status()
        self.http.delete("/simulator/requests").raise_for_status()


#: A fault whose answer comes too late for a client of this `patience`.
LATE = {"kind": "slow", "seconds": 4}


def patience(fault: Mapping[str, Any]) -> float:
    """The client's time-out in seconds: short only where an answer is to be late."""
    return 2 if fault == LATE else 60


@contextmanager
def served(app: Any) -> Iterator[Simulator]:
    """An ASGI application, such as a simulator, on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server died at its start"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60) as http:
            yield Simulator(url, http)
    finally:
        server.should_exit = True
        thread.join(timeout=20)
