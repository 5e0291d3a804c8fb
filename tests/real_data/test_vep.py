"""VEP's client on entries that Ensembl really answered, served as one answer of many."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.local.simulators.ensembl import create_app
from tasks.clients.ensembl import Manners
from tasks.clients.vep import consequences
from tasks.clients.vep_answers import Consequence, Source, read_consequences, severity
from tests.support_servers import Simulator, served

MANNERS = Manners(requests_per_second=1_000, vep_timeout=10.0)
RECODED = "ENST00000366667:c.803C>T"
RECODED_PLACE = "NC_000001.11:g.230710021G>A"

#: Read from the entries by eye.
KNOWN = {
    "NM_013275.6:c.7407C>G": ("stop_gained", "NM_013275.6"),
    "NM_013275.6:c.2412del": ("frameshift_variant", "NM_013275.6"),
    "NM_004006.3:c.10019G>A": ("missense_variant", "NM_004006.3"),
    "NM_001282625.2:c.298_300del": ("inframe_deletion", "NM_001282625.2"),
    # Of its two terms, frameshift_variant and start_lost, the first is the worse.
    "NM_001282625.2:c.2_3insA": ("frameshift_variant", "NM_001282625.2"),
    # The same change on isoforms that it hardly touches.
    "NM_001406986.1:c.-422_-421insA": ("5_prime_UTR_variant", "NM_001406986.1"),
    "NM_001406993.1:c.-203+8097_-203+8098insA": ("intron_variant", "NM_001406993.1"),
}


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="module")
def on_refseq(data: Path) -> dict[str, dict[str, Any]]:
    """The real entry for each notation that one of its transcripts gives the change in."""
    return {
        transcript["hgvsc"]: entry | {"input": transcript["hgvsc"], "id": transcript["hgvsc"]}
        for entry in entries(data / "vep" / "ensembl_grch38_refseq")
        for transcript in entry["transcript_consequences"]
        if "hgvsc" in transcript
    }


@pytest.fixture(scope="module")
def on_ensembl(data: Path) -> dict[str, dict[str, Any]]:
    """Real entries of places on chromosomes; the client that they were caught for renamed a key."""
    found = entries(data / "vep" / "genome-nexus_grch37")
    return {entry["id"]: entry | {"input": entry["id"]} for entry in found}


@pytest.fixture(scope="module")
def ensembl(
    data: Path, on_refseq: dict[str, dict[str, Any]], on_ensembl: dict[str, dict[str, Any]]
) -> Iterator[Simulator]:
    recoder = json.loads((data / "vep" / "variant_recoder_response.json").read_text())
    app = create_app([*on_refseq.values(), *on_ensembl.values(), *recoder])
    with served(app) as simulator:
        yield simulator


def test_each_real_entry_gives_its_notation_its_own_consequence(
    ensembl: Simulator,
    on_refseq: dict[str, dict[str, Any]],
    on_ensembl: dict[str, dict[str, Any]],
) -> None:
    left_out = "NM_013275.6:c.oops"

    outcomes = consequences(ensembl.url, [*on_refseq, *on_ensembl, left_out], MANNERS).outcomes

    assert len(on_refseq) > 60
    assert len(on_ensembl) == 31
    for notation, entry in on_refseq.items():
        terms = next(
            transcript["consequence_terms"]
            for transcript in entry["transcript_consequences"]
            if transcript.get("hgvsc") == notation
        )
        worst = min(terms, key=severity)
        transcript_id = notation.partition(":")[0]
        assert outcomes[notation] == Consequence(worst, Source.TRANSCRIPT, transcript_id)
    for notation, (term, transcript_id) in KNOWN.items():
        assert outcomes[notation] == Consequence(term, Source.TRANSCRIPT, transcript_id)
    for notation, entry in on_ensembl.items():
        worst = entry["most_severe_consequence"]
        assert outcomes[notation] == Consequence(worst, Source.MOST_SEVERE)
    assert not isinstance(outcomes[left_out], Consequence)


def test_a_transcript_that_is_asked_for_wins_over_worse_ones(
    on_refseq: dict[str, dict[str, Any]], on_ensembl: dict[str, dict[str, Any]]
) -> None:
    deletion = on_refseq["NM_013275.6:c.2412del"]
    insertion = on_ensembl["17:g.41276046_41276047insG"]
    for entry, transcript, term in [
        (deletion, "NR_045839", "downstream_gene_variant"),
        (insertion, "ENST00000309486", "5_prime_UTR_variant"),
    ]:
        found = read_consequences([entry], {entry["input"]: [transcript]})[entry["input"]]
        outcome = found[transcript]
        assert isinstance(outcome, Consequence)
        assert (outcome.term, outcome.source) == (term, Source.TRANSCRIPT)


def test_our_order_of_severity_is_ensembls(
    on_refseq: dict[str, dict[str, Any]], on_ensembl: dict[str, dict[str, Any]]
) -> None:
    compared = 0
    for entry in [*on_refseq.values(), *on_ensembl.values()]:
        terms = {
            term
            for key, features in entry.items()
            if key.endswith("_consequences")
            for feature in features
            for term in feature["consequence_terms"]
        }
        if terms:
            compared += 1
            assert min(terms, key=severity) == entry["most_severe_consequence"]
    assert compared > 90


def test_a_real_recoding_leads_to_the_consequence_of_its_place(ensembl: Simulator) -> None:
    known = "NM_013275.6:c.7407C>G"
    ensembl.fail("omit", body=RECODED)
    outcomes = consequences(ensembl.url, [RECODED, known], MANNERS).outcomes
    ensembl.reset()

    assert outcomes[known] == Consequence("stop_gained", Source.TRANSCRIPT, "NM_013275.6")
    recoded = outcomes[RECODED]
    assert isinstance(recoded, Consequence)
    assert recoded.recoded_as == (RECODED_PLACE,)
