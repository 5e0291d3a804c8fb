"""UniProt's id mapping: the client against the simulated service, over HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest

from deployments.local.simulators.mapper_variants import GENES
from deployments.local.simulators.uniprot import ENTRIES, Entry, create_app
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients import uniprot
from tasks.clients.uniprot import Ambiguous, Failed, Mapped, NotFound, Outcome, Query, Unfinished
from tests.support_servers import LATE, Simulator, patience, served

RELEASE = "2026_03"
UNAVAILABLE = FailureCategory.SERVICE_UNAVAILABLE
#: Of one id more entries than fit on a page, the reviewed one last.
CROWD = [
    *(
        Entry(f"A0A{n:07d}", f"A0A{n:07d}_HUMAN", ("NP_500501.1",), reviewed=False)
        for n in range(501)
    ),
    Entry("P99999", "LAST_HUMAN", ("NP_500501.1",)),
]
PAIR = [
    Entry("P0C001", "ONE_HUMAN", ("NP_200200.1",)),
    Entry("P0C002", "TWO_HUMAN", ("NP_200200.1",)),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    with served(create_app([*ENTRIES, *CROWD, *PAIR], new_seconds=0, running_seconds=0)) as server:
        yield server


@pytest.fixture
def service(server: Simulator) -> Iterator[Simulator]:
    yield server
    server.reset()


def collect(
    service: Simulator,
    *accessions: str,
    jobs: dict[str, str] | None = None,
    read_timeout: float = 60,
    **options: Any,
) -> dict[str, Outcome]:
    queries = {accession: uniprot.query(accession) for accession in accessions}
    with uniprot.connection(service.url, connect_timeout=5, read_timeout=read_timeout) as client:
        outcomes = uniprot.collect(
            client,
            {q: (jobs or {}).get(a) for a, q in queries.items() if q is not None},
            **({"patience_seconds": 0} | options),
        )
    return {query.accession: outcome for query, outcome in outcomes.items()}


@pytest.mark.parametrize(
    ("accession", "outcome"),
    [
        ("NP_009225.1", Mapped("P38398", RELEASE)),
        # UniProt has NM_007294.3.
        ("NM_007294.4", Mapped("P38398", RELEASE)),
        # UniProt has no versions of Ensembl's ids.
        ("ENSP00000251849.4", Mapped("P04049", RELEASE)),
        ("NP_001009784", Mapped("P60713", RELEASE)),
        ("NP_500501.1", Mapped("P99999", RELEASE)),
        ("NP_200200.1", Ambiguous(("P0C001", "P0C002"))),
        ("NP_999999999.1", NotFound()),
        ("ENST00000999999.1", NotFound()),
    ],
)
def test_an_accession_maps_to_its_one_best_entry(
    service: Simulator, accession: str, outcome: Outcome
) -> None:
    assert collect(service, accession) == {accession: outcome}


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("ambiguous", Ambiguous(("P0C000", "P38398"))),
        ("unreviewed", Mapped("P38398", RELEASE)),
        ("withdrawn", NotFound(("P38398",))),
        ("not_found", NotFound()),
        ("plain_finished", Mapped("P38398", RELEASE)),
    ],
)
def test_what_uniprot_says_of_an_accession_is_told_apart(
    service: Simulator, kind: str, outcome: Outcome
) -> None:
    service.fail(kind, match="status" if kind == "plain_finished" else "results")
    assert collect(service, "NP_009225.1") == {"NP_009225.1": outcome}


def test_the_simulator_knows_what_the_simulated_mapper_maps_to(service: Simulator) -> None:
    accessions = [one for gene in GENES.values() for one in (gene.protein, gene.transcript)]
    outcomes = collect(service, *accessions)
    assert len(outcomes) == len(accessions) == 24
    assert {type(outcome) for outcome in outcomes.values()} == {Mapped}


def test_an_accession_of_another_kind_is_not_asked() -> None:
    for accession in ("NC_000017.11", "NP_1.1,NP_2.1", "XP_011521353.1", "CACNA1C", ""):
        assert uniprot.query(accession) is None


def test_a_job_is_waited_for_and_asked_after_again(service: Simulator) -> None:
    waited: list[int] = []
    service.fail("unfinished", match="status", times=2)
    (unfinished,) = collect(service, "NP_009225.1").values()
    assert isinstance(unfinished, Unfinished)
    job = {"NP_009225.1": unfinished.job_id}
    patient = collect(service, "NP_009225.1", jobs=job, patience_seconds=10, on_wait=waited.append)
    assert patient == {"NP_009225.1": Mapped("P38398", RELEASE)}
    assert waited == [0]
    assert service.requests("POST") == 1


def test_a_job_that_is_gone_is_submitted_again_once(service: Simulator) -> None:
    service.fail("expired", match="status", times=1)
    lost = {"NP_009225.1": "nosuchjob1"}
    first = collect(service, "NP_009225.1", jobs=lost)
    assert first == {"NP_009225.1": Mapped("P38398", RELEASE)}
    assert service.requests("POST") == 1

    for kind in ("expired", "unfinished", "expired"):
        service.fail(kind, match="status", times=1)
    second = collect(service, "NP_009225.1", patience_seconds=2)["NP_009225.1"]
    assert isinstance(second, Failed)
    assert (second.category, service.requests("POST")) == (UNAVAILABLE, 3)


@pytest.mark.parametrize(
    ("kind", "category", "submissions", "said"),
    [
        ("limit_exceeded", FailureCategory.DATA_ERROR, 1, "more than 500000"),
        ("server_error", UNAVAILABLE, 2, "ERROR: It gave no reason."),
        ("silent", UNAVAILABLE, 2, "without a word on NP_009225.1"),
    ],
)
def test_one_job_that_fails_leaves_the_others_alone(
    service: Simulator, kind: str, category: FailureCategory, submissions: int, said: str
) -> None:
    service.fail(kind, match="run", times=submissions)
    outcomes = collect(service, "NP_009225.1", "NP_000537.3")
    assert service.requests("POST") == submissions + 1
    assert outcomes["NP_000537.3"] == Mapped("P04637", RELEASE)
    failed = outcomes["NP_009225.1"]
    assert isinstance(failed, Failed)
    assert failed.category is category
    assert said in failed.message


@pytest.mark.parametrize("kind", ["server_error", "silent"])
def test_a_job_that_failed_at_uniprot_is_submitted_again(service: Simulator, kind: str) -> None:
    service.fail(kind, match="run", times=1)
    assert collect(service, "NP_009225.1") == {"NP_009225.1": Mapped("P38398", RELEASE)}
    assert service.requests("POST") == 2


def test_an_entry_that_cannot_be_read_is_no_absence(service: Simulator) -> None:
    service.fail("garbled", match="results")
    outcome = collect(service, "NP_009225.1")["NP_009225.1"]
    assert isinstance(outcome, Failed)
    assert outcome.category is FailureCategory.DATA_ERROR
    assert "'to': 'P38398'" in outcome.message


def test_a_query_that_uniprot_refuses_is_answered_in_its_words(service: Simulator) -> None:
    with uniprot.connection(service.url, connect_timeout=5, read_timeout=5) as client:
        refused = uniprot.submit(client, Query("X1", "Refseq_Protein", ("X1",)))
    assert refused == Failed(
        FailureCategory.VALIDATION_ERROR,
        "The parameter 'from' has an invalid value 'Refseq_Protein'.",
    )


HTML = "<html><head><title>503 Service Unavailable</title></head></html>"
PACKED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize("request_of", ["run", "status", "results"])
@pytest.mark.parametrize(
    ("fault", "category", "said"),
    [
        ({"kind": "status", "status": 503, "body": HTML}, UNAVAILABLE, "503 Service Unavailable"),
        ({"kind": "status", "status": 500}, UNAVAILABLE, "HTTP 500"),
        ({"kind": "status", "status": 429}, FailureCategory.API_RATE_LIMITED, "HTTP 429"),
        ({"kind": "status", "status": 200, "headers": PACKED}, UNAVAILABLE, "cannot be unpacked"),
        ({"kind": "malformed"}, UNAVAILABLE, "something else than id mapping"),
        ({"kind": "malformed", "body": "[]"}, UNAVAILABLE, "something else than id mapping"),
        ({"kind": "reset"}, FailureCategory.NETWORK_ERROR, "broke"),
        (LATE, FailureCategory.TIMEOUT, "in time"),
    ],
)
def test_a_service_that_is_down_says_why_and_is_asked_again(
    service: Simulator, request_of: str, fault: dict[str, Any], category: FailureCategory, said: str
) -> None:
    service.fail(**fault, match=request_of, times=1)
    with pytest.raises(ServiceError, match=said) as caught:
        collect(service, "NP_009225.1", read_timeout=patience(fault))
    assert caught.value.category is category
    assert category in RETRYABLE
    assert collect(service, "NP_009225.1") == {"NP_009225.1": Mapped("P38398", RELEASE)}


def test_a_redirect_elsewhere_and_a_wrong_url_are_the_settings_fault(service: Simulator) -> None:
    moved = {"Location": "https://www.uniprot.org/maintenance"}
    service.fail("status", status=302, headers=moved, match="status")
    with pytest.raises(ServiceError, match=r"redirects to www\.uniprot\.org") as caught:
        collect(service, "NP_009225.1")
    assert caught.value.category is FailureCategory.CONFIGURATION_ERROR
    service.reset()
    service.fail("status", status=404, match="run")
    with pytest.raises(ServiceError, match="Check UNIPROT_API_URL"):
        collect(service, "NP_009225.1")
    with (
        pytest.raises(ConfigurationError, match="UNIPROT_API_URL"),
        uniprot.connection("http://host:port", connect_timeout=1, read_timeout=1),
    ):
        pass


def test_the_simulator_answers_as_uniprot_does(service: Simulator) -> None:
    def run(ids: str) -> str:
        form = {"from": "RefSeq_Protein", "to": "UniProtKB", "ids": ids}
        answer = service.http.post("/idmapping/run", data=form)
        assert answer.headers["X-UniProt-Release"] == RELEASE
        job_id: str = answer.json()["jobId"]
        return job_id

    job_id = run("NP_500501.1,NP_999999999.1")
    assert job_id == run(" np_500501.1, NP_999999999.1")
    assert job_id != run("NP_500501.1")
    status = service.http.get(f"/idmapping/status/{job_id}")
    assert (status.status_code, status.json()) == (303, {"jobStatus": "FINISHED"})
    page = service.http.get(f"/idmapping/uniprotkb/results/{job_id}?size=500")
    assert len(page.json()["results"]) == 500
    assert page.json()["failedIds"] == ["NP_999999999.1"]
    assert page.headers["X-Total-Results"] == "502"
    rest = service.http.get(page.links["next"]["url"])
    assert len(rest.json()["results"]) == 2
    assert "next" not in rest.links
    gone = service.http.get("/idmapping/status/nosuchjob1")
    assert (gone.status_code, gone.json()["messages"]) == (404, ["Resource not found"])
    nothing = service.http.post("/idmapping/run", data={"from": "Refseq_Protein"})
    assert nothing.status_code == 400
    assert len(nothing.json()["messages"]) == 3
