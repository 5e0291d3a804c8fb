"""The generated score set is one that MaveDB would take, and the same for the same seed."""

from statistics import median

import polars as pl
import pytest
from fqfa.util.translate import translate_dna
from hypothesis import given, settings
from hypothesis import strategies as st
from mavehgvs import Variant

from deployments.local.score_set import BRCA1_RING, generate, synthetic_target


def table(csv: str) -> pl.DataFrame:
    return pl.read_csv(csv.encode())


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), codons=st.integers(2, 40), share=st.floats(0.05, 1))
def test_every_variant_is_distinct_and_fits_the_target(
    seed: int, codons: int, share: float
) -> None:
    target = synthetic_target(seed, codons)
    protein, _ = translate_dna(target)
    scores_csv, counts_csv = generate(seed, max(1, int(63 * codons * share)), target)
    scores, counts = table(scores_csv), table(counts_csv)
    assert scores["hgvs_nt"].is_unique().all()
    assert scores.select("hgvs_nt", "hgvs_pro").equals(counts.select("hgvs_nt", "hgvs_pro"))
    for nucleotide, consequence in scores.select("hgvs_nt", "hgvs_pro").iter_rows():
        Variant(nucleotide, targetseq=target)  # raises where it does not fit
        Variant(consequence, targetseq=protein)
    assert all(min(reads) >= 0 for reads in counts.drop("hgvs_nt", "hgvs_pro").iter_rows())


def test_a_seed_gives_one_score_set() -> None:
    assert generate(1, 500, BRCA1_RING) == generate(1, 500, BRCA1_RING)
    assert generate(1, 500, BRCA1_RING) != generate(2, 500, BRCA1_RING)


def test_scores_have_two_modes_and_follow_the_consequence() -> None:
    rows = table(generate(3, 6_000, BRCA1_RING)[0]).select("hgvs_pro", "score")
    scores: dict[str, list[float]] = {"=": [], "Ter": [], "missense": []}
    for consequence, score in rows.iter_rows():
        kind = next((end for end in ("=", "Ter") if consequence.endswith(end)), "missense")
        scores[kind].append(score)
    assert median(scores["="]) == pytest.approx(1, abs=0.05)
    assert median(scores["Ter"]) == pytest.approx(0, abs=0.05)
    near = {
        middle: sum(abs(score - middle) < 0.15 for score in scores["missense"])
        for middle in (0.0, 0.5, 1.0)
    }
    assert near[0.5] < 0.5 * min(near[0.0], near[1.0])


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("ATGAA", "codon 2, 'AA', is not three of A, C, G, T"),
        ("ATGTAAGGG", "codon 2, 'TAA', is a stop before the end"),
        ("ATG", "1 codons have 63 changes; 64 were asked for"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused(target: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        generate(1, 64, target)
