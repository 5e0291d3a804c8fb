"""Captured data, where it is at hand: MAVEDB_REAL_DATA, or shared/data beside this folder's parent.

Without it nothing here is collected.
"""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MAVEDB_REAL_DATA", PROJECT.parent / "shared" / "data"))

collect_ignore_glob = [] if DATA.is_dir() else ["test_*.py"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the captured data."""
    return DATA
