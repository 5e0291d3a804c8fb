"""MaveDB's rules for uploads on real tables, and on many real rows."""

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from fqfa.constants import AA_CODES

from deployments.local.submission import read_export
from mavedb_audit.errors import StepError
from tasks.upload.reading import read_table
from tasks.upload.rules import Target, validate_tables
from tasks.upload.variants import variant_frames

URN = "urn:mavedb:00000001-a-1"
ONE_LETTER = {long: short for short, long in AA_CODES.items()}
AMYLOID = "DAEFRHDSGYEVHHQKLVFFAEDVGSNKGAIIGLMVGGVVIA"


def upload(scores: bytes, sequence: str, sequence_type: str) -> list[tuple[Any, ...]]:
    tables = validate_tables(
        read_table(scores, "scores.csv"),
        None,
        [Target("a target", None, sequence, sequence_type, None, False)],
        scores_file="scores.csv",
        counts_file=None,
        score_columns_metadata=None,
        count_columns_metadata=None,
    )
    return [row for frame in variant_frames(tables, URN) for row in frame.iter_rows()]


@pytest.mark.parametrize(
    ("number", "target", "count"),
    [
        ("00000001-b-2", "SUMO1", 4),
        ("00000041-a-1", "Src_catalytic_domain", 5),
        ("00000068-a-1", "TP53_P72R", 47),
        ("00000093-a-1", "BRCA1_translation_start_through_RING_domain", 853),
        ("00000099-a-1", "RHO", 4),
        ("00000103-c-1", "MAPK1", 4),
    ],
)
def test_every_row_matches_the_captured_target(
    data: Path, number: str, target: str, count: int
) -> None:
    folder = data / "scoresets"
    export = read_export(
        folder / f"urn_mavedb_{number}_scores.csv", None, folder / "targets" / f"{target}.fasta"
    )
    assert len(upload(export.scores_csv, export.sequence, export.sequence_type)) == count


def scores_of(data: Path, number: str) -> bytes:
    """A captured table as it was uploaded, before MaveDB gave its rows accessions."""
    folder = data / "scoresets"
    scores = folder / f"urn_mavedb_{number}_scores.csv"
    return read_export(scores, None, folder / "targets" / "SUMO1.fasta").scores_csv


def test_a_whole_real_protein_score_set_is_accepted(data: Path) -> None:
    scores = scores_of(data, "00000072-a-1")
    residues = {
        int(n): ONE_LETTER[old]
        for old, n in re.findall(r"p\.([A-Z][a-z]{2})(\d+)", scores.decode())
    }
    # What no variant says anything of is alanine.
    sequence = "".join(residues.get(n, "A") for n in range(1, max(residues) + 1))

    rows = upload(scores, sequence, "protein")

    assert len(rows) == 698
    assert all(pro and not nt for _, nt, _, pro, _ in rows)


def test_of_a_real_regulatory_score_set_the_rows_that_change_nothing_are_refused(
    data: Path,
) -> None:
    scores = scores_of(data, "00000024-a-1")
    bases = {int(n): old for n, old in re.findall(r"n\.(\d+)([ACGT])>", scores.decode())}
    sequence = "".join(bases.get(n, "A") for n in range(1, max(bases) + 1))

    with pytest.raises(StepError) as caught:
        upload(scores, sequence, "dna")

    assert len(caught.value.details) == scores.decode().count("=,") == 246
    assert all("= is not valid MAVE-HGVS" in detail for detail in caught.value.details)


def test_sixteen_thousand_real_mutants_are_accepted_and_numbered(data: Path) -> None:
    packed = data / "scoresets" / "mavenn" / "amyloid_data.csv.gz"
    with gzip.open(packed, "rt", newline="") as file:
        measured = list(csv.DictReader(file))
    changes = [hgvs_of(row["x"]) for row in measured]
    scores = "\n".join(
        ["hgvs_pro,score", *(f"{c},{row['y']}" for c, row in zip(changes, measured, strict=True))]
    )

    rows = upload(scores.encode(), AMYLOID, "protein")

    assert [(urn, pro) for urn, _, _, pro, _ in rows] == [
        (f"{URN}#{n}", change) for n, change in enumerate(changes, start=1)
    ]
    assert len(rows) == 16_066
    assert sum(";" in change for change in changes) > 14_000


def hgvs_of(mutant: str) -> str:
    """The changes of the wild type; the data mark a stop with an asterisk."""
    changes = [
        f"{AA_CODES[old]}{n}{AA_CODES[new]}"
        for n, (old, new) in enumerate(zip(AMYLOID, mutant, strict=True), start=1)
        if old != new
    ]
    return f"p.{changes[0]}" if len(changes) == 1 else f"p.[{';'.join(changes)}]"
