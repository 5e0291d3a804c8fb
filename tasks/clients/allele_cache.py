"""What the Allele Registry answered within the last day, in Redis, Valkey or this process."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from aiocache import RedisCache, SimpleMemoryCache
from aiocache.base import BaseCache
from aiocache.serializers import StringSerializer
from pydantic import TypeAdapter
from redis.exceptions import RedisError

from mavedb_audit.logs import logger_of
from tasks.clients.clingen_alleles import Allele

#: MaveDB keeps the registry's whole answers under mavedb:clingen:v1. To be counted up whenever
#: the facts of an Allele, or what they are read from, change.
PREFIX = "mavedb:clingen:allele-facts:v1:"

_TTL_SECONDS = 24 * 3600
_KEYS_AT_ONCE = 500
_CONNECT_TIMEOUT_SECONDS = 2.0

#: As JSON. Null is an answer, too: there is no such allele.
_known = TypeAdapter[Allele | None](Allele | None)
_memory = SimpleMemoryCache()
logger = logger_of(__name__)


@dataclass(frozen=True)
class Server:
    """A Redis or a Valkey."""

    host: str
    port: int
    ssl: bool = False


@dataclass
class AlleleCache:
    """Alleles by the ids that they were asked for with.

    Without a server they are kept in this process, until it ends. A server that fails is logged
    once and done without.
    """

    server: Server | None
    _failed: bool = field(default=False, init=False)

    def read(self, allele_ids: Collection[str]) -> dict[str, Allele | None]:
        """What is kept of these ids; None where the registry has no such allele."""
        found: dict[str, Allele | None] = {}

        async def read(cache: BaseCache) -> None:
            for part in _parts(allele_ids):
                values = await cache.multi_get([PREFIX + allele_id for allele_id in part])
                for allele_id, value in zip(part, values, strict=True):
                    if value is not None:
                        found[allele_id] = _known.validate_json(value)

        self._use(read)
        return found

    def write(self, answers: Mapping[str, Allele | None]) -> None:
        """Keep these for a day."""

        async def write(cache: BaseCache) -> None:
            for part in _parts(answers):
                pairs = [
                    (PREFIX + i, _known.dump_json(answers[i], exclude_defaults=True).decode())
                    for i in part
                ]
                await cache.multi_set(pairs, ttl=_TTL_SECONDS)

        self._use(write)

    def _use(self, action: Callable[[BaseCache], Awaitable[None]]) -> None:
        if self._failed:
            return
        try:
            asyncio.run(_with_cache(self.server, action))
        except (RedisError, OSError) as error:  # aiocache's time-outs are OSErrors, too
            self._failed = True
            logger.warning(
                "cache.failed",
                server=str(self.server),
                error=str(error) or type(error).__name__,
                hint="check REDIS_IP and REDIS_PORT, or CLINGEN_REDIS_HOST and CLINGEN_REDIS_PORT",
            )


async def _with_cache(
    server: Server | None, action: Callable[[BaseCache], Awaitable[None]]
) -> None:
    if server is None:
        await action(_memory)
        return
    async with RedisCache(
        serializer=StringSerializer(),
        endpoint=server.host,
        port=server.port,
        ssl=server.ssl,
        create_connection_timeout=_CONNECT_TIMEOUT_SECONDS,
    ) as cache:
        await action(cache)


def _parts(allele_ids: Collection[str]) -> Iterator[Sequence[str]]:
    remaining = iter(allele_ids)
    while part := list(islice(remaining, _KEYS_AT_ONCE)):
        yield part
