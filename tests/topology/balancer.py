"""A load balancer on loopback: each connection goes to the next server in turn that takes it.

python -m tests.topology.balancer PORT SERVER_PORT...
"""

import asyncio
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from deployments.local.ports import LOOPBACK

_PIECE = 65_536


async def serve(port: int, server_ports: Sequence[int]) -> None:
    turns = itertools.cycle(range(len(server_ports)))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns)
        try:
            answers, requests = await _connect(_from(server_ports, first))
        except OSError:
            writer.close()  # no server is up
            return
        await asyncio.gather(_copy(reader, requests), _copy(answers, writer))

    server = await asyncio.start_server(pass_on, LOOPBACK, port)
    async with server:
        await server.serve_forever()


def _from(ports: Sequence[int], first: int) -> Iterator[int]:
    return (ports[(first + turn) % len(ports)] for turn in range(len(ports)))


async def _connect(ports: Iterator[int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first that is up. Raises ConnectionRefusedError when none is."""
    for port in ports:
        with suppress(ConnectionRefusedError):
            return await asyncio.open_connection(LOOPBACK, port)
    raise ConnectionRefusedError


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(_PIECE):
            target.write(piece)
            await target.drain()
    target.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
