"""What all clients of HTTP services share: name, count of requests, bounds, and what goes wrong.

No redirect is followed: a service cannot send us, and the credentials of a request, elsewhere.
"""

import asyncio
import functools
import logging
import math
import re
import socket
import ssl
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory, category_of_status
from mavedb_audit.metrics import count_request
from mavedb_audit.texts import storable, without_passwords
from mavedb_audit.tracing import span
from tasks.clients.bounds import (
    MOST_ANSWER_BYTES,
    Answer,
    AnswerTooLargeError,
    Watch,
    too_slow,
    whole_seconds,
)

#: How MaveDB introduces itself to every service; the page names whom to write to.
USER_AGENT = "MaveDB/1.0 (https://mavedb.org)"

_ACCOUNT_IN_URL = re.compile(r"\b(gbLogin|gbTime|gbToken)=[^&\s\"'<>]*")
_EXCERPT_CHARACTERS = 300


class Client(httpx.Client):
    """httpx's, of a service whose requests are counted, with our User-Agent and with bounds.

    An answer may hold `most_bytes` once it is unpacked, and take `longest_seconds` as a whole: by
    default twice the read time-out, which by itself starts again with every byte that comes.
    """

    def __init__(
        self,
        service: str,
        *,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = MOST_ANSWER_BYTES,
        longest_seconds: float | None = None,
        **options: Any,
    ):
        super().__init__(headers=_own_headers(headers), **{"verify": tls(), **options})
        self._service = service
        self._most_bytes = most_bytes
        self._longest_seconds = longest_seconds
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def send(
        self, request: httpx.Request, *, stream: bool = False, **options: Any
    ) -> httpx.Response:
        with _traced(self._service, request):
            return self._send(request, stream=stream, **options)

    def _send(self, request: httpx.Request, *, stream: bool, **options: Any) -> httpx.Response:
        request.extensions["trace"] = self._note_socket
        watch = Watch(self._sockets, whole_seconds(request, self._longest_seconds))
        response = answered = None
        try:
            with watch.telling(request):
                response = super().send(request, stream=True, **options)
            answer = Answer(response, self._most_bytes, watch)
            if not stream:
                answer.read()
            answered = answer
            return answer
        except BaseException:
            watch.end()
            if response is not None:
                response.close()
            raise
        finally:
            count_request(self._service, _outcome(answered))

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """For httpx's extension "trace": remember what the connections are made of."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.add(info["return_value"].get_extra_info("socket"))


class AsyncClient(httpx.AsyncClient):
    """As Client; answers are always read as a whole."""

    def __init__(
        self,
        service: str,
        *,
        headers: Mapping[str, str] | None = None,
        most_bytes: int = MOST_ANSWER_BYTES,
        longest_seconds: float | None = None,
        **options: Any,
    ):
        super().__init__(headers=_own_headers(headers), **{"verify": tls(), **options})
        self._service = service
        self._most_bytes = most_bytes
        self._longest_seconds = longest_seconds

    async def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,  # noqa: ARG002 - httpx passes it
        **options: Any,
    ) -> httpx.Response:
        with _traced(self._service, request):
            return await self._send(request, **options)

    async def _send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        seconds = whole_seconds(request, self._longest_seconds)
        answered = None
        try:
            async with asyncio.timeout(seconds):
                response = await super().send(request, stream=True, **options)
                try:
                    answer = Answer(response, self._most_bytes)
                    await answer.aread()
                finally:
                    await response.aclose()
            answered = answer
            return answer
        except TimeoutError:
            raise too_slow(seconds, request) from None
        finally:
            count_request(self._service, _outcome(answered))


def _traced(service: str, request: httpx.Request) -> AbstractContextManager[None]:
    """A span of the request. Its path may hold what is secret, so it is left out."""
    return span("service.request", service=service, method=request.method, host=request.url.host)


@functools.cache
def tls() -> ssl.SSLContext:
    """What all clients trust: to read every certificate anew for each takes 40 ms of CPU."""
    return httpx.create_ssl_context()


def _own_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate", **(headers or {})}


def _outcome(response: httpx.Response | None) -> str:
    """The class of the answer's status, such as 2xx."""
    return f"{response.status_code // 100}xx" if response is not None else "no answer"


