"""Records the states of our runs as Prefect's event stream tells of them. Several mirrors may run.

The stream is fast, but incomplete: Prefect drops what a slow reader does not take, and some states
have no event. What is missed here the reconciler finds.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.clients import PrefectEventSubscriber
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventOrder
from prefect.events.schemas.events import Event
from websockets.exceptions import WebSocketException

from mavedb_audit.events import PREFIXES
from mavedb_audit.logs import logger_of
from mavedb_audit.sightings import (
    OUTAGES,
    Counts,
    Sighting,
    count,
    counts,
    read_checkpoint,
    record_sightings,
    sightings_of,
)

__all__ = ["Counts", "counts", "mirror_until"]

T = TypeVar("T")
logger = logger_of(__name__)

QUEUE_SIZE = 100_000
_BATCH_SIZE = 500
#: How long a batch waits for company.
_GATHER_SECONDS = 0.02
_RETRY_SECONDS = 1.0

#: Prefect's server stores an event up to 5 seconds after it sent it out.
_STORED_AFTER = timedelta(seconds=7)
_OVERLAP = timedelta(seconds=30)
#: What was missed before that is left to the reconciler.
_BACK_FILL_LIMIT = timedelta(minutes=15)
#: The most that Prefect's server gives at once.
_PAGE_SIZE = 50


def mirror_until(stop: threading.Event) -> None:
    """Record what Prefect's events tell. Outages of Prefect and of the database are waited out."""
    asyncio.run(_mirror(stop))


async def _mirror(stop: threading.Event) -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE_SIZE)
    caught_up = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        working = [
            tasks.create_task(_receive(queue, caught_up)),
            tasks.create_task(record_queued(queue, caught_up)),
        ]
        while not stop.is_set():
            await asyncio.sleep(0.1)
        for task in working:
            task.cancel()


# From the stream to the queue: nothing is done here that takes time, since Prefect drops what is
# not taken.


async def _receive(queue: asyncio.Queue[Event], caught_up: asyncio.Event) -> None:
    """Queue the stream's events; each time it begins anew, back-fill what was missed."""
    is_out = False
    while True:
        try:
            async with _subscribed() as subscriber, asyncio.TaskGroup() as tasks:
                if is_out:
                    logger.info("prefect.resumed", part="mirror")
                    is_out = False
                back_fill = tasks.create_task(_back_fill(caught_up))
                await _queue_events(subscriber, queue)
                back_fill.cancel()
        except* (OSError, WebSocketException) as group:
            if not is_out:
                logger.warning("prefect.interrupted", part="mirror", error=str(group.exceptions[0]))
            is_out = True
        caught_up.clear()
        await asyncio.sleep(_RETRY_SECONDS)


@asynccontextmanager
async def _subscribed() -> AsyncIterator[PrefectEventSubscriber]:
    # Without reconnections of its own, so that each one begins with our back-fill.
    subscriber = PrefectEventSubscriber(filter=_filter(), reconnection_attempts=0)
    try:
        await subscriber.__aenter__()
    except Exception as error:
        # A refusal, also by a server that is just going down, is a plain Exception.
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    try:
        yield subscriber
    finally:
        try:
            async with asyncio.timeout(1):
                await subscriber.__aexit__(None, None, None)
        except TimeoutError:
            logger.debug("mirror.closed_late")


async def _queue_events(subscriber: PrefectEventSubscriber, queue: asyncio.Queue[Event]) -> None:
    while True:
        try:
            event = await anext(subscriber)
        except StopAsyncIteration:
            return
        except (ValueError, KeyError, TypeError) as error:
            if count("malformed", "no event"):
                logger.warning("mirror.event_malformed", error=str(error))
            continue
        try:
            queue.put_nowait(event)
        except asyncio.QueueFull:
            if count("dropped"):
                logger.error("mirror.events_dropped", waiting=QUEUE_SIZE)


