"""Answers that are wrong in a part: its variants have a reason, and all others their due."""

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from deployments.local.simulators import clingen, ensembl, uniprot
from tasks.clients import clingen_alleles, vep
from tasks.clients import uniprot as uniprot_client
from tasks.clients.clingen import Account, Outcome, Registered, Unreadable, register
from tasks.clients.clingen_alleles import Answer
from tasks.clients.ensembl import Manners
from tests.support import MaveDB, Submitted, brca1, insert_brca1
from tests.support_servers import Simulator, served

HGVS = [f"NM_000314.8:c.{n}A>G" for n in range(1, 201)]
SITE = "http://reg.genome.network/allele/"
Elements = list[Any]


def swapped(elements: Elements) -> Elements:
    return [elements[1], elements[0], *elements[2:]]


def rotated(elements: Elements) -> Elements:
    return [*elements[1:], elements[0]]


def doubled(elements: Elements) -> Elements:
    return [element for element in elements for _ in range(2)]


@pytest.fixture(scope="module")
def alleles_served() -> Iterator[Simulator]:
    with served(clingen.create_app("curator", "secret")) as simulator:
        yield simulator


@pytest.fixture
def registry(alleles_served: Simulator) -> Iterator[Simulator]:
    yield alleles_served
    alleles_served.reset()


def registered(registry: Simulator) -> dict[str, Outcome]:
    account = Account("curator", "secret")
    return register(registry.url, account, HGVS, batch_size=200, connect_timeout=5, read_timeout=20)


def elements_of(registry: Simulator, file: str, lines: list[str]) -> Elements:
    """The true answer about all of them, when they are registered."""
    answer = registry.http.post(f"/alleles?file={file}", content="\n".join(lines))
    elements: Elements = answer.raise_for_status().json()
    return elements


@pytest.mark.parametrize(
    "odd", [None, 7, "CA1", [], {}, {"@id": f"{SITE}CA"}, {"@id": 7}, {"errorType": ["x"]}]
)
def test_an_element_that_is_no_allele_costs_one_registration_of_two_hundred(
    registry: Simulator, odd: Any
) -> None:
    right = registered(registry)
    elements = elements_of(registry, "hgvs", HGVS)
    registry.fail("malformed", body=json.dumps([*elements[:150], odd, *elements[151:]]))

    outcomes = registered(registry)

    lost = outcomes.pop(HGVS[150])
    assert isinstance(lost, Unreadable)
    assert str(odd) in lost.message
    assert outcomes == {hgvs: right[hgvs] for hgvs in outcomes}
    assert len(outcomes) == 199


@pytest.mark.parametrize("disorder", [swapped, rotated, lambda elements: elements[::-1]])
def test_registrations_answered_in_another_order_go_to_nobody_else(
    registry: Simulator, disorder: Callable[[Elements], Elements]
) -> None:
    right = registered(registry)
    registry.fail("malformed", body=json.dumps(disorder(elements_of(registry, "hgvs", HGVS))))

    outcomes = registered(registry)

    found = {hgvs for hgvs, outcome in outcomes.items() if not isinstance(outcome, Unreadable)}
    assert {hgvs: outcomes[hgvs] for hgvs in found} == {hgvs: right[hgvs] for hgvs in found}
    assert len(found) > 180
    assert outcomes.keys() == right.keys()


@pytest.mark.parametrize(
    "spoil",
    [
        swapped,
        doubled,
        lambda elements: [elements[0], *elements],
        lambda elements: [{"@id": f"{SITE}CA7"}, *elements],
        lambda elements: ["text", *elements[1:]],
        lambda elements: [*elements[:199], None, {"errorType": "NotFound"}],
        lambda elements: [elements[5], *elements[1:]],
    ],
)
def test_each_allele_that_is_looked_up_is_its_own_whatever_comes_with_it(
    registry: Simulator, spoil: Callable[[Elements], Elements]
) -> None:
    ids = [o.allele_id for o in registered(registry).values() if isinstance(o, Registered)]
    ids = [*ids, *(f"CA{n}" for n in range(100, 300 - len(ids)))]

    def look_up() -> dict[str, Answer]:
        return clingen_alleles.fetch(
            registry.url,
            ids,
            batch_size=200,
            concurrency=5,
            retry_delays=[],
            connect_timeout=5,
            read_timeout=20,
        )

    right = look_up()
    assert sum(answer is None for answer in right.values()) > 3
    body = json.dumps(spoil(elements_of(registry, "id", sorted(ids))))
    registry.fail("malformed", body=body, match="/alleles?file=id")

    assert look_up() == right


