"""How much of an answer is taken, and for how long it is waited for, by all HTTP clients."""

import socket
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import httpx

#: What an answer may hold once it is unpacked, where its client says nothing else.
MOST_ANSWER_BYTES = 256 * 1024 * 1024

#: A whole answer may take so many times as long as its service may be silent.
_WHOLE_ANSWER_IN_READ_TIMEOUTS = 2
#: What httpx unpacks piece by piece; no other is asked for.
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})


class AnswerTooLargeError(httpx.TransportError):
    """The answer goes on after the most bytes that its client takes."""


class AnswerTooSlowError(httpx.ReadTimeout):
    """The answer keeps coming, but is not complete after the time that its client gives it."""


class Watch:
    """Cuts the connections of a client whose answer is not complete in time.

    A thread of its own does: the one that waits for the answer hears of every byte, but not of
    the time that has passed.
    """

    def __init__(self, sockets: weakref.WeakSet[socket.socket], seconds: float | None) -> None:
        self._sockets = sockets
        self._seconds = seconds
        self._has_cut = False
        self._timer = threading.Timer(seconds, self._cut) if seconds is not None else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def telling(self, request: httpx.Request) -> Iterator[None]:
        """Raises AnswerTooSlowError for whatever comes of the cut, an apparent end included."""
        try:
            yield
        except httpx.TransportError as error:
            if self._has_cut:
                raise too_slow(self._seconds, request) from error
            raise
        if self._has_cut:
            raise too_slow(self._seconds, request)

    def _cut(self) -> None:
        self._has_cut = True
        for each in self._sockets:
            with suppress(OSError):  # it was closed meanwhile
                # Not the TLS socket's own, which would disturb the thread that reads from it.
                socket.socket.shutdown(each, socket.SHUT_RDWR)


class Answer(httpx.Response):
    """An answer of which no more is unpacked than its client takes."""

    def __init__(
        self, response: httpx.Response, most_bytes: int, watch: Watch | None = None
    ) -> None:
        super().__init__(
            response.status_code,
            headers=response.headers,
            stream=response.stream,
            request=response.request,
            extensions=response.extensions,
        )
        self._most_bytes = most_bytes
        self._watch = watch
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise httpx.DecodingError(
                f"it is packed as {encoding[:40]!r}, which nobody asked for", request=self.request
            )

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        size = 0
        for piece in super().iter_bytes(chunk_size):
            size += len(piece)
            self._check_size(size)
            yield piece

    def iter_raw(self, chunk_size: int | None = None) -> Iterator[bytes]:
        assert self._watch is not None  # which only the asynchronous client lacks
        size = 0
        with self._watch.telling(self.request):
            for piece in super().iter_raw(chunk_size):
                size += len(piece)
                self._check_size(size)
                yield piece

    def close(self) -> None:
        if self._watch is not None:
            self._watch.end()
        super().close()

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        size = 0
        async for piece in super().aiter_bytes(chunk_size):
            size += len(piece)
            self._check_size(size)
            yield piece

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise AnswerTooLargeError(
                f"it has more than the {self._most_bytes:,} bytes that are taken",
                request=self.request,
            )


def whole_seconds(request: httpx.Request, given: float | None) -> float | None:
    """How long the whole answer to the request may take."""
    if given is not None:
        return given
    read: float | None = request.extensions.get("timeout", {}).get("read")
    return None if read is None else _WHOLE_ANSWER_IN_READ_TIMEOUTS * read


def too_slow(seconds: float | None, request: httpx.Request) -> AnswerTooSlowError:
    return AnswerTooSlowError(f"not complete after {seconds:g} s", request=request)
