"""The simulated mapper computes VRS 2 that a real mapper could have written."""

import time
from typing import Any

import pytest

from deployments.local.simulators.mapper_variants import (
    Target,
    TargetVariant,
    identify,
    map_variants,
    reference_sequences,
)
from mavedb_audit.reasons import Reason
from tasks.vrs import expression

# The first residues of BRCA1 and the DNA that codes for them, up to a stop of our own.
BRCA1 = Target("BRCA1 start", "dna", "ATGGATTTATCTGCTCTTCGCGTTGAAGAATAA")
# A WW domain, which does not start with Met: it lies inside its protein.
WW = Target("hYAP65 WW domain (YAP1)", "protein", "DVPLPAGWEMAKTSSGQRYFLNHIDQTTTWQDPR")
WW_DNA = Target("YAP1 WW domain", "dna", "GATGTTCCTCTTCCTGCTGGT")
PROMOTER = Target("A promoter", "dna", "TGACTCCTGAGGAGAAGTCT")


def mapped(hgvs: str, *targets: Target) -> dict[str, Any]:
    nucleotide = hgvs.rpartition(":")[2][:1] != "p"
    variant = TargetVariant(
        "tmp:x#1", hgvs if nucleotide else None, None if nucleotide else hgvs, -1.5
    )
    (record,) = map_variants([variant], targets)
    return record


@pytest.mark.parametrize(
    ("hgvs", "target", "expected"),
    [
        ("p.Asp2Cys", BRCA1, "NP_009225.1:p.Asp2Cys"),
        ("p.Asp2=", BRCA1, "NP_009225.1:p.Asp2="),
        ("p.Ter11Gln", BRCA1, "NP_009225.1:p.Ter11Gln"),
        ("p.Asp2_Ser4del", BRCA1, "NP_009225.1:p.Asp2_Ser4del"),
        ("p.Asp2_Leu3insTrpCys", BRCA1, "NP_009225.1:p.Asp2_Leu3insTrpCys"),
        ("p.Asp2_Leu3delinsTrp", BRCA1, "NP_009225.1:p.Asp2_Leu3delinsTrp"),
        ("p.Leu3dup", BRCA1, "NP_009225.1:p.Leu3dup"),
        ("c.4G>T", BRCA1, "NM_007294.4:c.4G>T"),
        ("c.4_6delinsTAT", BRCA1, "NM_007294.4:c.4_6delinsTAT"),
        ("p.Asp1Cys", WW, "NP_001123617.1:p.Asp170Cys"),
        ("c.2A>T", WW_DNA, "NM_001130145.3:c.509A>T"),
    ],
)
def test_changes_move_to_the_human_reference(hgvs: str, target: Target, expected: str) -> None:
    assert expression(mapped(hgvs, target)["post_mapped"]) == expected


def test_positions_are_interbase_and_ids_are_ga4gh_digests() -> None:
    record = mapped("p.Asp1Cys", WW)
    before, after = record["pre_mapped"], record["post_mapped"]
    assert (before["location"]["start"], before["location"]["end"]) == (0, 1)
    assert (after["location"]["start"], after["location"]["end"]) == (169, 170)
    assert after["location"]["sequenceReference"]["label"] == "NP_001123617.1"
    assert "expressions" not in before
    assert before["state"]["sequence"] == "C"
    assert before["extensions"][0]["value"] == "D"
    # The digest of the sequence and of this place, as a real mapper gave them for the domain.
    sequence_reference = before["location"]["sequenceReference"]
    assert sequence_reference["refgetAccession"] == "SQ.-1zvs4OMc7npphYxRnz-0lO69ueqop8R"
    real = {"type": "SequenceLocation", "start": 25, "end": 26}
    digest = identify({**real, "sequenceReference": sequence_reference})
    assert digest == "DCetC1wsts3jtZ2aRoLjAa8sEfAuL1Kl"


def test_noncoding_variants_go_to_a_chromosome() -> None:
    hgvs = expression(mapped("n.5T>A", PROMOTER)["post_mapped"])
    assert isinstance(hgvs, str)
    assert hgvs.startswith("NC_0000")
    assert ":g." in hgvs


def test_several_changes_are_one_block() -> None:
    record = mapped("p.[Asp2Cys;Leu3Trp]", BRCA1)
    assert record["post_mapped"]["type"] == "CisPhasedBlock"
    assert expression(record["post_mapped"]) is Reason.MULTI_VARIANT


@pytest.mark.parametrize(
    ("hgvs", "words"),
    [
        ("p.=", "names no position"),
        ("p.(=)", "names no position"),
        ("_wt", "Unable to parse"),
        ("p.Asp200Cys", "not fully contained"),
        ("c.-5A>T", "not fully contained"),
        ("c.4+1G>T", "intronic"),
        ("p.Trp2Cys", "Reference mismatch"),
        ("c.4A>T", "Reference mismatch"),
        ("p.Asp2fs", "not supported"),
        ("elsewhere:p.Asp2Cys", "No target"),
    ],
)
def test_what_the_mapper_refuses_has_words_and_no_vrs(hgvs: str, words: str) -> None:
    record = mapped(hgvs, BRCA1)
    assert words in record["error_message"]
    assert not {"pre_mapped", "post_mapped"} & record.keys()
    assert record["score"] == -1.5


def test_variants_find_their_target_by_label_or_accession() -> None:
    labelled = Target("BRCA1 start", "dna", BRCA1.sequence, label="first")
    accession = Target("RHO", accession="NM_000539.3")
    targets = (labelled, accession)
    assert expression(mapped("first:p.Asp2Cys", *targets)["post_mapped"]) == "NP_009225.1:p.Asp2Cys"
    record = mapped("NM_000539.3:c.10G>A", *targets)
    assert expression(record["post_mapped"]) == "NM_000539.3:c.10G>A"
    variants = [
        TargetVariant("u#1", None, "first:p.Asp2Cys", 0.0),
        TargetVariant("u#2", "NM_000539.3:c.10G>A", None, 0.0),
    ]
    references = reference_sequences(variants, targets)
    assert {name: list(target["layers"]) for name, target in references.items()} == {
        "BRCA1 start": ["p"],
        "RHO": ["c"],
    }


def test_a_hundredth_is_refused_the_same_each_time_and_large_sets_are_quick() -> None:
    residues = "M" + "ACDEFGHIKL" * 100
    target = Target("a gene", "protein", residues)
    three = {"A": "Ala", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "G": "Gly", "H": "His"}
    three |= {"I": "Ile", "K": "Lys", "L": "Leu", "M": "Met"}
    variants = [
        TargetVariant(f"u#{n}{new}", None, f"p.{three[old]}{n}{new}", 0.0)
        for n, old in enumerate(residues, start=1)
        for new in ("Trp", "Tyr", "Val", "Ser", "Pro")
    ]
    began = time.monotonic()
    records = list(map_variants(variants, [target]))
    assert time.monotonic() - began < 10
    refused = [record["mavedb_id"] for record in records if "error_message" in record]
    assert 0.005 < len(refused) / len(variants) < 0.02
    again = map_variants(reversed(variants), [target])
    assert {r["mavedb_id"] for r in again if "error_message" in r} == set(refused)
