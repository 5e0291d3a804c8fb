"""A way to a server that can be cut."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from deployments.local.ports import LOOPBACK


class Relay:
    """Listens on a port of its own, and passes on what comes while it is open."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            self.port: int = free.getsockname()[1]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Connections pass meanwhile. At the end all are cut, and new ones refused."""
        is_open, close = threading.Event(), threading.Event()

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(LOOPBACK, self._to_port)
            both = [
                asyncio.create_task(pump(reader, back)),
                asyncio.create_task(pump(there, writer)),
            ]
            with suppress(asyncio.CancelledError):
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            writer.transport.abort()
            back.transport.abort()

        async def serve() -> None:
            # Leaving the loop cancels, and so cuts, whatever passes still.
            server = await asyncio.start_server(pass_on, LOOPBACK, self.port)
            is_open.set()
            await asyncio.to_thread(close.wait)
            server.close()

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        is_open.wait()
        try:
            yield
        finally:
            close.set()
            thread.join()
