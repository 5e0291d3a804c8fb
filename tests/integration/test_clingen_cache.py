"""Look-ups at ClinGen through the cache: what is kept, for whom, and what happens without it."""

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from deployments.local import processes, valkey
from deployments.local.ports import LOOPBACK, choose
from deployments.local.simulators.clingen import create_app
from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from tasks.clients.allele_cache import PREFIX, AlleleCache, Server
from tasks.clients.clingen_alleles import Allele, Answer, LookupFailed, Transcript
from tasks.clingen_lookup import look_up
from tests.support_servers import served

SITE = "http://reg.genome.network/allele/"
IDS = [f"CA{n}" for n in range(100_000, 100_010)]
SEEDS = [
    {
        "@id": SITE + allele_id,
        "type": "nucleotide",
        "transcriptAlleles": [{"hgvs": [f"NM_00000{n}.1:c.1A>G"]} for n in range(1, 4)],
    }
    for allele_id in IDS
]
FULL = Allele(
    "CA025094",
    clinvar_allele_id=430421,
    genomic_hgvs="NC_000010.11:g.5A>G",
    transcripts=(Transcript("NM_000314.8:c.1A>G", "NP_000305.3:p.Met1Val"),),
    mane=Transcript("NM_000314.8:c.1A>G"),
    protein_allele_ids=("PA100000001",),
    protein_hgvs="NP_000305.3:p.Met1Val",
    nucleotide_allele_ids=("CA1", "CA2"),
)
KEPT = {"CA025094": FULL, "CA25094": Allele("CA025094"), "CA1": None}


class Shown(Step):
    """A step whose progress is only kept here, and who has the registry for itself."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def progress(self, current: int, total: int, message: str) -> None:  # noqa: ARG002
        self.shown.append((current, total))

    def asking(self, service: Service) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


class GoesDown(Shown):
    """A step on whose way the registry starts to refuse everything."""

    def __init__(self, registry: "Registry", after: int) -> None:
        super().__init__()
        self.registry, self.after = registry, after

    def progress(self, current: int, total: int, message: str) -> None:
        super().progress(current, total, message)
        if current == self.after:
            self.registry.fail("status", status=429)


@dataclass
class Registry:
    url: str

    def fail(self, kind: str, **more: Any) -> None:
        fault = {"kind": kind, **more}
        httpx.post(f"{self.url}/simulator/faults", json=fault).raise_for_status()

    def mend(self) -> None:
        httpx.delete(f"{self.url}/simulator/faults").raise_for_status()

    def requests(self) -> int:
        logged = httpx.get(f"{self.url}/simulator/requests").json()
        httpx.delete(f"{self.url}/simulator/requests").raise_for_status()
        return len(logged)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey."""
    state: Path = tmp_path_factory.mktemp("valkey")
    processes.prepare_folder(state)
    processes.claim(state)
    try:
        port = choose(state, ["valkey"])["valkey"]
        valkey.wait(valkey.start(state, port), port)
        yield Server(LOOPBACK, port)
    finally:
        processes.stop(state)


@pytest.fixture
def in_valkey(server: Server) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis(host=server.host, port=server.port) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with served(create_app("curator", "secret", SEEDS)) as simulator:
        yield simulator.url


