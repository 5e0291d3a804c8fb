"""A simulator of its own for a test of a client: served, made to fail, asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from tests.support_servers import serving


@dataclass(frozen=True)
class Simulator:
    """A simulator at `url`, and a client of its switches."""

    url: str
    http: httpx.Client

    def fail(self, kind: str, **more: Any) -> None:
        self.http.post("/simulator/faults", json={"kind": kind, **more}).raise_for_status()

    def requests(self, method: str, path: str = "") -> int:
        """How many requests of that method there were whose path holds `path`."""
        logged = self.http.get("/simulator/requests").json()
        return sum(one["method"] == method and path in one["path"] for one in logged)

    def reset(self) -> None:
        """Turn all switches off, and forget all requests."""
        self.http.delete("/simulator/faults").raise_for_status()
        self.http.delete("/simulator/requests").raise_for_status()


@contextmanager
def served(app: FastAPI) -> Iterator[Simulator]:
    """The simulator on a free port of this machine."""
    with serving(app) as url, httpx.Client(base_url=url) as http:
        yield Simulator(url, http)
