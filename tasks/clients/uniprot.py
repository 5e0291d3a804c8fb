"""UniProt's id mapping: RefSeq and Ensembl accessions in, UniProtKB accessions out.

A mapping is a job at UniProt: submitted, asked after, and read when it is finished. The same
request always gives the same job, so submitting again costs nothing.
"""

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.http import Client, excerpt, raise_for_status, transport_error

SERVICE = "UniProt"

_DATABASES = {
    "NP_": "RefSeq_Protein",
    "NM_": "RefSeq_Nucleotide",
    "ENSP": "Ensembl_Protein",
    "ENST": "Ensembl_Transcript",
}
_ACCESSION = re.compile(rf"(?P<unversioned>(?P<kind>{'|'.join(_DATABASES)})\d+)(\.\d+)?")
_REVIEWED = "UniProtKB reviewed (Swiss-Prot)"
_UNDERWAY = frozenset({"NEW", "RUNNING", "PROCESSING", "UNFINISHED"})
_GIVEN_UP = frozenset({"ERROR", "ABORTED"})
#: UniProt's code of a job that exceeds one of its limits; such a job would fail again.
_LIMIT_EXCEEDED = 40
_FIRST_WAITS = (1.0, 2.0, 4.0, 8.0)
_LAST_WAIT = 15.0


@dataclass(frozen=True)
class Query:
    """What UniProt is asked for one accession. Of several `ids` the first that it knows counts."""

    accession: str
    database: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Mapped:
    uniprot_accession: str
    release: str | None


@dataclass(frozen=True)
class NotFound:
    """UniProt said that it does not know the accession, or only by entries it has withdrawn."""

    withdrawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ambiguous:
    """Several entries of equal standing."""

    uniprot_accessions: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """UniProt did not do this mapping, and why."""

    category: FailureCategory
    message: str


@dataclass(frozen=True)
class Unfinished:
    """The job was not finished when there was no time left. It can be asked after again."""

    job_id: str


Outcome = Mapped | NotFound | Ambiguous | Failed | Unfinished


@dataclass
class _Answer:
    """The rows of a finished job, all pages together."""

    rows: list[Any] = field(default_factory=list)
    failed_ids: set[str] = field(default_factory=set)
    release: str | None = None


class _JobGoneError(Exception):
    """UniProt no longer has the job; submitted again it has the same id."""


def query(accession: str) -> Query | None:
    """How UniProt is asked for the accession; None for one of a kind that it cannot map.

    Its index of transcripts lags behind RefSeq's versions and matches exactly, so these go without
    their version. Ensembl's ids are tried with theirs and without.
    """
    known = _ACCESSION.fullmatch(accession)
    if known is None:
        return None
    kind, unversioned = known["kind"], known["unversioned"]
    match kind:
        case "NP_":
            ids: tuple[str, ...] = (accession,)
        case "NM_":
            ids = (unversioned,)
        case _:
            ids = tuple(dict.fromkeys((accession, unversioned)))
    return Query(accession, _DATABASES[kind], ids)


@contextmanager
def connection(
    base_url: str, *, connect_timeout: float, read_timeout: float
) -> Iterator[httpx.Client]:
    """A client of the service at `base_url`. It follows no redirect: 303 says that a job is done.

    Raises ConfigurationError for what is no URL.
    """
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"UNIPROT_API_URL is not a URL: {error}") from None
    with Client(
        SERVICE,
        base_url=url,
        timeout=httpx.Timeout(read_timeout, connect=connect_timeout),
        headers={"Accept": "application/json"},
    ) as client:
        yield client


def submit(client: httpx.Client, asked: Query) -> str | Failed:
    """The id of the job for the query, or UniProt's words on why it takes no such query.

    Raises ServiceError when the service is down.
    """
    form = {"from": asked.database, "to": "UniProtKB", "ids": ",".join(asked.ids)}
    response = _send(client, "POST", "/idmapping/run", data=form)
    if response.status_code == httpx.codes.BAD_REQUEST:
        return Failed(FailureCategory.VALIDATION_ERROR, _messages(response))
    try:
        raise_for_status(SERVICE, response)
    except ServiceError as error:
        if error.category is FailureCategory.CONFIGURATION_ERROR:
            error.args = (f"{error} Check UNIPROT_API_URL.",)
        raise
    job_id = _object(response).get("jobId")
    if not isinstance(job_id, str) or not job_id:
        raise _unusable(response)
    return job_id


def collect(
    client: httpx.Client,
    jobs: Mapping[Query, str | None],
    *,
    patience_seconds: float,
    on_wait: Callable[[int], None] = lambda _: None,
) -> dict[Query, Outcome]:
    """The outcome of every query, waiting for its job. A query without a job is submitted first.

    A job that UniProt has lost, or that failed on its side, is submitted again once. `on_wait` is
    told how many have an outcome, before each wait. Raises ServiceError when the service is down.
    """
    outcomes: dict[Query, Outcome] = {}
    waiting = dict(jobs)
    submitted_again: set[Query] = set()
    deadline = time.monotonic() + patience_seconds
    for wait in itertools.chain(_FIRST_WAITS, itertools.repeat(_LAST_WAIT)):
        for asked, job_id in list(waiting.items()):
            outcome = _ask(client, asked, job_id)
            if _is_worth_submitting_again(outcome) and asked not in submitted_again:
                submitted_again.add(asked)
                outcome = _ask(client, asked, None)
            if isinstance(outcome, Unfinished):
                waiting[asked] = outcome.job_id
            else:
                del waiting[asked]
            outcomes[asked] = outcome
        if not waiting or time.monotonic() + wait > deadline:
            return outcomes
        on_wait(len(outcomes) - len(waiting))
        time.sleep(wait)
    raise AssertionError("the waits never end")


