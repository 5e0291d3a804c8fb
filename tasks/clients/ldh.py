"""ClinGen's Linked Data Hub: takes a published score set's mapped variants, in batches.

What it answers is the receipt of a queue, one a batch: the hub shows the variants minutes later.
"""

import base64
import binascii
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.clingen import Account
from tasks.clients.http import Client, excerpt, raise_for_status, transport_error

SERVICE = "ClinGen Linked Data Hub"
#: The most that the hub takes in one request.
BATCH_SIZE = 100

_MAVEDB_API = "https://github.com/VariantEffect/mavedb-api"
#: A token is not used in the last moments before it expires.
_MARGIN_SECONDS = 10.0
_NO_BATCH_WOULD_PASS = frozenset(
    {FailureCategory.AUTHENTICATION_FAILED, FailureCategory.CONFIGURATION_ERROR}
)
_CHECK_ACCOUNT = "Check GENBOREE_ACCOUNT_NAME and GENBOREE_ACCOUNT_PASSWORD."


@dataclass(frozen=True)
class MappedVariant:
    """One variant as it is submitted; `page` is where MaveDB shows it."""

    urn: str
    page: str
    hgvs: str
    score: float | None
    score_set_description: str
    pre_mapped: Mapping[str, Any] | None
    post_mapped: Mapping[str, Any]
    mapping_api_version: str


@dataclass(frozen=True)
class Queued:
    """The hub took the batch under these message ids."""

    message_ids: tuple[str, ...]


@dataclass(frozen=True)
class BatchFailed:
    """The hub did not take the batch, and why."""

    error: ServiceError


@dataclass
class _Token:
    """A signed-in account's JWT; `expires_at` is in unix seconds."""

    jwt: str
    expires_at: float

    @property
    def is_usable(self) -> bool:
        return time.time() < self.expires_at - _MARGIN_SECONDS


@dataclass
class Hub:
    """The hub as one account sees it, which signs in when it has to."""

    _client: httpx.Client
    _tenant: str
    _account: Account
    _token: _Token | None = None

    def submit(self, batch: Sequence[MappedVariant]) -> Queued | BatchFailed:
        """Send at most BATCH_SIZE variants. They may be sent again at any time.

        Raises ServiceError when the account cannot sign in, or the address is wrong.
        """
        items = [_item(variant) for variant in batch]
        try:
            response = self._put(items)
            if response.status_code == httpx.codes.FORBIDDEN:
                self._token = None
                response = self._put(items)
            return Queued(_message_ids(response))
        except ServiceError as error:
            if error.category in _NO_BATCH_WOULD_PASS:
                raise
            return BatchFailed(error)

    def _put(self, items: Sequence[Mapping[str, Any]]) -> httpx.Response:
        if self._token is None or not self._token.is_usable:
            self._token = _sign_in(self._client, self._account)
        return _send(
            self._client,
            "PUT",
            f"/mq/brdg/pulsar/{quote(self._tenant, safe='')}/ldh/submissions/maveDb",
            json=list(items),
            headers={"Authorization": f"Bearer {self._token.jwt}"},
        )


@contextmanager
def connection(
    base_url: str,
    tenant: str,
    account: Account,
    *,
    connect_timeout: float,
    read_timeout: float,
) -> Iterator[Hub]:
    """The hub at `base_url`. Raises ConfigurationError for what is no URL."""
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"GENBOREE_URL is not a URL: {error}") from None
    timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
    with Client(SERVICE, base_url=url, timeout=timeout) as client:
        yield Hub(client, tenant, account)


def _item(variant: MappedVariant) -> dict[str, Any]:
    return {
        "event": {
            "type": "cg-ldh-ld-submission",
            "name": "MaveDBMapping",
            "uuid": str(uuid4()),
            "sbj": {
                "id": variant.hgvs,
                "type": "Variant",
                "format": "hgvs",
                "add": True,
                "iri": None,
            },
            "triggered": {
                "by": {
                    "host": _MAVEDB_API,
                    "id": "resource_published",
                    "iri": f"{_MAVEDB_API}/releases",
                },
                # As the hub's own examples: UTC, without saying so.
                "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            },
        },
        "content": {
            "sbj": {"Variant": {"hgvs": variant.hgvs}},
            "ld": {
                "MaveDBMapping": [
                    {
                        "entContent": {
                            "mavedb_id": variant.urn,
                            "score": variant.score,
                            "score_set_description": variant.score_set_description,
                            "pre_mapped": variant.pre_mapped,
                            "post_mapped": variant.post_mapped,
                            "mapping_api_version": variant.mapping_api_version,
                        },
                        "entId": variant.urn,
                        "entIri": variant.page,
                    }
                ]
            },
        },
    }


def _sign_in(client: httpx.Client, account: Account) -> _Token:
    response = _send(
        client,
        "POST",
        f"/auth/usr/gb:{quote(account.name, safe='')}/auth",
        json={"type": "plain", "val": account.password},
    )
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise ServiceError(
            SERVICE,
            f"the account cannot sign in: {_said(response)} {_CHECK_ACCOUNT}",
            FailureCategory.AUTHENTICATION_FAILED,
            status_code=response.status_code,
        )
    _raise_for_status(response)
    try:
        jwt = response.json()["data"]["jwt"]
        return _Token(jwt, _expiry(jwt))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServiceError(
            SERVICE,
            "signed the account in without a token that can be read.",
            FailureCategory.SERVICE_UNAVAILABLE,
        ) from None


def _expiry(jwt: str) -> float:
    """The claim `exp`, in unix seconds; whether the token is genuine is the hub's concern."""
    payload = jwt.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except binascii.Error as error:
        raise ValueError("no base64") from error
    return float(claims["exp"])


def _message_ids(response: httpx.Response) -> tuple[str, ...]:
    """What the receipt names. Raises ServiceError for anything but a receipt."""
    if response.status_code == httpx.codes.FORBIDDEN:
        raise ServiceError(
            SERVICE,
            f"refuses a fresh token: {_said(response)} {_CHECK_ACCOUNT}",
            FailureCategory.AUTHENTICATION_FAILED,
            status_code=response.status_code,
        )
    if response.status_code == httpx.codes.BAD_REQUEST:
        raise ServiceError(
            SERVICE,
            _said(response),
            FailureCategory.VALIDATION_ERROR,
            status_code=response.status_code,
        )
    _raise_for_status(response)
    try:
        message_ids = response.json()["data"]["msgIds"]
    except (ValueError, KeyError, TypeError):
        message_ids = None
    if not isinstance(message_ids, list) or not message_ids:
        raise ServiceError(
            SERVICE,
            f"answered something else than a receipt: {excerpt(response.text)}",
            FailureCategory.SERVICE_UNAVAILABLE,
        )
    return tuple(map(str, message_ids))


def _raise_for_status(response: httpx.Response) -> None:
    try:
        raise_for_status(SERVICE, response)
    except ServiceError as error:
        if error.category is FailureCategory.CONFIGURATION_ERROR:
            error.args = (f"{error} Check GENBOREE_URL and CLIN_GEN_TENANT.",)
        raise


def _said(response: httpx.Response) -> str:
    """The hub's words, of which there are two shapes."""
    try:
        content = response.json()
        return str(content.get("errMsg") or content["status"]["msg"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return excerpt(response.text)


def _send(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
    try:
        return client.request(method, url, **options)
    except httpx.RequestError as error:
        raise transport_error(SERVICE, error) from error
