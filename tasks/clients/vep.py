"""Ensembl's Variant Effect Predictor: HGVS in, a consequence of each out.

What VEP cannot read the Variant Recoder may put as changes of a chromosome, which VEP is then
asked about instead.
"""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ijson

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.ensembl import BadRequestError, Endpoint, Manners, Server, connected
from tasks.clients.vep_answers import (
    LEFT_OUT,
    LEFT_OUT_RECODED,
    Consequence,
    Malformed,
    NotAnswered,
    Outcome,
    Query,
    Refused,
    Source,
    combine,
    query_of,
    read_consequences,
    read_recoded,
    refusal,
)

#: The most that the public server takes in one request.
VEP_BATCH = 200
RECODER_BATCH = 50
#: So many refused requests are divided until each notation has its own reason. A score set on a
#: transcript that Ensembl does not know would take a request for each variant.
REFUSALS_LOOKED_INTO = 100
_INFO_TIMEOUT_SECONDS = 20.0

_NO_CHANGE = Consequence("no_change", Source.REFERENCE_IDENTICAL)

T = TypeVar("T")
#: Takes how many are done, how many there are, and what is being done.
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Answers:
    """What Ensembl said: one outcome for each notation that it was asked about.

    `release` is Ensembl's, None where nothing was asked. `gave_up` is why some were not asked (the
    server refused, or failed too often): their outcome is NotAnswered.
    """

    release: str | None
    outcomes: Mapping[str, Outcome]
    gave_up: ServiceError | None = None


def consequences(
    base_url: str,
    notations: Collection[str],
    manners: Manners,
    *,
    on_progress: OnProgress = lambda _done, _total, _message: None,
) -> Answers:
    """The consequence of each notation, on the transcript that it is written on if it is on one.

    A request that fails in the end is the failure of its own notations only. Raises ServiceError
    when Ensembl answered about none of them.
    """
    return asyncio.run(_consequences(base_url.rstrip("/"), notations, manners, on_progress))


async def _consequences(
    base_url: str, notations: Collection[str], manners: Manners, on_progress: OnProgress
) -> Answers:
    cleaned = {notation: "".join(notation.split()) for notation in notations}
    changing = sorted({clean for clean in cleaned.values() if not clean.endswith("=")})
    async with connected(base_url, manners) as server:
        patience = min(_INFO_TIMEOUT_SECONDS, manners.vep_timeout)
        release = Endpoint(server, "GET", "/info/software", patience)
        before = await release.ask(_read_release)
        vep = _Vep(server, on_progress)
        found = await vep.ask([query_of(notation) for notation in changing])
        failed = [outcome for outcome in found.values() if isinstance(outcome, NotAnswered)]
        gave_up = server.left_alone or vep.direct.left_alone
        if failed and len(failed) == len(found):
            raise gave_up or failed[0].error
        after = await _release_now(release, before) if changing else before
    outcomes = {
        notation: _NO_CHANGE if clean.endswith("=") else found[clean]
        for notation, clean in cleaned.items()
    }
    # On a release's day some answers may be the new one's: the next run asks them all again.
    return Answers(str(min(before, after)), outcomes, gave_up)