@pytest.fixture(scope="module")
def vep_served() -> Iterator[Simulator]:
    with served(ensembl.create_app(requests_a_second=1_000)) as simulator:
        yield simulator


@pytest.mark.parametrize("spoil", [swapped, doubled, lambda elements: elements[::-1]])
def test_consequences_belong_to_their_notations_however_often_and_wherever(
    vep_served: Simulator, spoil: Callable[[Elements], Elements]
) -> None:
    def ask() -> vep.Answers:
        return vep.consequences(vep_served.url, HGVS, Manners(requests_per_second=1_000))

    right = ask()
    body = {"hgvs_notations": HGVS, "refseq": 1}
    entries = vep_served.http.post("/vep/human/hgvs", json=body).raise_for_status().json()
    vep_served.fail("malformed", body=json.dumps(spoil(entries)), match="/vep/", times=1)

    assert ask() == right
    vep_served.reset()


@pytest.mark.parametrize("spoil", [doubled, lambda rows: [{"from": "NP_1.1"}, None, *rows, "text"]])
def test_a_mapping_of_uniprots_is_read_whatever_comes_with_it(
    spoil: Callable[[Elements], Elements],
) -> None:
    query = uniprot_client.query("NP_009225.1")
    assert query is not None
    with served(uniprot.create_app(new_seconds=0, running_seconds=0)) as service:
        entry = {"entryType": "UniProtKB reviewed (Swiss-Prot)", "primaryAccession": "P38398"}
        rows = spoil([{"from": "NP_009225.1", "to": entry}])
        service.fail("malformed", body=json.dumps({"results": rows}), match="results")
        with uniprot_client.connection(service.url, connect_timeout=5, read_timeout=20) as client:
            outcomes = uniprot_client.collect(client, {query: None}, patience_seconds=0)
    assert outcomes == {query: uniprot_client.Mapped("P38398", None)}


# The steps, through the real worker.


@pytest.fixture(scope="module")
def uploaded(mavedb: MaveDB) -> Submitted:
    """A score set whose variants were created, and nothing else."""
    rows = list(csv.DictReader(brca1(40)[0].splitlines()))
    with mavedb.engine.begin() as connection:
        urn, score_set_id, user_id = insert_brca1(connection)
        connection.execute(
            text(
                """
                INSERT INTO variants (urn, hgvs_nt, hgvs_pro, data, scoreset_id, creation_date,
                                      modification_date)
                VALUES (:urn, :hgvs_nt, :hgvs_pro, '{}', :id, CURRENT_DATE, CURRENT_DATE)
                """
            ),
            [
                {
                    "urn": f"{urn}#{n}",
                    "hgvs_nt": row["hgvs_nt"],
                    "hgvs_pro": row["hgvs_pro"],
                    "id": score_set_id,
                }
                for n, row in enumerate(rows, start=1)
            ],
        )
    return Submitted(score_set_id, urn, user_id, 0, "")


def statuses(
    mavedb: MaveDB, submitted: Submitted, annotation_type: str
) -> dict[str, tuple[str | None, str]]:
    """By URN: the reason, and what is said of it."""
    rows = mavedb.rows(
        """
        SELECT urn, failure_category, coalesce(error_message, '') AS said
          FROM variant_annotation_status JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND current AND annotation_type = :type
        """,
        id=submitted.score_set_id,
        type=annotation_type,
    )
    assert len(rows) == 40
    return {row.urn: (row.failure_category, row.said) for row in rows}


