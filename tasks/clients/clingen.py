"""ClinGen's Allele Registry: HGVS in, canonical allele ids out."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.clingen_answers import (
    SERVICE,
    allele_id_of,
    current_uri_of,
    describe,
    error_type_of,
    json_of,
    lines_of,
    refusal,
)
from tasks.clients.http import (
    Client,
    excerpt,
    raise_for_status,
    transport_error,
    without_secrets,
)


@dataclass(frozen=True)
class Account:
    """A Genboree account."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Registered:
    """`allele_id` is CA… (nucleotide) or PA… (protein) as the registry writes it, zeros kept."""

    allele_id: str


@dataclass(frozen=True)
class Rejected:
    """`message` reads "errorType: message (inputLine)"."""

    message: str


@dataclass(frozen=True)
class Unreadable:
    """The registry answered, but in no way that says anything of this HGVS."""

    message: str


Outcome = Registered | Rejected | Unreadable


def signed(url: str, account: Account, now: int) -> str:
    """`url` with the account's token at its end; `url` must hold a "?", `now` is in unix seconds.

    The token is valid for exactly these bytes of the URL, twelve hours before and after `now`.
    """
    if "?" not in url:
        raise ValueError("A URL must have a query before it can be signed.")
    identity = _sha1(account.name + account.password)
    token = _sha1(f"{url}{identity}{now}")
    return f"{url}&gbLogin={quote(account.name, safe='@')}&gbTime={now}&gbToken={token}"


def register(
    endpoint: str,
    account: Account,
    hgvs: Sequence[str],
    *,
    batch_size: int,
    connect_timeout: float,
    read_timeout: float,
    on_batch: Callable[[int], None] = lambda _: None,
) -> dict[str, Outcome]:
    """Register each distinct HGVS; every one of them gets an outcome.

    `endpoint` is the registry's base URL, without /alleles. `on_batch` is told how many HGVS have
    an outcome so far. Raises ServiceError when a batch as a whole fails; it is safe to register
    the same HGVS again, since an allele keeps its id for ever.
    """
    outcomes: dict[str, Outcome] = {}
    waiting: list[str] = []
    for expression in dict.fromkeys(hgvs):
        if unsendable := _why_unsendable(expression):
            outcomes[expression] = Rejected(unsendable)
        else:
            waiting.append(expression)
    url = _url(endpoint)
    timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
    with Client(SERVICE, timeout=timeout) as client:
        while waiting:
            batch = waiting[:batch_size]
            elements = _put(client, url, account, batch)
            if elements is None:
                if len(batch) == 1:
                    raise ServiceError(
                        SERVICE,
                        f"{batch[0][:200]} alone is too large a request.",
                        FailureCategory.DATA_ERROR,
                    )
                batch_size = (len(batch) + 1) // 2
                continue
            outcomes |= _outcomes(batch, elements)
            del waiting[: len(batch)]
            on_batch(len(outcomes))
    return outcomes


def _put(
    client: httpx.Client, url: str, account: Account, batch: Sequence[str]
) -> list[Any] | None:
    """One element for each HGVS of the batch, in its order; None: the batch is too large."""
    try:
        response = client.put(
            signed(url, account, int(time.time())),
            content="\n".join(batch).encode(),
            headers={"Content-Type": "text/plain; charset=utf-8"},
        )
    except httpx.RequestError as error:
        raise transport_error(SERVICE, error) from error
    answer = json_of(response)
    error_type = error_type_of(answer)
    if error_type == "RequestTooLarge" or response.status_code == 413:
        return None
    if error_type:
        raise _refusal(response, answer)
    _raise_for_status(response)
    if not isinstance(answer, list) or not any(isinstance(element, dict) for element in answer):
        raise _unusable(f"answered something else than JSON alleles: {excerpt(response.text)}")
    if len(answer) != len(batch):
        last = describe(answer[-1]) if error_type_of(answer[-1]) else ""
        raise _unusable(
            f"sent {len(answer)} answers for {len(batch)} HGVS, so none of them can be told apart."
            f" {last}".rstrip()
        )
    return answer


def _outcomes(batch: Sequence[str], elements: Sequence[Any]) -> dict[str, Outcome]:
    """What an answer says of each HGVS of its batch.

    Position ties an element to its HGVS, since the registry rewrites HGVS before it answers. But
    where one is written as another HGVS of the batch, which has another answer, the order is not
    the batch's: then an HGVS has the answer that names it, or none.
    """
    answers = {hgvs: _outcome(element) for hgvs, element in zip(batch, elements, strict=True)}
    naming: dict[str, set[Outcome]] = {hgvs: set() for hgvs in batch}
    for element in elements:
        for hgvs in naming.keys() & lines_of(element):
            naming[hgvs].add(_outcome(element))
    if all(named <= {answers[hgvs]} for hgvs, named in naming.items()):
        return answers
    lost = Unreadable("The answers came in another order than the HGVS, and none names this one.")
    return {hgvs: named.pop() if len(named) == 1 else lost for hgvs, named in naming.items()}


def _outcome(element: Any) -> Outcome:
    """What one element of an answer says."""
    if error_type_of(element):
        return Rejected(describe(element))
    allele_id = allele_id_of(current_uri_of(element)) if isinstance(element, dict) else None
    if allele_id is None:
        return Unreadable(f"It has no allele id: {excerpt(str(element))}")
    return Registered(allele_id)


def _refusal(response: httpx.Response, error: dict[str, Any]) -> ServiceError:
    refused = refusal(response, error)
    hint = ""
    if refused.category is FailureCategory.AUTHENTICATION_FAILED:
        hint = (
            " Check GENBOREE_ACCOUNT_NAME and GENBOREE_ACCOUNT_PASSWORD, that"
            " CAR_SUBMISSION_ENDPOINT is the host's own name, and this machine's clock."
        )
    refused.args = (without_secrets(str(refused)) + hint,)
    return refused


def _raise_for_status(response: httpx.Response) -> None:
    try:
        raise_for_status(SERVICE, response)
    except ServiceError as error:
        hint = " Check CAR_SUBMISSION_ENDPOINT." if response.status_code == 404 else ""
        error.args = (without_secrets(str(error)) + hint,)
        raise


def _unusable(text: str) -> ServiceError:
    return ServiceError(SERVICE, without_secrets(text), FailureCategory.SERVICE_UNAVAILABLE)


def _why_unsendable(hgvs: str) -> str | None:
    """A line that is blank or more than one would shift the answers that follow it."""
    if not hgvs.strip():
        return "Not sent: the HGVS is blank."
    if "\n" in hgvs or "\r" in hgvs:
        return f"Not sent: the HGVS holds a line break ({' '.join(hgvs.split())})"
    return None


def _url(endpoint: str) -> str:
    """The URL as httpx sends it: the token signs its exact bytes."""
    try:
        return str(httpx.URL(f"{endpoint.rstrip('/')}/alleles?file=hgvs"))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"CAR_SUBMISSION_ENDPOINT is not a URL: {error}") from None


def _sha1(text: str) -> str:
    # ClinGen checks its tokens in this way, and in no other, whatever we think of its security.
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
