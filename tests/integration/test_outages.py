"""A service that stays down is asked a few times, however many variants there are to ask about."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest

from deployments.local.simulators import clingen, clinvar, ensembl, genboree, mapper, uniprot
from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from tasks.clients import gnomad, ldh, vep
from tasks.clients import uniprot as uniprot_client
from tasks.clients.clingen import Account, register
from tasks.clients.clingen_alleles import LookupFailed
from tasks.clients.clinvar_archive import Archive, Release
from tasks.clients.ensembl import FAILURES_IN_A_ROW, Manners
from tasks.clients.vrs_mapper import map_score_set
from tasks.clingen_lookup import look_up
from tests.support_servers import Simulator, served

ACCOUNT = Account("curator", "secret")
VARIANTS = 4_000
HGVS = [f"NM_000314.8:c.{n}A>G" for n in range(1, VARIANTS + 1)]
CAIDS = [f"CA{n}" for n in range(810_000, 810_000 + VARIANTS)]
#: Each service's time-out for an answer, in seconds.
PATIENCE = 0.1
#: A request is sent once, and twice again.
TRIES = 3
MANNERS = Manners(
    requests_per_second=1_000, vep_timeout=PATIENCE, retry_delays=(0.0,) * (TRIES - 1)
)


class Alone(Step):
    """A step that shares the service with no other."""

    def __init__(self) -> None:
        pass

    def progress(self, current: int, total: int, message: str) -> None:
        pass

    def asking(self, service: Service) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


def map_all(url: str) -> None:
    times = {"connect_timeout": 5.0, "base_timeout": PATIENCE, "timeout_per_variant": 0.0}
    with map_score_set(url, "tmp:1", VARIANTS, **times):
        pass


def register_all(url: str) -> None:
    register(url, ACCOUNT, HGVS, batch_size=200, connect_timeout=5, read_timeout=PATIENCE)


def look_up_all(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLINGEN_ALLELE_REGISTRY_URL", url)
        patch.setenv("CLINGEN_CACHE_BACKEND", "memory")
        patch.setenv("CLINGEN_RETRY_DELAYS_SECONDS", json.dumps([0] * (TRIES - 1)))
        patch.setenv("CLINGEN_LOOKUP_TIMEOUT_SECONDS", str(PATIENCE))
        settings.cache_clear()
        try:
            answers = look_up(Alone(), CAIDS)
        finally:
            settings.cache_clear()
    failed = [answer for answer in answers.values() if isinstance(answer, LookupFailed)]
    if len(failed) > VARIANTS / 2:
        raise ServiceError("Registry", failed[0].message, failed[0].category)


def download(url: str) -> None:
    release = Release(2019, 6)
    Archive(f"{url}/archive", 5, PATIENCE).download(release, BytesIO(), lambda _done, _total: None)


def predict_all(url: str) -> None:
    vep.consequences(url, HGVS, MANNERS)


def map_target(url: str) -> None:
    query = uniprot_client.query("NP_009225.1")
    assert query is not None
    with uniprot_client.connection(url, connect_timeout=5, read_timeout=PATIENCE) as client:
        uniprot_client.collect(client, {query: None}, patience_seconds=60)


def submit_batch(url: str) -> None:
    variant = ldh.MappedVariant("urn#1", "https://x", HGVS[0], 0.5, "", None, {}, "2025.2.0")
    with ldh.connection(url, "test", ACCOUNT, connect_timeout=5, read_timeout=PATIENCE) as hub:
        outcome = hub.submit([variant])
        if isinstance(outcome, ldh.BatchFailed):
            raise outcome.error


def ask_gnomad(url: str) -> None:
    database = url.replace("http://", "postgresql://nobody@") + "/gnomad?connect_timeout=1"
    gnomad.fetch(database, "v4.1", CAIDS, timeout=PATIENCE, chunk=100)


@dataclass(frozen=True)
class Asked:
    """How a service is asked about all variants, and how many requests it gets at most."""

    ask: Callable[[str], None]
    app: Callable[[], Any]
    most: int
    #: The requests that are made to fail, of those that hold this text.
    match: str = ""


#: Of five look-ups at once each is tried again. VEP is asked for its release first, and gives up
#: after so many failures in a row; a batch that takes too long is divided.
SERVICES = {
    "mapper": Asked(map_all, lambda: mapper.create_app("postgresql://x@127.0.0.1:9/x", None), 1),
    "registering": Asked(register_all, lambda: clingen.create_app("curator", "secret"), 1),
    "look-ups": Asked(look_up_all, lambda: clingen.create_app("curator", "secret"), 5 * TRIES),
    "ClinVar": Asked(download, clinvar.create_app, 1),
    "Ensembl": Asked(predict_all, ensembl.create_app, TRIES),
    "VEP": Asked(
        predict_all,
        lambda: ensembl.create_app(requests_a_second=1_000),
        1 + FAILURES_IN_A_ROW + MANNERS.concurrent_requests,
        "/vep/",
    ),
    "UniProt": Asked(map_target, uniprot.create_app, 1),
    "LDH": Asked(submit_batch, lambda: genboree.create_app("curator", "secret"), 1),
}


@pytest.fixture(scope="module", params=SERVICES.values(), ids=SERVICES.keys())
def down(request: pytest.FixtureRequest) -> Iterator[tuple[Asked, Simulator]]:
    asked: Asked = request.param
    with served(asked.app()) as simulator:
        yield asked, simulator


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "3600"}},
        {"kind": "status", "status": 403},
        {"kind": "malformed"},
        {"kind": "slow", "seconds": 3 * PATIENCE},
    ],
    ids=["500", "429", "429 for an hour", "403", "a page", "hangs"],
)
def test_what_fails_every_request_gets_few(
    down: tuple[Asked, Simulator], fault: dict[str, Any]
) -> None:
    asked, simulator = down
    simulator.reset()
    simulator.fail(**fault, match=asked.match)

    with pytest.raises(ServiceError):
        asked.ask(simulator.url)

    # A token that is refused is replaced once.
    renewed = 1 if asked.ask is submit_batch and fault.get("status") == 403 else 0
    assert 1 <= simulator.requests() <= asked.most + renewed


def test_a_registry_that_refuses_every_batch_for_its_content_gets_few(
    registry: Simulator,
) -> None:
    refusal = json.dumps({"errorType": "IncorrectRequest", "message": "not this way"})
    registry.fail("status", status=400, body=refusal)

    with pytest.raises(ServiceError, match="not this way") as caught:
        look_up_all(registry.url)

    assert caught.value.category is FailureCategory.DATA_ERROR
    assert registry.requests() < 50


def test_a_registry_whose_look_ups_of_one_fail_gets_few(registry: Simulator) -> None:
    """Its bulk answers leave out what it does not know, which is then asked for alone."""
    registry.fail("status", status=503, match="/allele/")
    known = json.dumps([{"@id": f"http://reg.genome.network/allele/{i}"} for i in CAIDS[::200]])
    registry.fail("malformed", body=known, match="/alleles?")

    with pytest.raises(ServiceError, match="503"):
        look_up_all(registry.url)

    # Bulk look-ups go on, since they are answered; of a thousand ids few are asked for alone.
    assert registry.requests("POST") == VARIANTS / 200
    assert registry.requests("GET") <= VARIANTS / 1_000 * 10 * TRIES


@pytest.fixture
def registry() -> Iterator[Simulator]:
    with served(clingen.create_app("curator", "secret")) as simulator:
        yield simulator


@contextmanager
def slamming_the_door() -> Iterator[tuple[str, list[int]]]:
    """A server that ends each connection at once: its URL, and the connections so far."""
    connections: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def slam() -> None:
            while True:
                try:
                    caller, address = door.accept()
                except OSError:
                    return
                connections.append(address[1])
                caller.close()

        thread = threading.Thread(target=slam)
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}", connections
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=20)


@pytest.mark.parametrize(
    ("ask", "most"),
    [(ask_gnomad, 1), *((s.ask, s.most) for s in SERVICES.values() if not s.match)],
    ids=["gnomAD", *(name for name, service in SERVICES.items() if not service.match)],
)
def test_what_ends_every_connection_gets_few(ask: Callable[[str], None], most: int) -> None:
    with slamming_the_door() as (url, connections):
        with pytest.raises(ServiceError) as caught:
            ask(url)
        assert caught.value.category is FailureCategory.NETWORK_ERROR
        assert 1 <= len(connections) <= most
