"""What the steps make of ClinGen's answers: HGVS of each level, and pairs of alleles."""

import pytest

from mavedb_audit.failures import FailureCategory
from mavedb_audit.reasons import Reason
from tasks.clients.clingen_alleles import Allele, Answer, LookupFailed, Transcript
from tasks.mapped_variants import MappedVariant
from tasks.populate_mapped_hgvs_for_score_set import Hgvs, Target, askable, hgvs_of, target_of
from tasks.populate_variant_translations_for_score_set import (
    Translations,
    status_of,
    translations_of,
)

G, C, P = "NC_000017.11:g.43124096A>T", "NM_007294.4:c.1A>T", "NP_009225.1:p.Met1Leu"
OTHER_C, OTHER_P = "NM_007300.4:c.1A>T", "NP_009231.2:p.Met1Leu"
NUCLEOTIDE = Allele(
    "CA1",
    genomic_hgvs=G,
    transcripts=(Transcript(OTHER_C, OTHER_P), Transcript(C, P)),
    mane=Transcript(C, P),
    protein_allele_ids=("PA1", "PA2"),
)
PROTEIN = Allele("PA1", protein_hgvs=P, nucleotide_allele_ids=("CA1", "CA7"))
DOWN = LookupFailed(FailureCategory.TIMEOUT, "no answer in time")


@pytest.mark.parametrize(
    ("allele", "target", "expected"),
    [
        (NUCLEOTIDE, Target(True, "NM_007294.4"), Hgvs(G, C, P)),
        (NUCLEOTIDE, Target(True, "NM_007300.4"), Hgvs(G, OTHER_C, OTHER_P)),
        # On another version of the transcript it would have another number.
        (NUCLEOTIDE, Target(True, "NM_007294.3"), Hgvs(G)),
        (NUCLEOTIDE, Target(True, None), Hgvs(G, C, P)),
        (NUCLEOTIDE, Target(False, "NM_007294.4"), Hgvs(G)),
        (Allele("CA2", genomic_hgvs=G), Target(True, None), Hgvs(G)),
        (Allele("CA2"), Target(True, None), Hgvs()),
        (PROTEIN, Target(True, None), Hgvs(hgvs_p=P)),
        (PROTEIN, Target(False, None), Hgvs(hgvs_p=P)),
    ],
)
def test_hgvs_are_on_the_targets_own_transcript(
    allele: Allele, target: Target, expected: Hgvs
) -> None:
    assert hgvs_of(allele, target) == expected


def variant(*allele_ids: str, target_name: str = "", hgvs: str | Reason = C) -> MappedVariant:
    return MappedVariant(1, 2, hgvs, allele_ids, target_name)


def test_a_variant_of_several_targets_is_described_on_its_own() -> None:
    targets = {"BRCA1": Target(True, "NM_007294.4"), "enhancer": Target(False, None)}

    assert target_of(variant(target_name="BRCA1"), targets) == targets["BRCA1"]
    assert target_of(variant(target_name="enhancer"), targets) == targets["enhancer"]
    assert target_of(variant(target_name="gone"), targets) == Target(False, None)
    assert target_of(variant(target_name="c.1A>T"), {"BRCA1": targets["BRCA1"]}).is_protein_coding


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (variant("CA1"), "CA1"),
        (variant("CA1", hgvs=Reason.NO_HGVS), "CA1"),
        (variant(), Reason.NO_CLINGEN_ALLELE_ID),
        (variant(hgvs=Reason.NOT_MAPPED), Reason.NOT_MAPPED),
        (variant(hgvs=Reason.OUTDATED_MAPPING), Reason.OUTDATED_MAPPING),
        (variant("CA1", "CA2"), Reason.MULTI_VARIANT_CLINGEN_ALLELE_ID),
    ],
)
def test_one_id_is_asked_for_or_the_cause_is_told(of: MappedVariant, expected: str) -> None:
    assert askable(of) == expected


ANSWERS: dict[str, Answer] = {
    "CA1": NUCLEOTIDE,
    "CA2": Allele("CA2", protein_allele_ids=("PA3", "PA1")),
    "CA3": Allele("CA3"),
    "CA4": None,
    "CA5": DOWN,
    "PA1": PROTEIN,
    "PA2": None,
    "PA3": DOWN,
    "PA4": Allele("PA4", protein_hgvs=P),
}


@pytest.mark.parametrize(
    ("allele_id", "pairs", "reason"),
    [
        ("CA1", {("PA1", "CA1"), ("PA1", "CA7"), ("PA2", "CA1")}, None),
        (
            "CA2",
            {("PA3", "CA2"), ("PA1", "CA2"), ("PA1", "CA1"), ("PA1", "CA7")},
            Reason.CLINGEN_LOOKUP_FAILED,
        ),
        ("CA3", set(), Reason.NO_CODING_TRANSCRIPT),
        ("CA4", set(), Reason.NOT_IN_SOURCE),
        ("CA5", set(), Reason.CLINGEN_LOOKUP_FAILED),
        ("PA1", {("PA1", "CA1"), ("PA1", "CA7")}, None),
        ("PA4", set(), Reason.NOT_IN_SOURCE),
    ],
)
def test_an_allele_is_paired_with_all_that_encode_the_same(
    allele_id: str, pairs: set[tuple[str, str]], reason: Reason | None
) -> None:
    found = translations_of(allele_id, ANSWERS)

    assert (found.pairs, found.reason) == (pairs, reason)


@pytest.mark.parametrize(
    ("allele_ids", "reason", "proteins"),
    [
        (["CA1", "CA3"], None, ["PA1", "PA2"]),
        (["CA3", "CA4"], Reason.NO_CODING_TRANSCRIPT, None),
        (["CA3", "CA5"], Reason.CLINGEN_LOOKUP_FAILED, None),
        (["CA1", "CA5"], Reason.CLINGEN_LOOKUP_FAILED, ["PA1", "PA2"]),
        ([], Reason.NO_CLINGEN_ALLELE_ID, None),
    ],
)
def test_of_several_alleles_a_failed_call_counts_more_than_a_find(
    allele_ids: list[str], reason: Reason | None, proteins: list[str] | None
) -> None:
    found: dict[str, Translations] = {i: translations_of(i, ANSWERS) for i in allele_ids}

    status = status_of(variant(*allele_ids), found)

    assert status.reason == reason
    assert (status.data or {}).get("aa_clingen_ids") == proteins
