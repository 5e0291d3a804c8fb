"""ClinVar's variant_summary as it was written over the years, read and kept."""

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from deployments.local.simulators.clinvar_releases import assertions, release_text
from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from tasks.clinvar.variant_summary import Summary, read_summary

COLUMNS = "#AlleleID\tName\tGeneSymbol\tClinicalSignificance\tAssembly\tReviewStatus\tVariationID"


def row(allele_id: Any, significance: str, assembly: str, **more: Any) -> str:
    """A row in the order of COLUMNS."""
    values = {"name": "", "gene": "PTEN", "review": "-", "variation_id": 7} | more
    return "\t".join(
        str(value)
        for value in (
            allele_id,
            values["name"],
            values["gene"],
            significance,
            assembly,
            values["review"],
            values["variation_id"],
        )
    )


def read(folder: Path, *lines: str, encoding: str = "utf-8") -> Summary:
    text = "\n".join(lines) + "\n"
    return read_bytes(folder, gzip.compress(text.encode(encoding)))


def read_bytes(folder: Path, content: bytes) -> Summary:
    file = folder / "variant_summary.txt.gz"
    file.write_bytes(content)
    return read_summary(file, "2026-01")


def significances(summary: Summary) -> dict[int, str]:
    return {
        row["allele_id"]: row["clinical_significance"]
        for row in summary.alleles.iter_rows(named=True)
    }


def refusal(folder: Path, content: bytes) -> StepError:
    with pytest.raises(StepError) as caught:
        read_bytes(folder, content)
    assert "2026-01" in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("year", "month"), [(2015, 2), (2017, 1), (2018, 1), (2021, 1), (2024, 6), (2026, 1)]
)
def test_every_format_says_the_same_in_its_own_columns(
    tmp_path: Path, year: int, month: int
) -> None:
    summary = read(tmp_path, *release_text(year, month).splitlines())

    said = list(assertions(year, month))
    assert summary.rows == sum(len(a.assemblies) for a in said)
    assert summary.nobodys_rows == 0
    assert summary.alleles.rows() == [
        (a.allele_id, a.variation_id, a.gene_symbol, a.clinical_significance, a.review_status)
        for a in said
    ]


def test_of_an_alleles_rows_the_newest_assemblys_counts_wherever_it_stands(
    tmp_path: Path,
) -> None:
    rows = [
        row(30, "GRCh38's", "GRCh38"),
        row(10, "NCBI36's", "NCBI36"),
        row(20, "nobody's", ""),
        row(10, "GRCh37's", "GRCh37"),
        row(20, "na's", "na"),
        row(10, "GRCh38's first", "GRCh38"),
        row(10, "GRCh38's second", "GRCh38"),
        row(30, "GRCh37's", "GRCh37"),
    ]
    # More rows than are read in one piece, of many lengths, in between and in any order.
    others = [
        row(n, "theirs", "GRCh38", name="x" * (n % 500), variation_id=n)
        for n in range(1_000, 50_000)
    ]
    random.Random(1).shuffle(others)

    nobodys = row("n/a", "Benign", "GRCh38")
    summary = read(tmp_path, COLUMNS, nobodys, *rows[:4], *others, *rows[4:])

    assert summary.alleles["allele_id"].is_sorted()
    found = significances(summary)
    assert {n: found[n] for n in (10, 20, 30)} == {
        10: "GRCh38's first",
        20: "nobody's",
        30: "GRCh38's",
    }
    assert (summary.rows, summary.nobodys_rows) == (1 + len(rows) + len(others), 1)
    assert [n for n in summary.alleles["variation_id"] if n >= 1_000] == list(range(1_000, 50_000))


def test_quotes_dashes_stray_bytes_and_long_fields_are_data(tmp_path: Path) -> None:
    summary = read(
        tmp_path,
        COLUMNS,
        row(1, '"a bare quote', "GRCh38", gene="-", name="x" * 500_000),
        row(2, "", "GRCh38", gene="A;B", variation_id="-"),
        row(3, "drug responsé", "GRCh38", variation_id=-1),
        encoding="latin-1",
    )

    assert summary.alleles.rows() == [
        (1, 7, "-", '"a bare quote', "-"),
        (2, None, "A;B", "", "-"),
        (3, -1, "PTEN", "drug respons\N{REPLACEMENT CHARACTER}", "-"),
    ]


def test_a_row_that_broke_off_is_known_and_one_without_an_id_is_counted(tmp_path: Path) -> None:
    broken = row(1, "Benign", "GRCh38").split("\t")[:4]
    rows = [row(n, "Benign", "GRCh38") for n in range(100, 300)]

    summary = read(
        tmp_path,
        COLUMNS,
        "\t".join(broken),
        "\t".join([*broken[:1], "", "PTEN", "Likely benign"]).replace("1", "2", 1),
        row(2, "Pathogenic", "GRCh37"),
        row(3, "Benign", "GRCh38") + "\tmore\tthan there are columns",
        row("n/a", "Benign", "GRCh38"),
        *rows,
    )

    assert (summary.rows, summary.nobodys_rows) == (205, 1)
    first, second, third = summary.alleles.rows()[:3]
    assert first == (1, None, "PTEN", "Benign", None)
    assert second == (2, 7, "PTEN", "Pathogenic", "-"), "the whole row counts, not the broken one"
    assert third == (3, 7, "PTEN", "Benign", "-")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("#AlleleID", "#AlleleID"),
        ("ReviewStatus", "ReviewStatus"),
        ("VariationID", "VariationID or VariantID"),
    ],
)
def test_a_missing_column_is_named_and_the_header_shown(
    tmp_path: Path, column: str, said: str
) -> None:
    header = COLUMNS.replace(column, "Other")
    text = f"{header}\n{row(1, 'Benign', 'GRCh38')}\n"

    error = refusal(tmp_path, gzip.compress(text.encode()))

    assert error.category is FailureCategory.DATA_ERROR
    assert f"lacks the column {said};" in str(error)
    assert header in str(error)


WHOLE = gzip.compress("\n".join([COLUMNS, *(row(n, "-", "na") for n in range(9_999))]).encode())


@pytest.mark.parametrize(
    "content",
    [
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-4],
        WHOLE[:20],
        WHOLE[: len(WHOLE) // 2] + b"\0" + WHOLE[len(WHOLE) // 2 + 1 :],
        WHOLE[:-8] + b"\0\0\0\0" + WHOLE[-4:],
        b"\x1f\x8b no gzip file",
    ],
    ids=["half", "no end", "no header", "a wrong byte", "a wrong checksum", "only the magic"],
)
def test_a_file_that_was_damaged_on_its_way_is_worth_another_try(
    tmp_path: Path, content: bytes
) -> None:
    assert read_bytes(tmp_path, WHOLE).rows == 9_999
    error = refusal(tmp_path, content)
    assert error.category is FailureCategory.NETWORK_ERROR


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [row("-", "Benign", "GRCh38")] * 3,
        [*[row(1, "-", "na")] * 90, *[row("", "-", "na")] * 2],
    ],
    ids=["no rows", "no ids", "two in a hundred without an id"],
)
def test_a_release_without_its_alleles_is_refused(tmp_path: Path, lines: list[str]) -> None:
    text = "\n".join([COLUMNS, *lines]) + "\n"
    error = refusal(tmp_path, gzip.compress(text.encode()))
    assert error.category is FailureCategory.DATA_ERROR
    assert f"of {len(lines)} rows" in str(error)
