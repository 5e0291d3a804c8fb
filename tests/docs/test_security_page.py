"""The page on security names tests, settings and files that there are."""

import re
from pathlib import Path

from deployments.local.stack import PROJECT
from mavedb_audit.settings import Settings

PAGE = (PROJECT / "docs" / "explanation" / "security.md").read_text()


def test_every_test_that_is_named_is_there() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in code} == set()


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:tests|tasks|deployments)/[\w/.]+)`", PAGE))
    assert len(named) > 5
    assert {name for name in named if not Path(PROJECT, name).exists()} == set()


def test_every_setting_of_ours_that_is_named_is_there() -> None:
    named = set(re.findall(r"\b(?:MAX|REDIS|DATABASE)_[A-Z_]+\b", PAGE))
    assert named
    assert {name for name in named if name.lower() not in Settings.model_fields} == set()