class _Vep:
    """VEP and, behind it, the Variant Recoder."""

    def __init__(self, server: Server, on_progress: OnProgress) -> None:
        manners = server.manners
        at_a_time = asyncio.Semaphore(manners.concurrent_requests)
        self.direct = Endpoint(server, "POST", "/vep/human/hgvs", manners.vep_timeout, at_a_time)
        self.recoder = Endpoint(server, "POST", "/variant_recoder/human", manners.recoder_timeout)
        self.on_progress = on_progress
        self.done = self.total = 0

    async def ask(self, queries: Sequence[Query]) -> dict[str, Outcome]:
        """One outcome for each notation; no two queries have the same one."""
        direct = await self._look_up(queries)
        unread = [query for query in queries if _is_unread(direct.get(query))]
        recoded = await self._recode([query.notation for query in unread])
        places = {
            query: [Query(place, query.transcript) for place in answer]
            for query in unread
            if isinstance(answer := recoded.get(query.notation), tuple)
        }
        indirect = await self._look_up({place for found in places.values() for place in found})
        outcomes: dict[str, Outcome] = {}
        for query in queries:
            answer = recoded.get(query.notation)
            if isinstance(answer, tuple):
                parts = [indirect.get(place, LEFT_OUT_RECODED) for place in places[query]]
                outcomes[query.notation] = combine(parts, answer)
            elif query in direct:
                outcomes[query.notation] = direct[query]
            else:
                outcomes[query.notation] = answer or LEFT_OUT
        return outcomes

    async def _look_up(self, queries: Iterable[Query]) -> dict[Query, Outcome]:
        """What VEP says of each query; those that it cannot read are left out."""
        wanted: dict[bool, dict[str, list[str | None]]] = {True: {}, False: {}}
        for query in sorted(queries, key=str):
            wanted[query.on_refseq].setdefault(query.notation, []).append(query.transcript)
        self.total += sum(map(len, wanted.values()))
        batches = [
            self._look_up_batch(on_refseq, {notation: by_notation[notation] for notation in batch})
            for on_refseq, by_notation in wanted.items()
            for batch in _batches(list(by_notation), VEP_BATCH)
        ]
        found: dict[Query, Outcome] = {}
        for answers in await asyncio.gather(*batches):
            found |= answers
        return found

    async def _look_up_batch(
        self, on_refseq: bool, wanted: Mapping[str, list[str | None]]
    ) -> dict[Query, Outcome]:
        async def ask(part: Sequence[str]) -> dict[str, dict[str | None, Outcome]]:
            asked = {notation: wanted[notation] for notation in part}
            return await self.direct.ask(
                lambda content: read_consequences(_elements(content), asked),
                {"hgvs_notations": part} | ({"refseq": 1} if on_refseq else {}),
                is_divisible=len(part) > 1,
            )

        answers = await _in_parts(list(wanted), ask, self.direct)
        self._report(len(wanted))
        return {
            Query(notation, transcript): answer[transcript] if isinstance(answer, dict) else answer
            for notation, answer in answers.items()
            for transcript in wanted[notation]
        }

    async def _recode(
        self, notations: Sequence[str]
    ) -> dict[str, tuple[str, ...] | Malformed | Refused | NotAnswered]:
        """The places on chromosomes of each notation that the Variant Recoder can read."""

        async def ask(part: Sequence[str]) -> dict[str, tuple[str, ...] | Malformed]:
            self._report(
                0, f"Asking the Variant Recoder about {len(notations):,} that VEP left out"
            )
            return await self.recoder.ask(
                lambda content: read_recoded(_elements(content), part),
                {"ids": part},
                is_divisible=len(part) > 1,
            )

        recoded: dict[str, tuple[str, ...] | Malformed | Refused | NotAnswered] = {}
        for batch in _batches(notations, RECODER_BATCH):
            answers = await _in_parts(batch, ask, self.recoder)
            recoded.update(answers)
        return recoded

    def _report(self, answered: int, message: str = "Asking VEP for consequences") -> None:
        self.done += answered
        self.on_progress(self.done, self.total, message)


def _is_unread(outcome: Outcome | None) -> bool:
    """Whether VEP left the notation out or said that it cannot read it."""
    if isinstance(outcome, Refused):
        return not outcome.was_read and outcome.category is FailureCategory.INVALID_HGVS
    return outcome is None


async def _in_parts(
    notations: Sequence[str],
    ask: Callable[[Sequence[str]], Awaitable[dict[str, T]]],
    endpoint: Endpoint,
) -> dict[str, T | Refused | NotAnswered]:
    """What `ask` finds, of the whole or, where that fails, of ever smaller parts."""
    found: dict[str, T | Refused | NotAnswered] = {}
    try:
        return found | await ask(notations)
    except BadRequestError as error:
        # It says that it cannot read one of them, and nothing of the others.
        offender = notations[0] if len(notations) == 1 else _named(error.said, notations)
        if offender is not None:
            found[offender] = refusal(error.said)
        rest = [notation for notation in notations if notation != offender]
        if endpoint.refusals > REFUSALS_LOOKED_INTO:
            unread = f"Ensembl could read none of {len(notations)} sent together: {error.said}"
            return found | dict.fromkeys(rest, Refused(FailureCategory.INVALID_HGVS, unread))
    except ServiceError as error:
        took_too_long = error.category is FailureCategory.TIMEOUT
        if not took_too_long or len(notations) == 1 or endpoint.stopped is not None:
            # Without its traceback, which would keep the answer's body in memory.
            return dict.fromkeys(notations, NotAnswered(error.with_traceback(None)))
        rest = list(notations)
    half = (len(rest) + 1) // 2
    parts = [part for part in (rest[:half], rest[half:]) if part]
    for part in parts:
        answers = await _in_parts(part, ask, endpoint)
        found.update(answers)
    return found


def _named(said: str, notations: Iterable[str]) -> str | None:
    """The notation that a warning is about: it is quoted there."""
    return next((notation for notation in notations if f"'{notation}'" in said), None)


def _batches(notations: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (notations[start : start + size] for start in range(0, len(notations), size))


def _elements(content: bytes) -> Iterator[Any]:
    """Those of a JSON array, one at a time: a gene with many transcripts has entries of 300 kB."""
    if content.lstrip()[:1] != b"[":
        raise ValueError("not a JSON array")
    try:
        yield from ijson.items(io.BytesIO(content), "item", use_float=True)
    except ijson.JSONError as error:
        raise ValueError(str(error)) from None


def _read_release(content: bytes) -> int:
    answer = json.loads(content)
    if not isinstance(answer, dict) or not isinstance(answer.get("release"), int):
        raise ValueError("no release number")
    return int(answer["release"])


async def _release_now(endpoint: Endpoint, before: int) -> int:
    try:
        return await endpoint.ask(_read_release)
    except ServiceError:
        return before
