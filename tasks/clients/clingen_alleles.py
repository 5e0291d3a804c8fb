"""ClinGen's Allele Registry, read by allele id: an allele, none of that id, or a failed look-up."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.clingen_answers import (
    SERVICE,
    allele_id_of,
    current_uri_of,
    describe,
    error_type_of,
    is_allele_id,
    json_of,
    refusal,
)
from tasks.clients.clingen_documents import Document
from tasks.clients.http import AsyncClient, excerpt, raise_for_status, transport_error

T = TypeVar("T")

#: So many look-ups of single ids that fail in a row, and no more are made.
_FAILURES_IN_A_ROW = 5
#: So many batches that the registry takes in no part, and nothing is divided any further.
_REFUSALS_LOOKED_INTO = 30
#: A longer Retry-After is left to whoever tries the whole step again.
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """An allele on one transcript: its c. HGVS, and the p. HGVS of what it does there, if known."""

    hgvs: str
    protein_hgvs: str | None = None

    @property
    def accession(self) -> str:
        return self.hgvs.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Allele:
    """What the registry knows of an allele, as far as any step uses it.

    `allele_id` is the registry's current id, as it writes it. `genomic_hgvs` is on GRCh38. `mane`
    is the allele on its gene's MANE transcript, by RefSeq; `protein_allele_ids` are the PA ids of
    what it does on MANE transcripts. A protein allele (PA…) has only its HGVS and the CA ids of
    the registered nucleotide alleles that encode it.
    """

    allele_id: str
    clinvar_allele_id: int | None = None
    genomic_hgvs: str | None = None
    transcripts: tuple[Transcript, ...] = ()
    mane: Transcript | None = None
    protein_allele_ids: tuple[str, ...] = ()
    protein_hgvs: str | None = None
    nucleotide_allele_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """The registry gave no answer for an allele: nothing is known of it, not even its absence."""

    category: FailureCategory
    message: str


#: None: the registry has no allele of that id.
Answer = Allele | LookupFailed | None


def fetch(
    url: str,
    allele_ids: Collection[str],
    *,
    batch_size: int,
    concurrency: int,
    retry_delays: Sequence[float],
    connect_timeout: float,
    read_timeout: float,
) -> dict[str, Answer]:
    """Ask the registry at `url` for each id; every one of them gets an answer.

    A request that is refused for the moment (429, 5xx, no connection, no answer in time) is sent
    again after each of `retry_delays`, or later where a Retry-After asks for it. Raises
    ServiceError when no batch of ids was answered at all.
    """
    try:
        base = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"CLINGEN_ALLELE_REGISTRY_URL is not a URL: {error}") from None

    async def ask() -> dict[str, Answer]:
        timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
        async with AsyncClient(SERVICE, timeout=timeout) as client:
            registry = _Registry(client, base, asyncio.Semaphore(concurrency), retry_delays)
            return await _fetch(registry, sorted(set(allele_ids)), batch_size)

    return asyncio.run(ask())


def parse(body: Any) -> Allele | LookupFailed:
    """The allele that the registry describes, in whichever of its older and newer shapes."""
    try:
        return _facts(Document.model_validate(body))
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or "the answer"
        return LookupFailed(
            FailureCategory.DATA_ERROR,
            f"{SERVICE}: {place} cannot be read ({wrong['msg']}): {excerpt(str(body))}",
        )


@dataclass(frozen=True, slots=True)
class _Moved:
    """An id that was merged into another one."""

    allele_id: str


class _RefusedBatchError(Exception):
    """The registry takes no request of this size, or not with one of its ids."""


@dataclass
class _Registry:
    """`left_alone` is set once single ids are not asked for any more."""

    client: httpx.AsyncClient
    url: httpx.URL
    limit: asyncio.Semaphore
    retry_delays: Sequence[float]
    refusals: int = 0
    failures_in_a_row: int = 0
    left_alone: LookupFailed | None = None

    async def batch(self, ids: Sequence[str]) -> dict[str, Answer | _Moved]:
        """Answers by id. Raises ServiceError when the registry does not answer."""
        try:
            elements = await self._post(ids)
        except _RefusedBatchError as refused:
            self.refusals += 1
            if self.refusals > _REFUSALS_LOOKED_INTO:
                raise ServiceError(SERVICE, str(refused), FailureCategory.DATA_ERROR) from None
            if len(ids) == 1:
                return {ids[0]: await self.one(ids[0])}
            half = len(ids) // 2
            return await self.batch(ids[:half]) | await self.batch(ids[half:])
        answers = _by_id(ids, elements)
        if not answers and len(ids) > 1:
            raise _unusable(f"none of {len(ids)} ids has an answer in {excerpt(str(elements))}")
        for alone in set(ids) - answers.keys():
            answers[alone] = await self.one(alone)
        return answers

    async def one(self, allele_id: str) -> Answer | _Moved:
        if self.left_alone is not None:
            return self.left_alone
        try:
            answer = await self._send("GET", f"/allele/{allele_id}")
        except ServiceError as error:
            failed = LookupFailed(error.category, str(error))
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= _FAILURES_IN_A_ROW:
                self.left_alone = failed
            return failed
        self.failures_in_a_row = 0
        match error_type_of(answer):
            case None if _number(_own_id(answer)) not in (None, _number(allele_id)):
                return LookupFailed(
                    FailureCategory.DATA_ERROR,
                    f"{SERVICE}: asked about {allele_id}, it describes {_own_id(answer)}.",
                )
            case None:
                return _read(answer)
            case "NotFound":
                return None
            case _:
                return LookupFailed(FailureCategory.DATA_ERROR, f"{SERVICE}: {describe(answer)}")

    async def _post(self, ids: Sequence[str]) -> list[Any]:
        answer = await self._send("POST", "/alleles?file=id", "\n".join(ids))
        if error_type_of(answer):
            raise _RefusedBatchError(describe(answer))
        if not isinstance(answer, list):
            raise _unusable(excerpt(str(answer)))
        return answer

    async def _send(self, method: str, path: str, content: str | None = None) -> Any:
        """The JSON that comes back, which may be an error about what was asked for."""
        for delay in (*self.retry_delays, None):
            try:
                async with self.limit:
                    return await self._once(method, path, content)
            except ServiceError as error:
                if delay is None or error.category not in RETRYABLE:
                    raise
                wait = max(delay, error.retry_after_seconds or 0)
                if wait > _LONGEST_WAIT_SECONDS:
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _once(self, method: str, path: str, content: str | None) -> Any:
        try:
            response = await self.client.request(method, f"{self.url}{path}", content=content)
        except httpx.RequestError as error:
            raise transport_error(SERVICE, error) from error
        answer = json_of(response)
        if error_type_of(answer):
            if response.status_code in (400, 404, 413):
                return answer
            raise refusal(response, answer)
        raise_for_status(SERVICE, response)
        if answer is None:
            raise _unusable(excerpt(response.text))
        return answer


async def _fetch(
    registry: _Registry, allele_ids: Sequence[str], batch_size: int
) -> dict[str, Answer]:
    answers: dict[str, Answer | _Moved] = {
        allele_id: LookupFailed(
            FailureCategory.VALIDATION_ERROR,
            f"{allele_id[:50]!r} is not a ClinGen allele id, which is CA or PA and a number.",
        )
        for allele_id in allele_ids
        if not is_allele_id(allele_id)
    }
    answers |= await _in_batches(registry, [i for i in allele_ids if i not in answers], batch_size)
    moved = {i: a.allele_id for i, a in answers.items() if isinstance(a, _Moved)}
    targets = await _in_batches(registry, sorted(set(moved.values())), batch_size)
    return {
        allele_id: _settled(targets[moved[allele_id]] if allele_id in moved else answer)
        for allele_id, answer in answers.items()
    }


async def _in_batches(
    registry: _Registry, allele_ids: Sequence[str], batch_size: int
) -> dict[str, Answer | _Moved]:
    batches = [allele_ids[n : n + batch_size] for n in range(0, len(allele_ids), batch_size)]

    async def outcome(batch: Sequence[str]) -> dict[str, Answer | _Moved] | ServiceError:
        try:
            return await registry.batch(batch)
        except ServiceError as error:
            return error

    outcomes = await asyncio.gather(*map(outcome, batches))
    failures = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    if failures and len(failures) == len(outcomes):
        raise failures[0]
    answers: dict[str, Answer | _Moved] = {}
    for batch, found in zip(batches, outcomes, strict=True):
        answers |= (
            dict.fromkeys(batch, LookupFailed(found.category, str(found)))
            if isinstance(found, ServiceError)
            else found
        )
    return answers


def _by_id(ids: Sequence[str], elements: Sequence[Any]) -> dict[str, Answer | _Moved]:
    """What a bulk answer certainly says of each id; the others have to be asked for alone.

    An allele is tied to its id by its own id. "Not found" is tied to it by its position alone,
    which counts only in an answer where every allele stands at its id's position.
    """
    numbers = [_number(_own_id(element)) for element in elements]
    by_number = dict(zip(numbers, elements, strict=True))
    in_order = len(elements) == len(ids) and all(
        number is None or number == _number(allele_id)
        for number, allele_id in zip(numbers, ids, strict=True)
    )
    answers: dict[str, Answer | _Moved] = {}
    for position, allele_id in enumerate(ids):
        element = by_number.get(_number(allele_id))
        if element is not None:
            answers[allele_id] = _read(element)
        elif in_order and error_type_of(elements[position]) == "NotFound":
            answers[allele_id] = None
    return answers


def _own_id(element: Any) -> str | None:
    return allele_id_of(element.get("@id")) if isinstance(element, dict) else None


def _number(allele_id: str | None) -> tuple[str, int] | None:
    """Ids are numbers to the registry: CA25094 and CA025094 are one."""
    return (allele_id[:2], int(allele_id[2:])) if allele_id else None


def _read(body: Any) -> Allele | LookupFailed | _Moved:
    answer = parse(body)
    if isinstance(answer, Allele):
        current = allele_id_of(current_uri_of(body))
        if current is not None and current != answer.allele_id:
            return _Moved(current)
    return answer


def _settled(answer: Answer | _Moved) -> Answer:
    if isinstance(answer, _Moved):
        return LookupFailed(
            FailureCategory.DATA_ERROR,
            f"{SERVICE}: this id was merged into one that was merged into {answer.allele_id}.",
        )
    return answer


def _unusable(text: str) -> ServiceError:
    return ServiceError(
        SERVICE,
        f"answered something else than JSON alleles: {text}",
        FailureCategory.SERVICE_UNAVAILABLE,
    )


def _facts(body: Document) -> Allele:
    clinvar = body.external.clinvar_alleles
    mane = [t.mane for t in body.transcripts if t.mane]
    return Allele(
        allele_id=body.id.rpartition("/")[2],
        clinvar_allele_id=clinvar[0].allele_id if clinvar else None,
        genomic_hgvs=_first(h for g in body.genomic if g.genome == "GRCh38" for h in g.hgvs),
        transcripts=tuple(
            Transcript(hgvs, _protein(t.protein_effect.hgvs))
            for t in body.transcripts
            for hgvs in t.hgvs
            if ":c." in hgvs
        ),
        mane=_first(
            Transcript(m.nucleotide.refseq.hgvs, _protein(m.protein.refseq.hgvs))
            for m in mane
            if m.nucleotide.refseq.hgvs
        ),
        protein_allele_ids=_ids(t.id for t in body.transcripts if t.mane),
        protein_hgvs=_first(h for a in body.amino_acid for h in a.hgvs),
        nucleotide_allele_ids=_ids(t.id for a in body.amino_acid for t in a.transcripts),
    )


def _first(values: Iterable[T]) -> T | None:
    return next(iter(values), None)


def _protein(hgvs: str | None) -> str | None:
    """Of a splice variant the registry writes n. instead of p.: that says nothing of a protein."""
    return hgvs if hgvs and ":p." in hgvs else None


def _ids(uris: Iterable[str | None]) -> tuple[str, ...]:
    """Distinct ids, in the registry's order."""
    ids = (allele_id_of(uri) for uri in uris if uri)
    return tuple(dict.fromkeys(allele_id for allele_id in ids if allele_id))
