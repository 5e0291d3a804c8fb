"""Look alleles up at ClinGen's Allele Registry, through the cache that all steps share."""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import RETRYABLE
from mavedb_audit.metrics import count_cached
from mavedb_audit.services import Service
from mavedb_audit.settings import Settings, settings
from mavedb_audit.steps import Step
from tasks.clients.allele_cache import AlleleCache, Server
from tasks.clients.clingen_alleles import Allele, Answer, LookupFailed, fetch

#: Steps that run side by side ask one after another: each finds what the others have asked, and
#: the registry gets no more requests at once than one step makes.
_one_at_a_time = threading.Lock()


def look_up(
    step: Step, allele_ids: Collection[str], transcripts: Collection[str] = ()
) -> dict[str, Answer]:
    """What the registry, or the cache of its answers, says of each id.

    An allele may lie on forty transcripts: only those whose accession is among `transcripts` are
    kept. When the registry stops answering, the ids that are left have a LookupFailed; when it
    answers nothing from the start, that raises ServiceError.
    """
    config = settings()
    cache = AlleleCache(_server(config))
    ids = sorted(set(allele_ids))
    wanted = frozenset(transcripts)
    answers: dict[str, Answer] = {}
    has_answered = False
    gave_up: LookupFailed | None = None
    at_once = config.clingen_lookup_batch_size * config.clingen_cache_warming_concurrency
    with ExitStack() as held:
        for part in _parts(ids, at_once):
            said = f"Asked ClinGen about {len(answers):,} of {len(ids):,} alleles"
            step.progress(len(answers), len(ids), said)
            found: dict[str, Answer] = {**cache.read(part)}
            missing = [allele_id for allele_id in part if allele_id not in found]
            count_cached(hits=len(found), misses=0)
            if missing and gave_up is None:
                if not has_answered:
                    held.enter_context(step.asking(Service.CLINGEN_ALLELE_REGISTRY))
                try:
                    found |= _ask(config, cache, missing)
                    has_answered = True
                except ServiceError as error:
                    if not has_answered or error.category not in RETRYABLE:
                        raise
                    gave_up = LookupFailed(error.category, str(error))
            if gave_up is not None:
                found = {**dict.fromkeys(part, gave_up), **found}
            answers |= {allele_id: _slim(answer, wanted) for allele_id, answer in found.items()}
    return answers


def _ask(config: Settings, cache: AlleleCache, allele_ids: Sequence[str]) -> dict[str, Answer]:
    """What the registry says, or has just said to another step of this process."""
    with _one_at_a_time:
        just_said = cache.read(allele_ids)
        unsaid = [allele_id for allele_id in allele_ids if allele_id not in just_said]
        count_cached(hits=len(just_said), misses=len(unsaid))
        said = fetch(
            config.clingen_allele_registry_url,
            unsaid,
            batch_size=config.clingen_lookup_batch_size,
            concurrency=config.clingen_cache_warming_concurrency,
            retry_delays=config.clingen_retry_delays_seconds,
            connect_timeout=config.clingen_connect_timeout_seconds,
            read_timeout=config.clingen_lookup_timeout_seconds,
        )
        cache.write({i: a for i, a in said.items() if not isinstance(a, LookupFailed)})
    return just_said | said


def _server(config: Settings) -> Server | None:
    if config.clingen_cache_backend == "memory":
        return None
    return Server(
        host=config.clingen_redis_host or config.redis_ip,
        port=config.clingen_redis_port or config.redis_port,
        ssl=config.redis_ssl if config.clingen_redis_ssl is None else config.clingen_redis_ssl,
    )


def _slim(answer: Answer, wanted: frozenset[str]) -> Answer:
    if not isinstance(answer, Allele):
        return answer
    return replace(
        answer, transcripts=tuple(t for t in answer.transcripts if t.accession in wanted)
    )


def _parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