@pytest.fixture
def registry(
    simulator: str, server: Server, in_valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    """The registry and the cache that this process's settings name; two ids a request."""
    del in_valkey
    for name, value in {
        "CLINGEN_ALLELE_REGISTRY_URL": simulator,
        "CLINGEN_LOOKUP_BATCH_SIZE": "2",
        "CLINGEN_CACHE_WARMING_CONCURRENCY": "2",
        "CLINGEN_RETRY_DELAYS_SECONDS": "[]",
        "CLINGEN_REDIS_HOST": server.host,
        "CLINGEN_REDIS_PORT": str(server.port),
        # Nobody answers there: the names of this cache alone count.
        "REDIS_IP": LOOPBACK,
        "REDIS_PORT": "9",
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    registry = Registry(simulator)
    registry.requests()
    yield registry
    registry.mend()
    monkeypatch.undo()
    settings.cache_clear()


def known(allele_ids: Collection[str]) -> dict[str, Answer]:
    return {allele_id: Allele(allele_id) for allele_id in allele_ids}


@pytest.mark.parametrize("kind", ["valkey", "memory"])
def test_facts_and_absences_are_kept_as_they_are(server: Server, in_valkey: Any, kind: str) -> None:
    del in_valkey
    where = server if kind == "valkey" else None

    AlleleCache(where).write(KEPT)

    assert AlleleCache(where).read([*KEPT, "CA2"]) == KEPT


def test_what_is_kept_lasts_a_day_under_a_versioned_name(server: Server, in_valkey: Any) -> None:
    AlleleCache(server).write(KEPT)

    keys = {key.decode() for key in in_valkey.scan_iter()}
    assert keys == {PREFIX + allele_id for allele_id in KEPT}
    assert not any(key.startswith("mavedb:clingen:v1:") for key in keys), "those are MaveDB's"
    assert all(86_000 < in_valkey.ttl(key) <= 86_400 for key in keys)


def test_many_are_moved_in_few_commands(server: Server, in_valkey: Any) -> None:
    many = {f"CA{n}": Allele(f"CA{n}") for n in range(1, 1_202)}
    before = in_valkey.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]

    AlleleCache(server).write(many)
    assert AlleleCache(server).read(many) == many

    assert in_valkey.info("commandstats")["cmdstat_mget"]["calls"] - before == 3


def test_each_id_is_asked_for_once_and_then_known(registry: Registry) -> None:
    asked = [*IDS, "CA999999", *IDS]
    first = look_up(Shown(), asked)
    assert first == known(IDS) | {"CA999999": None}
    assert registry.requests() == 6

    assert look_up(Shown(), asked) == first
    assert registry.requests() == 0, "an absence is kept, too"


def test_only_wanted_transcripts_are_given_but_all_are_kept(registry: Registry) -> None:
    look_up(Shown(), IDS[:1])
    registry.requests()

    allele = look_up(Shown(), IDS[:1], ["NM_000002.1", "NM_000009.1"])[IDS[0]]

    assert isinstance(allele, Allele)
    assert allele.transcripts == (Transcript("NM_000002.1:c.1A>G"),)
    assert registry.requests() == 0


def test_a_failed_look_up_is_not_kept(registry: Registry) -> None:
    registry.fail("short", match="/alleles?file=id", times=1)
    registry.fail("status", status=503, match=f"/allele/{IDS[1]}")
    answers = look_up(Shown(), IDS[:2])
    assert answers[IDS[0]] == Allele(IDS[0])
    assert isinstance(answers[IDS[1]], LookupFailed)

    registry.mend()
    assert look_up(Shown(), IDS[:2]) == known(IDS[:2])


def test_a_registry_that_is_down_fails_the_step_after_few_requests(registry: Registry) -> None:
    registry.fail("status", status=503)

    with pytest.raises(ServiceError) as caught:
        look_up(Shown(), IDS)

    assert caught.value.category is FailureCategory.SERVICE_UNAVAILABLE
    assert registry.requests() == 2, "one for each that may be under way at once"


def test_a_registry_that_goes_down_leaves_what_it_said_and_what_is_kept(
    registry: Registry,
) -> None:
    kept, asked, lost = [IDS[4], IDS[9]], IDS[:4], IDS[5:9]
    look_up(Shown(), kept)
    registry.requests()

    answers = look_up(GoesDown(registry, after=len(asked)), IDS)

    assert {i: answers[i] for i in [*asked, *kept]} == known([*asked, *kept])
    for allele_id in lost:
        answer = answers[allele_id]
        assert isinstance(answer, LookupFailed)
        assert answer.category is FailureCategory.API_RATE_LIMITED
    assert registry.requests() == 2 + 2, "what refuses everything is left alone"


def test_steps_side_by_side_ask_once(registry: Registry) -> None:
    registry.fail("slow", seconds=0.05)
    answers: list[dict[str, Answer]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(look_up(Shown(), IDS))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert answers == [known(IDS)] * 4
    assert registry.requests() == 5


def test_a_cache_that_is_down_is_told_once_and_done_without(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLINGEN_REDIS_PORT", "9")
    settings.cache_clear()

    assert look_up(Shown(), IDS) == known(IDS)

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "CLINGEN_REDIS_HOST" in warnings[0].message
    assert registry.requests() == 5


@pytest.mark.usefixtures("registry")
def test_a_full_cache_is_done_without(in_valkey: Any, caplog: pytest.LogCaptureFixture) -> None:
    in_valkey.config_set("maxmemory-policy", "noeviction")
    in_valkey.config_set("maxmemory", "1mb")
    try:
        assert look_up(Shown(), IDS) == known(IDS)
    finally:
        in_valkey.config_set("maxmemory", "256mb")
        in_valkey.config_set("maxmemory-policy", "allkeys-lru")
    assert "maxmemory" in caplog.text


@pytest.mark.usefixtures("registry")
def test_progress_counts_alleles() -> None:
    step = Shown()
    look_up(step, IDS)
    assert step.shown == [(0, 10), (4, 10), (8, 10)]
