"""Alleles read from the simulated registry by their ids, in good and bad times."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deployments.local.simulators.clingen import create_app
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.clingen import Account, Registered, register
from tasks.clients.clingen_alleles import Allele, Answer, LookupFailed, Transcript, fetch
from tests.support_servers import LATE, patience, served

SITE = "http://reg.genome.network/allele/"


def seed(allele_id: str, **more: Any) -> dict[str, Any]:
    """An allele in the registry's shape."""
    return {"@id": SITE + allele_id, "type": "nucleotide", "externalRecords": {}} | more


def transcript(hgvs: str, protein: str, **more: Any) -> dict[str, Any]:
    return {"hgvs": [hgvs], "proteinEffect": {"hgvs": protein}} | more


MANE = {
    "maneStatus": "MANE Select",
    "nucleotide": {"RefSeq": {"hgvs": "NM_000314.8:c.1A>G"}},
    "protein": {"RefSeq": {"hgvs": "NP_000305.3:p.Met1Val"}},
}

SEEDS = [
    seed(
        "CA503883",
        externalRecords={"ClinVarAlleles": [{"alleleId": 430421}, {"alleleId": 2}]},
        genomicAlleles=[
            {"hgvs": ["NC_000010.10:g.1A>G"], "referenceGenome": "GRCh37"},
            {"hgvs": ["NG_000001.1:g.1A>G"]},
            {"hgvs": ["NC_000010.11:g.5A>G", "CM000672.2:g.5A>G"], "referenceGenome": "GRCh38"},
        ],
        transcriptAlleles=[
            transcript("ENST00000371953.8:c.1A>G", "ENSP00000361021.3:p.Met1Val", MANE=MANE),
            transcript("NM_000314.7:c.1A>G", "NP_000305.3:p.Met1Val", **{"@id": f"{SITE}PA7"}),
            transcript(
                "NM_000314.8:c.1A>G",
                "NP_000305.3:p.Met1Val",
                MANE=MANE,
                **{"@id": f"{SITE}PA100000001"},
            ),
            {"hgvs": ["XR_000001.1:n.1A>G"]},
        ],
    ),
    seed("CA025094"),
    seed("CA000777", activeUris=[f"{SITE}CA025094"]),
    seed("CA000778", activeUris=[f"{SITE}CA025094", f"{SITE}CA503883"]),
    seed("CA000779", activeUris=[f"{SITE}CA000777"]),
    seed("CA600001", externalRecords={"ClinVarAlleles": [{"alleleId": "many"}]}),
    {
        "@id": f"{SITE}PA100000001",
        "type": "amino-acid",
        "aminoAcidAlleles": [
            {
                "hgvs": ["NP_000305.3:p.Met1Val"],
                "matchingRegisteredTranscripts": [
                    {"@id": f"{SITE}CA503883"},
                    {"@id": f"{SITE}CA600001"},
                    {"@id": f"{SITE}CA503883"},
                ],
            }
        ],
    },
]

#: In an order where an answer tied to the wrong id would show.
KNOWN: dict[str, Answer] = {
    "CA100000": None,
    "CA503883": Allele(
        "CA503883",
        clinvar_allele_id=430421,
        genomic_hgvs="NC_000010.11:g.5A>G",
        transcripts=(
            Transcript("ENST00000371953.8:c.1A>G", "ENSP00000361021.3:p.Met1Val"),
            Transcript("NM_000314.7:c.1A>G", "NP_000305.3:p.Met1Val"),
            Transcript("NM_000314.8:c.1A>G", "NP_000305.3:p.Met1Val"),
        ),
        mane=Transcript("NM_000314.8:c.1A>G", "NP_000305.3:p.Met1Val"),
        protein_allele_ids=("PA100000001",),
    ),
    "CA25094": Allele("CA025094"),
    "CA999999": None,
    "CA000777": Allele("CA025094"),
    "CA000778": Allele("CA000778"),
    "CA025094": Allele("CA025094"),
    "PA100000001": Allele(
        "PA100000001",
        protein_hgvs="NP_000305.3:p.Met1Val",
        nucleotide_allele_ids=("CA503883", "CA600001"),
    ),
    "PA999999": None,
}


