"""The variant rows of an upload, from bytes to JSON."""

import csv
import io
import json
import random
from collections.abc import Sequence
from typing import Any

from fqfa.constants import AA_CODES
from fqfa.util.translate import translate_dna
from hypothesis import given
from hypothesis import strategies as st

from tasks.upload.reading import read_table
from tasks.upload.rules import ScoreTables, Target, validate_tables
from tasks.upload.variants import variant_frames

URN = "tmp:5a4f1d4e-0000-4000-8000-000000000000"

codons = st.text("ACGT", min_size=3, max_size=3)
numbers = st.floats(allow_nan=False, allow_infinity=False)
# Text that is neither a number nor a null token, and that CSV can carry.
_controls = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), 127]))
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=_controls), min_size=1, max_size=8
).map(lambda text: f"x{text}x")


def upload(scores: str, counts: str | None = None, sequence: str = "ATGGGTTAC") -> ScoreTables:
    return validate_tables(
        read_table(scores.encode(), "s.csv"),
        None if counts is None else read_table(counts.encode(), "c.csv"),
        [Target("GENE1", None, sequence, "dna", None, False)],
        scores_file="s.csv",
        counts_file="c.csv",
        score_columns_metadata=None,
        count_columns_metadata=None,
    )


def variant_rows(tables: ScoreTables) -> list[tuple[Any, ...]]:
    return [row for frame in variant_frames(tables, URN) for row in frame.iter_rows()]


def csv_text(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


@st.composite
def changed_codons(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A DNA target and distinct changes of its codons, as (hgvs_nt, hgvs_pro)."""
    target = draw(st.lists(codons, min_size=1, max_size=12))
    left_over = draw(st.text("ACGT", max_size=2))
    place = st.tuples(st.integers(0, len(target) - 1), codons)
    variants = []
    for number, new in draw(st.lists(place, min_size=1, max_size=20, unique=True)):
        old_residue, new_residue = (AA_CODES[translate_dna(c)[0]] for c in (target[number], new))
        change = "=" if old_residue == new_residue else new_residue
        start = 3 * number + 1
        nt = f"c.{start}_{start + 2}delins{new}"
        variants.append((nt, f"p.{old_residue}{number + 1}{change}"))
    return "".join(target) + left_over, variants


def test_rows_carry_the_urn_the_hgvs_and_all_data() -> None:
    rows = variant_rows(
        upload(
            "hgvs_nt,hgvs_pro,score,n,m,note\nc.4G>A,p.Gly2Ser,0,1,1,low\nc.3G>A,,NA,2,NA,none\n",
            "hgvs_nt,hgvs_pro,c0,c1\nc.3G>A,,NA,7\nc.4G>A,p.Gly2Ser,5,8\n",
        )
    )
    assert [row[:4] for row in rows] == [
        (f"{URN}#1", "c.4G>A", None, "p.Gly2Ser"),
        (f"{URN}#2", "c.3G>A", None, None),
    ]
    first, second = (json.loads(row[4]) for row in rows)
    assert first == {
        "score_data": {"score": 0, "n": 1, "m": 1, "note": "low"},
        "count_data": {"c0": 5, "c1": 8},
    }
    assert second == {
        "score_data": {"score": None, "n": 2, "m": None, "note": None},
        "count_data": {"c0": None, "c1": 7},
    }
    # Integers stay integers; those of a column with a null are floats.
    assert [type(first["score_data"][name]) for name in ("n", "m")] == [int, float]
    assert [type(first["count_data"][name]) for name in ("c1", "c0")] == [int, float]


def test_without_counts_their_data_are_an_empty_object() -> None:
    (row,) = variant_rows(upload("hgvs_pro,score\np.=,1.5\n"))
    assert json.loads(row[4]) == {"score_data": {"score": 1.5}, "count_data": {}}


def test_rows_are_numbered_through_when_there_are_many() -> None:
    inserted = [f"{n:016b}".replace("0", "A").replace("1", "C") for n in range(50_001)]
    table = "".join(f"n.1_2ins{bases},{n}\n" for n, bases in enumerate(inserted, start=1))
    rows = variant_rows(upload(f"hgvs_nt,score\n{table}", f"hgvs_nt,c0\n{table}"))
    found = [(urn, nt, json.loads(data)) for urn, nt, _, _, data in rows]
    assert found == [
        (f"{URN}#{n}", f"n.1_2ins{bases}", {"score_data": {"score": n}, "count_data": {"c0": n}})
        for n, bases in enumerate(inserted, start=1)
    ]


@given(changed_codons())
def test_any_change_of_the_targets_codons_is_accepted_as_written(
    case: tuple[str, list[tuple[str, str]]],
) -> None:
    sequence, variants = case
    table = [("hgvs_nt", "hgvs_pro", "score"), *((*variant, 1) for variant in variants)]
    rows = variant_rows(upload(csv_text(table), sequence=sequence))
    assert [(nt, pro) for _, nt, _, pro, _ in rows] == variants


@given(changed_codons(), st.randoms(use_true_random=False))
def test_the_order_of_the_counts_does_not_matter(
    case: tuple[str, list[tuple[str, str]]], rnd: random.Random
) -> None:
    sequence, variants = case
    header = ["hgvs_nt", "hgvs_pro"]
    rows = [[*variant, str(n)] for n, variant in enumerate(variants)]
    scores = csv_text([[*header, "score"], *rows])
    ordered_rows, shuffled_rows = (
        variant_rows(upload(scores, csv_text([[*header, "c0"], *counts]), sequence))
        for counts in (rows, rnd.sample(rows, len(rows)))
    )
    assert shuffled_rows == ordered_rows


@given(st.lists(st.tuples(numbers | st.none(), names), min_size=1, max_size=8), names)
def test_numbers_text_and_column_names_come_through_unchanged(
    cells: list[tuple[float | None, str]], name: str
) -> None:
    # A first row with values, so that no column is empty.
    cells = [(0.1, "text"), *cells]
    variants = [f"n.1_2ins{'A' * n}" for n in range(1, len(cells) + 1)]
    table = [
        ("hgvs_nt", "score", name),
        *(
            (variant, "NA" if score is None else repr(score), text)
            for variant, (score, text) in zip(variants, cells, strict=True)
        ),
    ]
    found = [json.loads(data)["score_data"] for *_, data in variant_rows(upload(csv_text(table)))]
    assert found == [{"score": score, name: text} for score, text in cells]