def _filter(since: datetime | None = None) -> EventFilter:
    events = EventFilter(
        event=EventNameFilter(
            prefix=list(PREFIXES.values()),
            exclude_prefix=["prefect.flow-run.pull-step."],
            exclude_name=["prefect.flow-run.heartbeat"],
        ),
        order=EventOrder.ASC,
    )
    if since is not None:
        until = datetime.now(UTC) + _OVERLAP
        events.occurred = EventOccurredFilter.model_validate({"since": since, "until": until})
    return events


# From the queue to the database.


async def record_queued(queue: asyncio.Queue[Event], caught_up: asyncio.Event) -> None:
    """Record what is queued, in batches, until cancelled. What cannot be recorded is counted."""
    waiting: list[Sighting] = []
    while True:
        if len(waiting) < _BATCH_SIZE:
            events = await _next_batch(queue, _RETRY_SECONDS if waiting else None)
            waiting += sightings_of(events)
        waiting = await _record_now_or_later(waiting, move_checkpoint=caught_up.is_set())


async def _next_batch(queue: asyncio.Queue[Event], patience: float | None) -> list[Event]:
    try:
        async with asyncio.timeout(patience):
            batch = [await queue.get()]
    except TimeoutError:
        return []
    if queue.qsize() < _BATCH_SIZE:
        await asyncio.sleep(_GATHER_SECONDS)
    while len(batch) < _BATCH_SIZE and not queue.empty():
        batch.append(queue.get_nowait())
    return batch


async def _record_now_or_later(
    sightings: Sequence[Sighting], *, move_checkpoint: bool
) -> list[Sighting]:
    """Record them, after an outage of the database if need be; returns those to try again."""

    def try_now() -> list[Sighting]:
        return record_sightings(sightings, move_checkpoint=move_checkpoint)

    return await _through_outages(try_now) if sightings else []


async def _through_outages(work: Callable[[], T]) -> T:
    """What `work` returns in a thread, once the database answers."""
    is_out = False
    while True:
        try:
            result = await asyncio.to_thread(work)
        except OUTAGES as error:
            if not is_out:
                logger.warning("database.interrupted", part="mirror", error=str(error))
            is_out = True
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            if is_out:
                logger.info("database.resumed", part="mirror")
            return result


# What was missed while nobody listened.


async def _back_fill(caught_up: asyncio.Event) -> None:
    """Record what was missed, as far as Prefect has it; only then may the checkpoint move on."""
    connected_at = datetime.now(UTC)
    checkpoint = await _through_outages(read_checkpoint) or connected_at
    since = max(min(checkpoint, connected_at) - _OVERLAP, connected_at - _BACK_FILL_LIMIT)
    try:
        async with get_client() as client:
            await _record_since(client, since)
            # Once more, for what Prefect had sent out before we listened and not stored yet.
            await asyncio.sleep(_STORED_AFTER.total_seconds())
            await _record_since(client, connected_at - _OVERLAP)
    except ValueError as error:
        logger.warning("mirror.events_unreadable", error=str(error))
    caught_up.set()


async def _record_since(client: PrefectClient, since: datetime) -> None:
    while True:
        events = await _read_page(client, since)
        waiting = sightings_of(events)
        while waiting := await _record_now_or_later(waiting, move_checkpoint=False):
            await asyncio.sleep(_RETRY_SECONDS)
        if len(events) < _PAGE_SIZE:
            return
        # Others may have occurred at the same moment, so it is asked for again.
        newest = events[-1].occurred
        since = newest if newest > since else since + timedelta(microseconds=1)


async def _read_page(client: PrefectClient, since: datetime) -> Sequence[Event]:
    is_out = False
    while True:
        try:
            page = await client.read_events(_filter(since), limit=_PAGE_SIZE)
        except httpx.HTTPError as error:
            if not is_out:
                logger.warning("prefect.interrupted", part="back-fill", error=str(error))
            is_out = True
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return page.events