@dataclass
class Registry:
    """A simulated registry, and how many requests it had at once at most."""

    url: str = ""
    at_once: int = 0
    most_at_once: int = 0

    def fail(self, kind: str, **more: Any) -> None:
        fault = {"kind": kind, **more}
        httpx.post(f"{self.url}/simulator/faults", json=fault).raise_for_status()

    def requests(self) -> list[str]:
        logged = httpx.get(f"{self.url}/simulator/requests").json()
        return [f"{request['method']} {request['path']}" for request in logged]

    def fetch(self, allele_ids: Sequence[str], **options: Any) -> dict[str, Answer]:
        usual = {
            "batch_size": 50,
            "concurrency": 5,
            "retry_delays": [],
            "connect_timeout": 5.0,
            "read_timeout": 20.0,
        }
        return fetch(self.url, allele_ids, **(usual | options))

    def refusal(self, allele_ids: Sequence[str], **options: Any) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            self.fetch(allele_ids, **options)
        return caught.value


@pytest.fixture(scope="module")
def server() -> Iterator[Registry]:
    running = Registry()
    app = create_app("curator", "secret", SEEDS, max_records=100)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        is_request = scope["type"] == "http"
        running.at_once += is_request
        running.most_at_once = max(running.most_at_once, running.at_once)
        try:
            await app(scope, receive, send)
        finally:
            running.at_once -= is_request

    with served(counting) as simulator:
        running.url = simulator.url
        yield running


@pytest.fixture
def registry(server: Registry) -> Iterator[Registry]:
    yield server
    httpx.delete(f"{server.url}/simulator/faults").raise_for_status()
    httpx.delete(f"{server.url}/simulator/requests").raise_for_status()


def failure(answer: Answer) -> LookupFailed:
    assert isinstance(answer, LookupFailed)
    return answer


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_every_id_gets_its_own_answer(registry: Registry, batch_size: int) -> None:
    assert registry.fetch(list(KNOWN), batch_size=batch_size) == KNOWN


def test_ids_are_read_in_bulk(registry: Registry) -> None:
    registry.fetch([i for i in KNOWN if i != "CA000777"], batch_size=4)

    assert registry.requests() == ["POST /alleles"] * 2


@pytest.mark.parametrize("kind", ["shuffled", "short", "terminated", "rejected"])
def test_an_answer_in_disorder_is_tied_to_no_wrong_id(registry: Registry, kind: str) -> None:
    registry.fail(kind, match="/alleles?file=id", times=1)

    assert registry.fetch(list(KNOWN)) == KNOWN
    assert len(registry.requests()) > 2, "what it does not tell is asked for one by one"


def test_a_record_that_cannot_be_read_fails_alone(registry: Registry) -> None:
    answers = registry.fetch([*KNOWN, "CA600001", "CA000779", "CA12\nCA025094", "rs1"])

    broken, twice, split, foreign = (
        failure(answers.pop(i)) for i in ("CA600001", "CA000779", "CA12\nCA025094", "rs1")
    )
    assert answers == KNOWN
    assert broken.category is FailureCategory.DATA_ERROR
    assert "externalRecords.ClinVarAlleles.0.alleleId" in broken.message
    assert "many" in broken.message
    assert "merged into CA025094" in twice.message
    for never_sent in (split, foreign):
        assert never_sent.category is FailureCategory.VALIDATION_ERROR
        assert "is not a ClinGen allele id" in never_sent.message


UNAVAILABLE = FailureCategory.SERVICE_UNAVAILABLE
PACKED = {"Content-Encoding": "gzip"}
HTML = "<html><head><title>504 Gateway Time-out</title></head><body>&nbsp;</body></html>"

