"""UniProt's client on captured entries and answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.local.simulators.uniprot import DATABASES, Entry, create_app
from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients import uniprot
from tasks.clients.uniprot import Failed, Mapped, NotFound, Outcome, Query
from tests.support_servers import Simulator, served

Json = dict[str, Any]


def read(data: Path, name: str) -> Json:
    content: Json = json.loads((data / "uniprot" / name).read_text())
    return content


@pytest.fixture(scope="module")
def entries(data: Path) -> list[Json]:
    """Seven real entries as UniProt writes them."""
    mapped = read(data, "idmapping_uniprotkb_results_4.json")["results"]
    found: list[Json] = read(data, "uniprotkb_search_3_human_entries.json")["results"]
    return [*found, *(row["to"] for row in mapped)]


@pytest.fixture(scope="module")
def server(entries: list[Json]) -> Iterator[Simulator]:
    """A service that knows the real entries by their own cross references."""
    known = [
        Entry(entry["primaryAccession"], entry["uniProtkbId"], tuple(cross_references(entry)))
        for entry in entries
    ]
    with served(create_app(known, new_seconds=0, running_seconds=0)) as server:
        yield server


@pytest.fixture
def service(server: Simulator) -> Iterator[Simulator]:
    yield server
    server.reset()


def cross_references(entry: Json) -> Iterator[str]:
    """The ids of RefSeq and Ensembl that an entry lists, proteins and transcripts."""
    for reference in entry["uniProtKBCrossReferences"]:
        if reference["database"] in ("RefSeq", "Ensembl"):
            yield reference["id"]
            for listed in reference["properties"]:
                if listed["key"] in ("NucleotideSequenceId", "ProteinId"):
                    yield listed["value"]


def collect(service: Simulator, *queries: Query) -> list[Outcome]:
    with uniprot.connection(service.url, connect_timeout=5, read_timeout=20) as client:
        outcomes = uniprot.collect(client, dict.fromkeys(queries), patience_seconds=0)
    return [outcomes[query] for query in queries]


def answer_with(service: Simulator, content: Any, match: str = "results", **more: Any) -> None:
    """Have the captured answer sent, whatever was asked."""
    service.fail("status", **{"status": 200, "body": json.dumps(content), "match": match, **more})


def test_every_real_reference_maps_to_its_entry(service: Simulator, entries: list[Json]) -> None:
    expected = {
        query: entry["primaryAccession"]
        for entry in entries
        for accession in cross_references(entry)
        if (query := uniprot.query(accession)) is not None
    }
    assert len(expected) > 30
    assert {query.database for query in expected} == set(DATABASES)
    found = dict(zip(expected, collect(service, *expected), strict=True))
    assert found == {q: Mapped(accession, "2026_03") for q, accession in expected.items()}


@pytest.mark.parametrize(
    ("accession", "entry"),
    # RefSeq and Ensembl are ahead of the versions that the captured entries list.
    [("NM_001256182.2", "Q6UB99"), ("ENST00000234626.11", "O00311"), ("NP_037407.4", "Q6UB99")],
)
def test_a_newer_transcript_maps_to_the_entry_of_an_older_one(
    service: Simulator, accession: str, entry: str
) -> None:
    query = uniprot.query(accession)
    assert query is not None
    assert collect(service, query) == [Mapped(entry, "2026_03")]


def test_a_real_answer_with_full_entries_is_read(service: Simulator, data: Path) -> None:
    answer_with(service, read(data, "idmapping_uniprotkb_results_4.json"))
    ids = ["Q9Z0H0", "O00311", "P06243", "P41892"]
    outcomes = collect(service, *(Query(one, "RefSeq_Protein", (one,)) for one in ids))
    assert outcomes == [Mapped(one, None) for one in ids]


def test_failed_withdrawn_and_plain_rows_are_told_apart(service: Simulator, data: Path) -> None:
    shapes = read(data, "idmapping_small_shapes.json")
    answer_with(service, shapes["simple_results"])
    failed, withdrawn, plain, unmentioned = collect(
        service,
        *(
            Query(one, "RefSeq_Protein", (one,))
            for one in ("P41892", "A0A852YP84", "O00311", "Q99999")
        ),
    )
    assert failed == NotFound()
    assert withdrawn == NotFound(("A0A852YP84",))
    assert isinstance(plain, Failed)
    assert plain.category is FailureCategory.DATA_ERROR
    assert isinstance(unmentioned, Failed)
    assert unmentioned.category is FailureCategory.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("shape", ["plain_string_results_refseq", "filters_refused_results"])
def test_an_answer_of_another_kind_is_no_finding(
    service: Simulator, data: Path, shape: str
) -> None:
    answer_with(service, read(data, "idmapping_small_shapes.json")[shape])
    query = uniprot.query("NP_001009784")
    assert query is not None
    (outcome,) = collect(service, query)
    assert isinstance(outcome, Failed)


@pytest.mark.parametrize("shape", ["simple_details", "uniprotkb_details"])
def test_a_jobs_details_are_not_its_results(service: Simulator, data: Path, shape: str) -> None:
    answer_with(service, read(data, "idmapping_small_shapes.json")[shape])
    query = uniprot.query("NP_001009784")
    assert query is not None
    with pytest.raises(ServiceError, match="something else than id mapping") as caught:
        collect(service, query)
    assert caught.value.category is FailureCategory.SERVICE_UNAVAILABLE


def test_a_real_job_that_mapped_too_much_is_not_tried_again(service: Simulator, data: Path) -> None:
    errors = read(data, "idmapping_small_shapes.json")["too_many_mapped_details"]["errors"]
    answer_with(service, {"jobStatus": "ERROR", "errors": errors}, "status", status=400)
    (outcome,) = collect(service, Query("NP_1.1", "RefSeq_Protein", ("NP_1.1",)))
    assert isinstance(outcome, Failed)
    assert outcome.category is FailureCategory.DATA_ERROR
    assert errors[0]["message"] in outcome.message
    assert service.requests("POST", "run") == 1


def test_what_we_ask_for_is_a_pair_that_uniprot_maps(data: Path) -> None:
    configured = read(data, "configure_idmapping_fields_2026-06-04.json")
    targets = {rule["ruleId"]: rule["tos"] for rule in configured["rules"]}
    rules = {
        item["name"]: item.get("ruleId")
        for group in configured["groups"]
        for item in group["items"]
    }
    for database in DATABASES:
        assert "UniProtKB" in targets[rules[database]]
