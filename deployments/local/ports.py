"""Free ports on loopback, the same ones at every start of a state folder while they are free."""

import json
import random
import socket
from collections.abc import Iterable
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Below the ranges from which Linux and macOS take the ports of outgoing connections.
_RANGE = range(20_000, 30_000)


def choose(state: Path, names: Iterable[str]) -> dict[str, int]:
    """A free port for each name, kept in STATE/ports.json."""
    file = state / "ports.json"
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    chosen: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        while port is None or port in chosen.values() or not _is_free(port):
            port = random.choice(_RANGE)
        chosen[name] = port
    file.write_text(json.dumps(chosen, indent=1))
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As servers do: a port whose last connections only linger is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
