"""A running pipeline's page as it moves: the HTML of what has changed, once a second."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.sse import ServerSentEvent

from mavedb_audit import live
from mavedb_audit.database import DATABASE_UNREACHABLE
from mavedb_audit.queries.pipelines import Detail
from mavedb_audit.web.pages import macros_of
from mavedb_audit.web.verbs import offered

_SECONDS = 1.0


async def follow(
    request: Request, seen: Detail, can_operate: bool
) -> AsyncIterator[ServerSentEvent]:
    """`changed`, with HTML that replaces what has the same ids, until `ended` brings the last.

    The first has all there is: the page may have been rendered a while before. While the database
    is away nothing is told.
    """
    shown: dict[str, str] = {}
    while True:
        fresh = fragments(request, seen, can_operate)
        changed = "".join(html for key, html in fresh.items() if shown.get(key) != html)
        if live.has_ended(seen):
            yield ServerSentEvent(event="ended", raw_data=changed)
            return
        if changed:
            yield ServerSentEvent(event="changed", raw_data=changed)
        shown = fresh
        await asyncio.sleep(_SECONDS)
        try:
            seen = await live.latest(seen.urn)
        except DATABASE_UNREACHABLE:
            continue


def fragments(request: Request, pipeline: Detail, can_operate: bool) -> dict[str, str]:
    """The parts of the page that move, by their ids."""
    base = request.scope.get("root_path", "")
    parts = macros_of("_pipeline.html")
    verbs = offered(pipeline.status) if can_operate else []
    return {
        "summary": parts.summary(pipeline),
        "announcement": parts.announcement(pipeline),
        "verbs": parts.verbs(base, pipeline, verbs),
        **{f"step-{step.job_key}": parts.step(base, pipeline, step) for step in pipeline.steps},
    }