FAULTS = [
    ({"kind": "status", "status": 429}, FailureCategory.API_RATE_LIMITED, "429"),
    ({"kind": "status", "status": 500}, UNAVAILABLE, "500"),
    ({"kind": "status", "status": 503}, UNAVAILABLE, "503"),
    ({"kind": "status", "status": 504, "body": HTML}, FailureCategory.TIMEOUT, "504 Gateway"),
    ({"kind": "status", "status": 403}, FailureCategory.PERMISSION_ERROR, "403"),
    ({"kind": "status", "status": 404}, FailureCategory.CONFIGURATION_ERROR, "404"),
    ({"kind": "read_only"}, UNAVAILABLE, "SystemInReadOnlyMode"),
    ({"kind": "internal_error"}, UNAVAILABLE, "InternalServerError"),
    ({"kind": "malformed"}, UNAVAILABLE, "something else than JSON"),
    ({"kind": "malformed", "body": '"CA503883"'}, UNAVAILABLE, "something else than JSON"),
    ({"kind": "truncate"}, UNAVAILABLE, "something else than JSON"),
    ({"kind": "status", "status": 200, "headers": PACKED}, UNAVAILABLE, "cannot be unpacked"),
    ({"kind": "malformed", "body": "[]"}, UNAVAILABLE, "none of 2 ids has an answer"),
    ({"kind": "reset"}, FailureCategory.NETWORK_ERROR, "broke"),
    (LATE, FailureCategory.TIMEOUT, "in time"),
]


@pytest.mark.parametrize(("fault", "category", "said"), FAULTS)
def test_a_failed_call_is_never_an_absence(
    registry: Registry, fault: dict[str, Any], category: FailureCategory, said: str
) -> None:
    registry.fail(**fault)

    error = registry.refusal(["CA503883", "CA100000"], read_timeout=patience(fault))

    assert error.category is category
    assert str(error).startswith("ClinGen Allele Registry: ")
    assert said in str(error)
    assert len(registry.requests()) == 1, "a batch that failed is not asked for one by one"


@pytest.mark.parametrize(
    ("fault", "category", "said"),
    [f for f in FAULTS if f[0]["kind"] != "truncate" and f[0].get("body") in (None, HTML)],
)
def test_a_failed_call_for_one_id_fails_that_id_alone(
    registry: Registry, fault: dict[str, Any], category: FailureCategory, said: str
) -> None:
    registry.fail("short", match="/alleles?file=id")
    registry.fail(**fault, match="/allele/CA999999")

    answers = registry.fetch(["CA100000", "CA503883", "CA999999"], read_timeout=patience(fault))

    failed = failure(answers["CA999999"])
    assert failed.category is category
    assert said in failed.message
    assert (answers["CA100000"], answers["CA503883"]) == (None, KNOWN["CA503883"])


@pytest.mark.parametrize(
    "body", ['"CA503883"', "[]", "{}", '{"@id": "_:CA"}', "null", f'{{"@id": "{SITE}CA503883"}}']
)
def test_other_json_for_one_id_is_no_absence(registry: Registry, body: str) -> None:
    registry.fail("short", match="/alleles?file=id")
    registry.fail("malformed", body=body, match="/allele/CA999999")

    failed = failure(registry.fetch(["CA999999"])["CA999999"])

    assert failed.category in (FailureCategory.DATA_ERROR, UNAVAILABLE)


def test_a_batch_that_fails_takes_no_other_with_it(registry: Registry) -> None:
    registry.fail("status", status=503, times=1)

    answers = registry.fetch(sorted(KNOWN), batch_size=3, concurrency=1)

    failed = [i for i, answer in answers.items() if isinstance(answer, LookupFailed)]
    assert failed == sorted(KNOWN)[:3]
    assert {i: answers[i] for i in KNOWN if i not in failed} == {
        i: KNOWN[i] for i in KNOWN if i not in failed
    }


def test_what_fails_for_the_moment_is_asked_again_but_not_for_ever(registry: Registry) -> None:
    registry.fail("status", status=503, times=2)
    assert registry.fetch(["CA503883"], retry_delays=[0, 0]) == {"CA503883": KNOWN["CA503883"]}

    registry.fail("status", status=502)
    assert registry.refusal(["CA503883"], retry_delays=[0, 0]).category in RETRYABLE
    assert len(registry.requests()) == 3 + 3


