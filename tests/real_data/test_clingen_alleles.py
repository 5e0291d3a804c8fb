"""Alleles as the real registry described them: captured answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from deployments.local.simulators.clingen import create_app
from tasks.clients.clingen_alleles import Allele, LookupFailed, Transcript, fetch, parse
from tasks.populate_mapped_hgvs_for_score_set import Hgvs, Target, hgvs_of
from tests.support_servers import served


@pytest.fixture(scope="module")
def bodies(data: Path) -> dict[str, dict[str, Any]]:
    """Every captured answer about one allele, by its id."""
    folder = data / "car"
    found = [
        json.loads((folder / "allele_CA341478553_with_mane.json").read_text()),
        *json.loads((folder / "clingen_hgvs_responses.json").read_text()).values(),
        *json.loads((folder / "mock_alleles.json").read_text()).values(),
    ]
    return {body["@id"].rpartition("/")[2]: body for body in found}


def read(body: dict[str, Any]) -> Allele:
    allele = parse(body)
    assert isinstance(allele, Allele)
    return allele


@pytest.mark.parametrize(
    ("allele_id", "clinvar_allele_id"),
    [
        ("CA410202793", 430421),
        ("CA248819", 208712),
        ("CA10617208", 292483),
        ("CA337095804", 434777),
        ("CA7019515", None),
        ("CA341478553", None),
    ],
)
def test_clinvars_allele_id_is_read_where_there_is_one(
    bodies: dict[str, Any], allele_id: str, clinvar_allele_id: int | None
) -> None:
    allele = read(bodies[allele_id])
    assert (allele.allele_id, allele.clinvar_allele_id) == (allele_id, clinvar_allele_id)


@pytest.mark.parametrize(
    ("allele_id", "transcript", "expected"),
    [
        (
            "CA341478553",
            None,
            Hgvs("NC_000001.11:g.109250080A>G", "NM_001408.3:c.1A>G", "NP_001399.1:p.Met1Val"),
        ),
        (
            "CA341478553",
            "ENST00000271332.3",
            Hgvs(
                "NC_000001.11:g.109250080A>G",
                "ENST00000271332.3:c.1A>G",
                "ENSP00000271332.3:p.Met1Val",
            ),
        ),
        (
            "CA248819",
            "NM_001754.4",
            Hgvs("NC_000021.9:g.34859530A>T", "NM_001754.4:c.557T>A", "NP_001745.2:p.Val186Asp"),
        ),
        # A splice variant: what the registry gives as its protein effect is no p. HGVS.
        ("CA410202793", None, Hgvs("NC_000021.9:g.34880714C>T", "NM_001754.5:c.352-1G>A")),
        # Described before there was MANE.
        ("CA7019515", None, Hgvs("NC_000013.11:g.95186748C>T")),
        (
            "CA7019515",
            "NM_005845.4",
            Hgvs("NC_000013.11:g.95186748C>T", "NM_005845.4:c.1498G>A", "NP_005836.2:p.Glu500Lys"),
        ),
        # On the mitochondrial genome, without any transcript.
        ("CA337095804", None, Hgvs("NC_012920.1:m.263A>G")),
    ],
)
def test_hgvs_of_each_level(
    bodies: dict[str, Any], allele_id: str, transcript: str | None, expected: Hgvs
) -> None:
    assert hgvs_of(read(bodies[allele_id]), Target(True, transcript)) == expected


def test_proteins_are_those_of_mane_transcripts_alone(bodies: dict[str, Any]) -> None:
    """Of three registered protein alleles of CA248819 one lies on the MANE transcript."""
    assert read(bodies["CA248819"]).protein_allele_ids == ("PA248821",)
    assert read(bodies["CA10617208"]).mane == Transcript("NM_032638.5:c.*882T>A", "NP_116027.2:p.=")
    assert read(bodies["CA410202793"]).protein_allele_ids == ()


def test_a_bulk_answer_holds_alleles_and_errors(data: Path) -> None:
    elements = json.loads((data / "car" / "bulk_put_hgvs_6_response.json").read_text())

    answers = [parse(element) for element in elements]

    assert [a.allele_id for a in answers if isinstance(a, Allele)][1:] == ["CA503883"] * 2
    assert sum(isinstance(answer, LookupFailed) for answer in answers) == 3


def test_all_of_them_come_back_from_a_registry_in_one_request(bodies: dict[str, Any]) -> None:
    with served(create_app("curator", "secret", bodies.values())) as simulator:
        answers = fetch(
            simulator.url,
            [*bodies, "CA321211"],
            batch_size=200,
            concurrency=5,
            retry_delays=[],
            connect_timeout=5,
            read_timeout=20,
        )

    assert answers == {i: read(body) for i, body in bodies.items()} | {"CA321211": None}
