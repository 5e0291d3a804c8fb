"""A mapper that is at work: it has read a score set's variants, and answers when it is told to."""

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.local.simulators.mapper import create_app
from tests.support import MaveDB, wait_until


@dataclass
class MapperAtWork:
    """The simulated mapper, asked about one score set. Later requests it answers as usual."""

    mavedb: MaveDB
    score_set_urn: str
    _pipe: Path
    _answer: bytes = b""
    _writing_end: int | None = None

    def wait_until_it_has_read(self) -> None:
        """Until it was asked, and has read the variants."""
        self._writing_end = wait_until(self._open)
        self._pipe.unlink()
        self._answer = answer_of_the_mapper(self.mavedb, self.score_set_urn)

    def answer(self) -> None:
        """Answer about what it has read, whatever is there now."""
        assert self._writing_end is not None
        os.set_blocking(self._writing_end, True)
        with os.fdopen(self._writing_end, "wb") as pipe:
            self._writing_end = None
            pipe.write(self._answer)

    def _open(self) -> int | None:
        try:
            return os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet
                raise
            return None

    def _leave(self) -> None:
        """Let nobody wait for ever whose test has failed."""
        if self._writing_end is not None:
            os.close(self._writing_end)
        self._pipe.unlink(missing_ok=True)


@contextmanager
def mapper_at_work(mavedb: MaveDB, score_set_urn: str) -> Iterator[MapperAtWork]:
    """The next request about the score set waits for an answer: it is prepared in a pipe."""
    pipe = mavedb.stack.mapper_answers / f"{score_set_urn.replace(':', '_')}.json"
    os.mkfifo(pipe)
    mapper = MapperAtWork(mavedb, score_set_urn, pipe)
    try:
        yield mapper
    finally:
        mapper._leave()


def answer_of_the_mapper(mavedb: MaveDB, score_set_urn: str) -> bytes:
    """What the simulated mapper says of the score set as it is now."""

    async def ask() -> bytes:
        app = httpx.ASGITransport(create_app(mavedb.stack.database_url, None))
        async with httpx.AsyncClient(transport=app, base_url="http://mapper") as mapper:
            answer = await mapper.post(f"/api/v1/map/{score_set_urn}")
            return answer.raise_for_status().content

    return asyncio.run(ask())
