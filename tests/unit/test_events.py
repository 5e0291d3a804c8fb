"""Every event that is logged is described, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from mavedb_audit.logs import EVENTS

PROJECT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def logged() -> Iterator[str]:
    """The first argument of each call of a module's logger."""
    for folder in ("mavedb_audit", "tasks", "flows"):
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(id="logger"), attr=level), args=[what, *_]
                    ) if level in LEVELS:
                        assert isinstance(what, ast.Constant), f"{path}:{node.lineno}"
                        yield what.value
                    case ast.Call(
                        func=ast.Name(id="log"), args=[ast.Constant(value=str(what)), *_]
                    ):
                        yield what


def test_the_events_that_are_logged_are_those_that_are_described() -> None:
    assert set(logged()) | {"library.message"} == set(EVENTS)