def _is_worth_submitting_again(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.category is FailureCategory.SERVICE_UNAVAILABLE


def _ask(client: httpx.Client, asked: Query, job_id: str | None) -> Outcome:
    """What has come of the job by now; without one it is submitted first."""
    submitted = submit(client, asked) if job_id is None else job_id
    if isinstance(submitted, Failed):
        return submitted
    try:
        return _state(client, submitted) or _reading(asked, _results(client, submitted))
    except _JobGoneError:
        return Failed(
            FailureCategory.SERVICE_UNAVAILABLE, f"UniProt no longer has its job {submitted}."
        )


def _state(client: httpx.Client, job_id: str) -> Unfinished | Failed | None:
    """None: the job is finished, and its results can be read."""
    response = _send(client, "GET", f"/idmapping/status/{quote(job_id, safe='')}")
    if response.status_code == httpx.codes.SEE_OTHER:
        return None
    if response.status_code == httpx.codes.NOT_FOUND:
        raise _JobGoneError
    content = _json(response)
    status = str(content.get("jobStatus")) if isinstance(content, dict) else ""
    if status in _GIVEN_UP:
        return _given_up(status, content.get("errors"))
    raise_for_status(SERVICE, response)
    if status in _UNDERWAY:
        return Unfinished(job_id)
    if status == "FINISHED" or (isinstance(content, dict) and "results" in content):
        return None
    raise _unusable(response)


def _given_up(status: str, errors: Any) -> Failed:
    """Without a list of errors, or with another than a limit, the cause is on UniProt's side."""
    listed = errors if isinstance(errors, list) else []
    known = [error for error in listed if isinstance(error, dict)]
    said = " ".join(str(error.get("message")) for error in known) or "It gave no reason."
    is_limit = any(error.get("code") == _LIMIT_EXCEEDED for error in known)
    category = (
        FailureCategory.DATA_ERROR
        if is_limit or status == "ABORTED"
        else FailureCategory.SERVICE_UNAVAILABLE
    )
    return Failed(category, f"The mapping ended in {status}: {said}")


def _results(client: httpx.Client, job_id: str) -> _Answer:
    answer = _Answer()
    url: str | httpx.URL | None = (
        f"/idmapping/uniprotkb/results/{quote(job_id, safe='')}"
        "?format=json&size=500&fields=accession,reviewed,organism_id"
    )
    seen: set[str] = set()
    while url is not None and str(url) not in seen:
        seen.add(str(url))
        response = _send(client, "GET", url)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _JobGoneError
        raise_for_status(SERVICE, response)
        content = _object(response)
        rows, failed_ids = content.get("results"), content.get("failedIds") or []
        if not isinstance(rows, list) or not isinstance(failed_ids, list):
            raise _unusable(response)
        answer.rows += rows
        answer.failed_ids |= {str(failed_id) for failed_id in failed_ids}
        answer.release = response.headers.get("X-UniProt-Release")
        url = _next_page(client, response)
    return answer


def _next_page(client: httpx.Client, response: httpx.Response) -> httpx.URL | None:
    """Its path and query on the host that we were told of, whatever host the link names."""
    link = response.links.get("next", {}).get("url")
    try:
        return client.base_url.copy_with(raw_path=httpx.URL(link).raw_path) if link else None
    except httpx.InvalidURL:
        raise _unusable(response) from None


def _reading(asked: Query, answer: _Answer) -> Outcome:
    """What the answer says of the query. Rows for ids that were not asked for say nothing."""
    withdrawn: list[str] = []
    for asked_id in asked.ids:
        entries: dict[str, str] = {}
        for row in answer.rows:
            if not isinstance(row, dict) or row.get("from") != asked_id:
                continue
            entry = row.get("to")
            if not isinstance(entry, dict) or not isinstance(entry.get("primaryAccession"), str):
                return Failed(
                    FailureCategory.DATA_ERROR,
                    f"An entry for {asked_id} cannot be read: {excerpt(str(row))}",
                )
            entries[entry["primaryAccession"]] = str(entry.get("entryType"))
        active = [accession for accession, kind in entries.items() if kind != "Inactive"]
        withdrawn += [accession for accession, kind in entries.items() if kind == "Inactive"]
        reviewed = [accession for accession in active if entries[accession] == _REVIEWED]
        match reviewed or active:
            case [one]:
                return Mapped(one, answer.release)
            case [_, *_] as several:
                return Ambiguous(tuple(sorted(several)))
    if withdrawn or answer.failed_ids.issuperset(asked.ids):
        return NotFound(tuple(sorted(withdrawn)))
    return Failed(
        FailureCategory.SERVICE_UNAVAILABLE,
        f"The mapping ended without a word on {', '.join(asked.ids)}.",
    )


def _send(
    client: httpx.Client, method: str, url: str | httpx.URL, **options: Any
) -> httpx.Response:
    try:
        return client.request(method, url, **options)
    except httpx.RequestError as error:
        raise transport_error(SERVICE, error) from error


def _messages(response: httpx.Response) -> str:
    content = _json(response)
    messages = content.get("messages") if isinstance(content, dict) else None
    return " ".join(map(str, messages)) if isinstance(messages, list) else excerpt(response.text)


def _object(response: httpx.Response) -> dict[str, Any]:
    content = _json(response)
    if not isinstance(content, dict):
        raise _unusable(response)
    return content


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _unusable(response: httpx.Response) -> ServiceError:
    return ServiceError(
        SERVICE,
        f"answered something else than id mapping does: {excerpt(response.text)}",
        FailureCategory.SERVICE_UNAVAILABLE,
    )
