"""Ensembl's REST server: its pace, its refusals, and when to leave it alone."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from aiolimiter import AsyncLimiter

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.http import AsyncClient, excerpt, raise_for_status, transport_error

SERVICE = "Ensembl"

#: Longer waits are the scheduler's: a worker has better things to do.
LONGEST_WAIT_SECONDS = 60.0
#: So many failed requests, with no success between them, and an endpoint is left alone.
FAILURES_IN_A_ROW = 30
_BLACKLISTED_SECONDS = 2 * 3600.0
#: Texts of an HTTP 400 that no notation is to blame for.
_OUR_MISTAKES = ("key in your POST", "page not found", "JSON")

T = TypeVar("T")


@dataclass(frozen=True)
class Manners:
    """How Ensembl is asked. Durations are in seconds.

    `retry_delays` are the waits before a request's second, third … try.
    """

    requests_per_second: float = 10.0
    concurrent_requests: int = 4
    connect_timeout: float = 10.0
    vep_timeout: float = 60.0
    recoder_timeout: float = 600.0
    retry_delays: tuple[float, ...] = (1.0, 2.0, 4.0)


class BadRequestError(ServiceError):
    """HTTP 400: Ensembl could make nothing of any notation in the request; `said` names one."""

    def __init__(self, said: str) -> None:
        super().__init__(SERVICE, said, FailureCategory.DATA_ERROR, status_code=400)
        self.said = said


@dataclass
class Server:
    """One session with the server, within one event loop.

    `left_alone` is set once the server has refused us altogether; from then on nothing is asked.
    """

    client: httpx.AsyncClient
    manners: Manners
    limiter: AsyncLimiter
    left_alone: ServiceError | None = None
    _closed_until: float = 0.0

    async def wait_for_turn(self) -> None:
        """Raises ServiceError when Ensembl asked for a wait that is too long to sit out."""
        while (wait := self._closed_until - asyncio.get_running_loop().time()) > 0:
            if wait > LONGEST_WAIT_SECONDS:
                self.left_alone = ServiceError(
                    SERVICE,
                    f"it has had enough requests from this address for the next {wait:,.0f} s.",
                    FailureCategory.API_RATE_LIMITED,
                    status_code=429,
                    retry_after_seconds=wait,
                )
                raise self.left_alone
            await asyncio.sleep(wait)
        await self.limiter.acquire()

    def close_for(self, seconds: float) -> None:
        """Let no request out for so long: what it asks of one, it asks of all."""
        until = asyncio.get_running_loop().time() + seconds
        self._closed_until = max(self._closed_until, until)


@asynccontextmanager
async def connected(base_url: str, manners: Manners) -> AsyncIterator[Server]:
    """A session with the server at `base_url`, which has no trailing slash."""
    try:
        httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"ENSEMBL_API_URL is not a URL: {error}") from None
    async with AsyncClient(
        SERVICE,
        base_url=base_url,
        headers={"Accept": "application/json"},
        timeout=httpx.Timeout(manners.vep_timeout, connect=manners.connect_timeout),
    ) as client:
        # One request at a time, so often: a bucket of a second's worth would let twice as many
        # through in the first second.
        limiter = AsyncLimiter(1, 1 / manners.requests_per_second)
        yield Server(client, manners, limiter)


@dataclass
class Endpoint:
    """One kind of request, so many at a time, of which each is tried a few times.

    `left_alone` is set once too many have failed in a row, or one in a way that all will; from
    then on nothing is asked. `refusals` counts the requests answered with HTTP 400.
    """

    server: Server
    method: str
    path: str
    read_timeout: float
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    left_alone: ServiceError | None = None
    refusals: int = 0
    _failures_in_a_row: int = 0

    async def ask(
        self,
        read: Callable[[bytes], T],
        body: Mapping[str, Any] | None = None,
        *,
        is_divisible: bool = False,
    ) -> T:
        """What `read` makes of the answer's body.

        `read` raises ValueError for a body that is not what it should be. Raises BadRequestError,
        or ServiceError when the last attempt failed, or at once where another would not help. A
        divisible request that takes too long is not repeated as it is.
        """

        async with self.slots:
            for delay in self.server.manners.retry_delays:
                try:
                    return await self._try(read, body)
                except ServiceError as error:
                    takes_too_long = error.category is FailureCategory.TIMEOUT and is_divisible
                    if error.category not in RETRYABLE or takes_too_long or self.stopped:
                        raise
                await asyncio.sleep(delay)
            return await self._try(read, body)

    async def _try(self, read: Callable[[bytes], T], body: Mapping[str, Any] | None) -> T:
        stopped = self.stopped
        if stopped is not None:
            # Anew, since each raise adds to an exception's traceback.
            raise ServiceError(SERVICE, f"not asked any more. {stopped}", stopped.category)
        await self.server.wait_for_turn()
        try:
            answer = await self._send(read, body)
        except BadRequestError:
            self.refusals += 1
            self._failures_in_a_row = 0
            raise
        except ServiceError as error:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                self.left_alone = error
            raise
        self._failures_in_a_row = 0
        return answer

    async def _send(self, read: Callable[[bytes], T], body: Mapping[str, Any] | None) -> T:
        timeout = httpx.Timeout(self.read_timeout, connect=self.server.manners.connect_timeout)
        try:
            response = await self.server.client.request(
                self.method, self.path, json=body, timeout=timeout
            )
        except httpx.RequestError as error:
            raise transport_error(SERVICE, error) from error
        self._heed(response)
        try:
            return read(response.content)
        except ValueError as error:
            raise ServiceError(
                SERVICE,
                f"{self.path} answered something unusable ({error}): {excerpt(response.text)}",
                FailureCategory.SERVICE_UNAVAILABLE,
            ) from None

    def _heed(self, response: httpx.Response) -> None:
        """Raise for what is not an answer, and keep to what the headers ask for."""
        if response.headers.get("X-RateLimit-Remaining") == "0":
            self.server.close_for(_seconds(response.headers.get("X-RateLimit-Reset")))
        match response.status_code:
            case 400:
                said = _error_text(response)
                if any(text in said for text in _OUR_MISTAKES):
                    self.left_alone = ServiceError(
                        SERVICE, said, FailureCategory.CONFIGURATION_ERROR, status_code=400
                    )
                    raise self.left_alone
                raise BadRequestError(said)
            case 403:
                self.server.left_alone = ServiceError(
                    SERVICE,
                    f"it has blacklisted this address ({excerpt(response.text)}): run no VEP step"
                    " for at least two hours.",
                    FailureCategory.QUOTA_EXCEEDED,
                    status_code=403,
                    retry_after_seconds=_BLACKLISTED_SECONDS,
                )
                raise self.server.left_alone
        try:
            raise_for_status(SERVICE, response)
        except ServiceError as error:
            if error.category is FailureCategory.API_RATE_LIMITED:
                self.server.close_for(math.ceil(error.retry_after_seconds or 0.0))
            elif error.category not in RETRYABLE:
                if error.category is FailureCategory.CONFIGURATION_ERROR:
                    error.args = (f"{error} Check ENSEMBL_API_URL.",)
                self.left_alone = error
            raise

    @property
    def stopped(self) -> ServiceError | None:
        """Why nothing is asked any more."""
        return self.left_alone or self.server.left_alone


def _error_text(response: httpx.Response) -> str:
    try:
        content = json.loads(response.content)
    except ValueError:
        return response.text
    said = content.get("error") if isinstance(content, dict) else None
    return said if isinstance(said, str) else response.text


def _seconds(header: str | None) -> float:
    try:
        return float(header or 0)
    except ValueError:
        return 0.0
