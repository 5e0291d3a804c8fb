"""Sends what waits, at least once, each under the key that a receiver can know it again by.

Who sends a delivery first puts off its next try, which nobody else comes before: two services send
it once. One that dies between the answer and its note of it sends it again, or another does.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from sqlalchemy import Connection, text

from mavedb_audit.alerts.messages import Alert, signed_headers, slack_message
from mavedb_audit.database import connect
from mavedb_audit.errors import ConfigurationError
from mavedb_audit.logs import logger_of
from mavedb_audit.settings import settings

logger = logger_of(__name__)

#: How many go out at once.
_BATCH = 5
#: How long a delivery is its sender's: the time-out, and a margin to note what became of it.
_LEASE_MARGIN_SECONDS = 50
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 3600.0
#: With an hour between the later ones, three days.
_MOST_TRIES = 80
_EXCERPT_BYTES = 300
#: Answers to be asked again after: the receiver is busy, or took too long.
_NOT_NOW = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Delivery:
    """An alert that this process sends now. `tries` includes this one."""

    alert_id: int
    channel: str
    tries: int
    alert: Alert


@dataclass(frozen=True)
class Outcome:
    """What became of a try: sent without an error, else whether and when to try again."""

    error: str | None = None
    wait_seconds: float | None = None


def channels() -> Mapping[str, str]:
    """The channels that are configured, with their URLs.

    Raises ConfigurationError that names the variable whose URL or secret makes no sense.
    """
    given = {
        "slack": ("SLACK_WEBHOOK_URL", settings().slack_webhook_url),
        "webhook": ("ALERT_WEBHOOK_URL", settings().alert_webhook_url),
    }
    for variable, url in given.values():
        if url and not _is_url(url):
            # The URL is a secret, so the message does not show it.
            raise ConfigurationError(
                f"{variable} is not a URL: it must look like https://host/path"
            )
    _secret()
    return {channel: url for channel, (_, url) in given.items() if url}


def send_due() -> int:
    """Send what is due, a few at once. Returns how many were tried."""
    urls = channels()
    with connect() as connection, connection.begin():
        claimed = _claim(connection, list(urls))
    if claimed:
        outcomes = asyncio.run(_send_all(claimed, urls))
        with connect() as connection, connection.begin():
            _note(connection, claimed, outcomes)
        for each, outcome in zip(claimed, outcomes, strict=True):
            _log(each, outcome)
    return len(claimed)


def _log(delivery: Delivery, outcome: Outcome) -> None:
    said = {"key": delivery.alert.key, "channel": delivery.channel, "tries": delivery.tries}
    if outcome.error is None:
        logger.info("alerts.sent", **said)
    elif outcome.wait_seconds is None:
        logger.error("alerts.given_up", error=outcome.error, **said)
    else:
        logger.warning(
            "alerts.put_off", error=outcome.error, wait_seconds=outcome.wait_seconds, **said
        )


def _claim(connection: Connection, urls: list[str]) -> list[Delivery]:
    rows = connection.execute(
        text(
            """
            WITH due AS (
                SELECT alert_id, channel FROM alert_deliveries
                 WHERE sent_at IS NULL AND gave_up_at IS NULL AND next_try_at <= clock_timestamp()
                   AND channel = ANY (:channels)
                 ORDER BY next_try_at, alert_id LIMIT :batch FOR UPDATE SKIP LOCKED
            )
            UPDATE alert_deliveries AS delivery
               SET tries = tries + 1,
                   next_try_at = clock_timestamp() + :lease * interval '1 second'
              FROM due JOIN alerts ON alerts.id = due.alert_id
             WHERE (delivery.alert_id, delivery.channel) = (due.alert_id, due.channel)
         RETURNING delivery.alert_id, delivery.channel, delivery.tries, alerts.payload
            """
        ),
        {
            "channels": urls,
            "batch": _BATCH,
            "lease": settings().alert_timeout_seconds + _LEASE_MARGIN_SECONDS,
        },
    )
    return [
        Delivery(row.alert_id, row.channel, row.tries, Alert.model_validate(row.payload))
        for row in rows
    ]


async def _send_all(claimed: list[Delivery], urls: Mapping[str, str]) -> list[Outcome]:
    # No redirect is followed, which could lead the secret URL's content elsewhere.
    # The time-out is in _send, for each request as a whole.
    async with httpx.AsyncClient(timeout=None) as client:  # nosec B113
        return await asyncio.gather(
            *(_send(client, delivery, urls[delivery.channel]) for delivery in claimed)
        )


async def _send(client: httpx.AsyncClient, delivery: Delivery, url: str) -> Outcome:
    body, headers = _request(delivery)
    try:
        async with (
            asyncio.timeout(settings().alert_timeout_seconds),
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            if response.is_success:
                return Outcome()
            said = await _excerpt(response)
    except TimeoutError:
        return _later(delivery, f"no answer within {settings().alert_timeout_seconds:g} seconds")
    except httpx.TransportError as error:
        return _later(delivery, _without_url(f"{type(error).__name__}: {error}", url))
    refusal = _without_url(f"HTTP {response.status_code}: {said}", url)
    if response.status_code in _NOT_NOW or response.is_server_error:
        asked = response.headers.get("Retry-After", "")
        return _later(delivery, refusal, float(asked) if asked.isdecimal() else 0.0)
    return Outcome(refusal)


def _request(delivery: Delivery) -> tuple[bytes, dict[str, str]]:
    if delivery.channel == "slack":
        body = json.dumps(slack_message(delivery.alert)).encode()
        return body, {"Content-Type": "application/json", "Idempotency-Key": delivery.alert.key}
    body = delivery.alert.model_dump_json(by_alias=True).encode()
    return body, signed_headers(delivery.alert.key, datetime.now(UTC), body, _secret())


async def _excerpt(response: httpx.Response) -> str:
    said = b""
    async for piece in response.aiter_raw():
        said += piece
        if len(said) >= _EXCERPT_BYTES:
            break
    text = " ".join(said[:_EXCERPT_BYTES].decode("utf-8", "replace").replace("\x00", "").split())
    return text or "(empty answer)"


def _later(delivery: Delivery, error: str, asked_seconds: float = 0.0) -> Outcome:
    if delivery.tries >= _MOST_TRIES:
        return Outcome(error)
    doubled = _FIRST_WAIT_SECONDS * 2 ** min(delivery.tries - 1, 20)
    return Outcome(error, min(max(doubled, asked_seconds), _LONGEST_WAIT_SECONDS))


def _without_url(said: str, url: str) -> str:
    """Whoever knows the URL may send: neither it nor its path is kept."""
    for secret in (url, httpx.URL(url).raw_path.decode()):
        if len(secret) > 1:
            said = said.replace(secret, "***")
    return said


def _note(connection: Connection, claimed: list[Delivery], outcomes: list[Outcome]) -> None:
    """Write down what became of each, unless somebody else has it by now."""
    connection.execute(
        text(
            """
            UPDATE alert_deliveries AS delivery
               SET sent_at = CASE WHEN tried.error IS NULL THEN clock_timestamp() END,
                   gave_up_at = CASE WHEN tried.error IS NOT NULL AND tried.wait IS NULL
                                     THEN clock_timestamp() END,
                   next_try_at = CASE WHEN tried.wait IS NULL THEN next_try_at
                                 ELSE clock_timestamp() + tried.wait * interval '1 second' END,
                   last_error = tried.error
              FROM unnest(CAST(:ids AS bigint[]), CAST(:channels AS text[]),
                          CAST(:tries AS integer[]), CAST(:errors AS text[]),
                          CAST(:waits AS double precision[]))
                   AS tried (alert_id, channel, tries, error, wait)
             WHERE delivery.alert_id = tried.alert_id AND delivery.channel = tried.channel
               AND delivery.tries = tried.tries
            """
        ),
        {
            "ids": [delivery.alert_id for delivery in claimed],
            "channels": [delivery.channel for delivery in claimed],
            "tries": [delivery.tries for delivery in claimed],
            "errors": [outcome.error for outcome in outcomes],
            "waits": [outcome.wait_seconds for outcome in outcomes],
        },
    )


def _is_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _secret() -> bytes | None:
    given = settings().alert_webhook_secret
    if not given:
        return None
    try:
        return base64.b64decode(given.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ConfigurationError(
            "ALERT_WEBHOOK_SECRET is not base64, with or without whsec_ before it:"
            " `openssl rand -base64 32` makes one"
        ) from None
