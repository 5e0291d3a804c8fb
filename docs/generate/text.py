"""Where the pages are, and their tables."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1]
PROJECT = DOCS.parent


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for row in (headings, ["---"] * len(headings), *rows):
            yield f"| {' | '.join(row)} |"

    return "\n".join(lines())