def raise_for_status(service: str, response: httpx.Response) -> None:
    """Raises ServiceError unless the status is 2xx.

    A streamed body must have been read (the answer's text becomes part of the message).
    """
    if response.is_success:
        return
    location = response.headers.get("Location")
    if response.is_redirect and location:
        raise ServiceError(
            service,
            f"HTTP {response.status_code} redirects to {httpx.URL(location).host or location}; "
            "check the base URL in the settings.",
            FailureCategory.CONFIGURATION_ERROR,
            status_code=response.status_code,
        )
    raise ServiceError(
        service,
        f"HTTP {response.status_code} from {_address(response.url)}: {excerpt(response.text)}",
        category_of_status(response.status_code),
        status_code=response.status_code,
        retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After")),
    )


def transport_error(service: str, error: httpx.RequestError) -> ServiceError:
    """The ServiceError for a request that got no complete answer."""
    try:
        address = _address(error.request.url)
    except RuntimeError:  # the error was raised outside of a request
        address = "the service"
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            text = (
                f"no connection to {address} ({_cause(error)}); check that it runs, that the "
                "address in the settings is right and that no firewall is in between."
            )
        case httpx.TimeoutException():
            text = f"no answer from {address} in time ({_cause(error)}); it may be overloaded."
        case AnswerTooLargeError():
            text = f"the answer from {address} is not read any further: {error}."
        case httpx.UnsupportedProtocol():
            text = (
                f"the address in the settings is not an http:// or https:// URL ({_cause(error)})."
            )
        case httpx.DecodingError():
            text = f"the answer from {address} cannot be unpacked ({_cause(error)})."
        case _:
            text = (
                f"the connection to {address} broke ({_cause(error)}); check whether the service "
                "was restarted or a proxy in between gave up."
            )
    return ServiceError(service, text, _category(error))


def without_secrets(text: str) -> str:
    """The text without its URLs' passwords, and without the tokens of ClinGen's signed ones."""
    return _ACCOUNT_IN_URL.sub(r"\1=***", without_passwords(text))


def _hide_secrets(record: logging.LogRecord) -> bool:
    """For httpx's logger, which writes the whole URL of every request at level INFO."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            without_secrets(str(value)) if isinstance(value, httpx.URL) else value
            for value in record.args
        )
    return True


logging.getLogger("httpx").addFilter(_hide_secrets)


def excerpt(body: str) -> str:
    """A short piece of an answer, on one line; of an HTML page only its title or text."""
    if body.lstrip()[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
        body = title[1] if title else re.sub(r"<[^>]*>", " ", body)
    text = " ".join(storable(body[: 4 * _EXCERPT_CHARACTERS]).split())
    if len(text) > _EXCERPT_CHARACTERS:
        text = text[:_EXCERPT_CHARACTERS] + "…"
    return text or "(empty answer)"


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """The wait that a Retry-After header asks for (seconds or an HTTP date), if it is readable."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _category(error: httpx.RequestError) -> FailureCategory:
    if isinstance(error, httpx.TimeoutException):
        return FailureCategory.TIMEOUT
    if isinstance(error, AnswerTooLargeError):
        return FailureCategory.DATA_ERROR
    if isinstance(error, httpx.UnsupportedProtocol):
        return FailureCategory.CONFIGURATION_ERROR
    if isinstance(error, httpx.DecodingError):
        return FailureCategory.SERVICE_UNAVAILABLE
    return FailureCategory.NETWORK_ERROR


def _address(url: httpx.URL) -> str:
    return f"{url.host}:{url.port}" if url.port else url.host


def _cause(error: httpx.RequestError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
