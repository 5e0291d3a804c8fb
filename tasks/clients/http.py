"""What all clients of HTTP services share: name, count of requests, and what goes wrong."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory, category_of_status
from mavedb_audit.metrics import count_request

#: How MaveDB introduces itself to every service; the page names whom to write to.
USER_AGENT = "MaveDB/1.0 (https://mavedb.org)"

_EXCERPT_CHARACTERS = 300


class Client(httpx.Client):
    """httpx's, of a service whose requests are counted, with our User-Agent."""

    def __init__(self, service: str, *, headers: Mapping[str, str] | None = None, **options: Any):
        super().__init__(headers=_with_user_agent(headers), **options)
        self._service = service

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = None
        try:
            response = super().send(request, **options)
        finally:
            count_request(self._service, _outcome(response))
        return response


class AsyncClient(httpx.AsyncClient):
    """As Client."""

    def __init__(self, service: str, *, headers: Mapping[str, str] | None = None, **options: Any):
        super().__init__(headers=_with_user_agent(headers), **options)
        self._service = service

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = None
        try:
            response = await super().send(request, **options)
        finally:
            count_request(self._service, _outcome(response))
        return response


def _with_user_agent(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {"User-Agent": USER_AGENT, **(headers or {})}


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


def excerpt(body: str) -> str:
    """A short piece of an answer, on one line; of an HTML page only its title or text."""
    if body.lstrip()[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
        body = title[1] if title else re.sub(r"<[^>]*>", " ", body)
    text = " ".join(body[: 4 * _EXCERPT_CHARACTERS].split())
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
    if isinstance(error, httpx.UnsupportedProtocol):
        return FailureCategory.CONFIGURATION_ERROR
    if isinstance(error, httpx.DecodingError):
        return FailureCategory.SERVICE_UNAVAILABLE
    return FailureCategory.NETWORK_ERROR


def _address(url: httpx.URL) -> str:
    return f"{url.host}:{url.port}" if url.port else url.host


def _cause(error: httpx.RequestError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
