"""A pipeline as it changes, for whoever watches it."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

from aiocache import cached_stampede
from starlette.concurrency import run_in_threadpool

from mavedb_audit.database import DATABASE_UNREACHABLE, connect
from mavedb_audit.queries import pipelines
from mavedb_audit.queries.pipelines import Detail
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES

_POLL_SECONDS = 1.0
_LEASE_SECONDS = 30
#: What goes on by itself, and is no change.
_CLOCKS: dict[str, Any] = {
    "duration_seconds": True,
    "steps": {"__all__": {"elapsed_seconds": True, "remaining_seconds": True}},
}


# aiocache has no types.
@cached_stampede(  # type: ignore[untyped-decorator]
    lease=_LEASE_SECONDS, ttl=_POLL_SECONDS * 0.9, key_builder=lambda _function, urn: urn
)
async def latest(urn: str) -> Detail:
    """The pipeline now, as it is read once a second, however many watch it.

    Raises NotFoundError for an unknown URN.
    """
    return await run_in_threadpool(_read, urn)


async def changes(seen: Detail, known: str | None) -> AsyncIterator[tuple[str, Detail]]:
    """Each state of the pipeline with its mark, until it has ended, from the one that was `seen`.

    A state whose mark is `known` is not told again. While the database is away nothing is told.
    """
    while True:
        mark = mark_of(seen)
        if mark != known:
            yield mark, seen
            known = mark
        if has_ended(seen):
            return
        await asyncio.sleep(_POLL_SECONDS)
        try:
            seen = await latest(seen.urn)
        except DATABASE_UNREACHABLE:
            continue


def mark_of(detail: Detail) -> str:
    """The same for two states of a pipeline exactly when nothing but time has passed."""
    return sha256(detail.model_dump_json(exclude=_CLOCKS).encode()).hexdigest()[:16]


def has_ended(detail: Detail) -> bool:
    return detail.status in TERMINAL_PIPELINE_STATUSES


def _read(urn: str) -> Detail:
    with connect() as connection:
        return pipelines.detail(connection, urn)
