"""The command `mavedb-audit`, as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("mavedb-audit")


def run_command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it with these settings and no other."""
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env},
        check=False,
    )