def test_a_refusal_for_good_is_not_asked_again(registry: Registry) -> None:
    registry.fail("status", status=403)

    assert registry.refusal(["CA503883"], retry_delays=[0, 0]).category not in RETRYABLE
    assert len(registry.requests()) == 1


def test_a_wait_that_the_registry_asks_for_is_kept(registry: Registry) -> None:
    registry.fail("status", status=429, headers={"Retry-After": "1"}, times=1)
    began = time.monotonic()
    registry.fetch(["CA503883"], retry_delays=[0])
    assert time.monotonic() - began >= 1

    registry.fail("status", status=429, headers={"Retry-After": "61"})
    assert registry.refusal(["CA503883"], retry_delays=[0]).retry_after_seconds == 61
    assert len(registry.requests()) == 2 + 1


def test_no_more_requests_at_once_than_the_registry_bears(registry: Registry) -> None:
    registry.fail("slow", seconds=0.05)
    registry.most_at_once = 0

    registry.fetch([f"CA{n}" for n in range(700_000, 700_012)], batch_size=1, concurrency=3)

    assert registry.most_at_once == 3


def test_a_batch_that_is_too_large_is_halved(registry: Registry) -> None:
    ids = [f"CA{n}" for n in range(700_000, 700_250)]

    assert registry.fetch(ids, batch_size=250) == dict.fromkeys(ids)
    # 250 and twice 125 are refused.
    assert registry.requests() == ["POST /alleles"] * (1 + 2 + 4)


def test_no_server_and_no_url_are_told_apart() -> None:
    usual: dict[str, Any] = {
        "batch_size": 9,
        "concurrency": 1,
        "retry_delays": [],
        "connect_timeout": 2.0,
        "read_timeout": 2.0,
    }
    with pytest.raises(ServiceError) as caught:
        fetch("http://127.0.0.1:9", ["CA1"], **usual)
    assert caught.value.category is FailureCategory.NETWORK_ERROR
    with pytest.raises(ConfigurationError, match="CLINGEN_ALLELE_REGISTRY_URL"):
        fetch("http://host:port", ["CA1"], **usual)


def test_the_simulator_describes_what_was_registered() -> None:
    hgvs = [f"NM_000314.8:c.{n}A>G" for n in range(1, 101)]
    with served(create_app("curator", "secret")) as simulator:
        registry, hgvs_by_id = Registry(simulator.url), _register(simulator.url, hgvs)
        answers = registry.fetch([*hgvs_by_id, "CA1"])
        assert answers.pop("CA1") is None
        alleles = {i: a for i, a in answers.items() if isinstance(a, Allele)}
        assert alleles.keys() == hgvs_by_id.keys()
        assert 10 < sum(a.clinvar_allele_id is not None for a in alleles.values()) < 60
        assert 0 < sum(a.mane is None for a in alleles.values()) < 20
        encoded = {p for a in alleles.values() for p in a.protein_allele_ids}
        proteins = registry.fetch(sorted(encoded))
        for allele_id, allele in alleles.items():
            assert allele.transcripts[-1].hgvs == hgvs_by_id[allele_id]
            for protein_id in allele.protein_allele_ids:
                protein = proteins[protein_id]
                assert isinstance(protein, Allele)
                assert allele_id in protein.nucleotide_allele_ids
        some_id = next(iter(hgvs_by_id))
        old_id = f"CA{90_000_000_000 + int(some_id[2:])}"
        assert registry.fetch([old_id]) == {old_id: alleles[some_id]}


def _register(url: str, hgvs: Sequence[str]) -> dict[str, str]:
    """HGVS by the ids that they have now."""
    outcomes = register(
        url,
        Account("curator", "secret"),
        hgvs,
        batch_size=100,
        connect_timeout=5,
        read_timeout=20,
    )
    return {o.allele_id: h for h, o in outcomes.items() if isinstance(o, Registered)}