def test_each_odd_record_of_the_mapper_is_its_variants_alone(
    mavedb: MaveDB, uploaded: Submitted
) -> None:
    path = f"{mavedb.stack.mapper_url}/api/v1/map/{uploaded.score_set_urn}"
    answer = httpx.post(path).raise_for_status().json()
    records = answer["mapped_scores"]
    mapped = [record for record in records if "post_mapped" in record]
    twin, differing, broken, nameless, *rest = mapped
    others = [record for record in records if record not in (broken, nameless)]
    answer["mapped_scores"] = [
        {**rest[0], "mavedb_id": "urn:mavedb:00000001-a-1#1"},
        {**nameless, "mavedb_id": None},
        *reversed(others),
        {**broken, "post_mapped": "text"},
        twin,
        {**differing, "post_mapped": rest[0]["post_mapped"]},
        None,
    ]
    prepared = mavedb.stack.mapper_answers / f"{uploaded.score_set_urn.replace(':', '_')}.json"
    prepared.write_text(json.dumps(answer))

    run = mavedb.request("map_variants_for_score_set", uploaded)
    assert mavedb.wait_for(run) == "succeeded"

    found = statuses(mavedb, uploaded, "vrs_mapping")
    reason, said = found.pop(differing["mavedb_id"])
    assert (reason, said.endswith("and they differ.")) == ("malformed_record", True)
    reason, said = found.pop(broken["mavedb_id"])
    assert (reason, said.endswith("Its post_mapped is text")) == ("malformed_record", True)
    reason, said = found.pop(nameless["mavedb_id"])
    assert (reason, "2 of its records" in said) == ("not_returned_by_mapper", True)
    assert {urn for urn, (reason, _) in found.items() if reason is None} == {
        record["mavedb_id"] for record in (twin, *rest)
    }
    stored = mavedb.rows(
        """
        SELECT urn, post_mapped FROM mapped_variants JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND current AND post_mapped IS NOT NULL
        """,
        id=uploaded.score_set_id,
    )
    assert len(stored) == len(rest) + 1
    assert {row.urn: row.post_mapped for row in stored} == {
        record["mavedb_id"]: record["post_mapped"] for record in (twin, *rest)
    }


def test_an_answer_of_the_registry_that_cannot_be_read_takes_no_id_away(
    mavedb: MaveDB, uploaded: Submitted
) -> None:
    hgvs_of = {
        row.urn: row.hgvs
        for row in mavedb.rows(
            """
            SELECT urn, post_mapped #>> '{expressions,0,value}' AS hgvs
              FROM mapped_variants JOIN variants ON variants.id = variant_id
             WHERE scoreset_id = :id AND current AND post_mapped IS NOT NULL
            """,
            id=uploaded.score_set_id,
        )
    }
    asked = sorted({hgvs for hgvs in hgvs_of.values() if hgvs})
    mavedb.execute(
        """
        UPDATE mapped_variants SET clingen_allele_id = 'CA123456'
         WHERE variant_id IN (SELECT id FROM variants WHERE scoreset_id = :id)
        """,
        id=uploaded.score_set_id,
    )
    with httpx.Client(base_url=mavedb.stack.clingen_url) as http:
        elements = elements_of(Simulator(mavedb.stack.clingen_url, http), "hgvs", asked)
    named = [{**e, "@id": f"{SITE}CA{n + 200_000}"} for n, e in enumerate(elements)]
    body = json.dumps(["text", {"errorType": "NotFound"}, *named[2:]])
    with mavedb.fault(mavedb.stack.clingen_url, "malformed", body=body, match="/alleles?file=hgvs"):
        run = mavedb.request("submit_score_set_mappings_to_car", uploaded)
        assert mavedb.wait_for(run) == "succeeded"

    found = statuses(mavedb, uploaded, "clingen_allele_id")
    ids = {
        row.urn: row.clingen_allele_id
        for row in mavedb.rows(
            """
            SELECT urn, clingen_allele_id
              FROM mapped_variants JOIN variants ON variants.id = variant_id
             WHERE scoreset_id = :id AND current
            """,
            id=uploaded.score_set_id,
        )
    }
    for urn, hgvs in hgvs_of.items():
        match asked.index(hgvs):
            case 0:
                assert (found[urn][0], ids[urn]) == ("malformed_record", "CA123456")
                assert found[urn][1].endswith("It has no allele id: text")
            case 1:
                assert (found[urn][0], ids[urn]) == ("rejected_by_clingen", None)
            case n if "errorType" not in elements[n]:
                assert (found[urn][0], ids[urn]) == (None, f"CA{n + 200_000}")
