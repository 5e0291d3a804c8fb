"""`mavedb-audit serve` as a process of its own, on a database without Prefect."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COMMAND = Path(sys.executable).with_name("mavedb-audit")
#: Nobody listens there: what needs Prefect waits, and says so.
NO_PREFECT = "http://127.0.0.1:9/api"


@contextmanager
def serving(log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs meanwhile with these settings and no other, and logs into that file."""
    settings = {"PREFECT_API_URL": NO_PREFECT, "NO_PROXY": "127.0.0.1", "DO_NOT_TRACK": "1"}
    own = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    with log.open("wb") as stderr:
        process = subprocess.Popen([_COMMAND, "serve"], stderr=stderr, env=own | settings | env)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=30)
