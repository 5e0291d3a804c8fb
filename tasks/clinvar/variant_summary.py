"""ClinVar's variant_summary file: one gzipped TSV a release, whose columns changed over the years.

Columns are told by their names, since NCBI has moved, renamed and added some. There is no quoting,
a stray byte that is not UTF-8 harms nobody, and "-" is an ordinary text. Of the columns that are
kept, only the review status is never empty.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory

#: What is kept of a release, one row an allele, in the order of its ids. The review status is null
#: in a row that broke off.
COLUMNS = {
    "allele_id": pl.Int32,
    "variation_id": pl.Int32,
    "gene_symbol": pl.Categorical,
    "clinical_significance": pl.Categorical,
    "review_status": pl.Categorical,
}

_ALLELE_ID = "#AlleleID"
_GENE, _SIGNIFICANCE, _REVIEW = "GeneSymbol", "ClinicalSignificance", "ReviewStatus"
_ASSEMBLY = "Assembly"
#: The variation's id, and what it was called until 2017.
_VARIATION_IDS = ("VariationID", "VariantID")
_LONGEST_HEADER_BYTES = 100_000
#: A release of 2026 has 4 GB, in lines of one to some kilobytes.
_MOST_UNPACKED_BYTES = 32 * 1024**3
_LONGEST_LINE_BYTES = 4 * 1024**2
#: Rows without an allele's id belong to nobody. More of them are a new format, not a mishap.
_MOST_NOBODYS_ROWS = 0.01


@dataclass(frozen=True)
class Summary:
    """A release's alleles, in COLUMNS. `rows` were in the file, `nobodys_rows` of them unusable."""

    alleles: pl.DataFrame
    rows: int
    nobodys_rows: int


def read_summary(path: Path, release: str) -> Summary:
    """Read the gz file in one pass; of an allele's rows GRCh38's counts, else GRCh37's, else any.

    Raises StepError: network_error for a file that was cut off or damaged on its way, data_error
    for one that lacks a column or its rows.
    """
    try:
        _check_unpacked(path, release)
        variation_id = _check_header(_header(path), release)
        rows = _rows(path, variation_id)
    except (EOFError, OSError, zlib.error) as error:
        raise StepError(
            f"The file of ClinVar {release} was cut off or damaged on its way: {error}",
            FailureCategory.NETWORK_ERROR,
        ) from error
    # The first of an allele's rows is its best one; ties keep the file's order.
    alleles = (
        rows.filter(pl.col("allele_id").is_not_null())
        .sort("allele_id", "rank", maintain_order=True)
        .unique("allele_id", keep="first", maintain_order=True)
        .select(*COLUMNS)
    )
    nobodys = rows["allele_id"].null_count()
    if alleles.is_empty() or nobodys > _MOST_NOBODYS_ROWS * rows.height:
        raise StepError(
            f"ClinVar {release}: {nobodys:,} of {rows.height:,} rows have no {_ALLELE_ID} that is a"
            " number. Either the file is incomplete or its format has changed",
            FailureCategory.DATA_ERROR,
        )
    return Summary(alleles, rows.height, nobodys)


def _rows(path: Path, variation_id: str) -> pl.DataFrame:
    """The file's rows in its order: COLUMNS, and the rank of the row among those of its allele.

    Polars unpacks and reads in pieces, drops the other columns at once and stores each distinct
    text once: of three million rows, 1.8 GB unpacked, 0.4 GB of memory in all.
    """
    rank = (
        pl.when(pl.col(_REVIEW).is_null())
        .then(3)
        .when(pl.col(_ASSEMBLY) == "GRCh38")
        .then(0)
        .when(pl.col(_ASSEMBLY) == "GRCh37")
        .then(1)
        .otherwise(2)
    )
    file = pl.scan_csv(
        path,
        separator="\t",
        quote_char=None,
        encoding="utf8-lossy",
        infer_schema=False,
        schema_overrides={_ALLELE_ID: pl.Int32, variation_id: pl.Int32},
        ignore_errors=True,  # a number that is none becomes null
        low_memory=True,
    )
    return file.select(
        pl.col(_ALLELE_ID).alias("allele_id"),
        pl.col(variation_id).alias("variation_id"),
        _text(_GENE).fill_null("").alias("gene_symbol"),
        _text(_SIGNIFICANCE).fill_null("").alias("clinical_significance"),
        _text(_REVIEW).alias("review_status"),
        rank.cast(pl.Int8).alias("rank"),
    ).collect(engine="streaming")


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Categorical)


def _check_unpacked(path: Path, release: str) -> None:
    """Refuse what would fill the memory once it is unpacked."""
    unpacked = 0
    with gzip.open(path) as file:
        while piece := file.read(_LONGEST_LINE_BYTES):
            unpacked += len(piece)
            is_endless = len(piece) == _LONGEST_LINE_BYTES and b"\n" not in piece
            if unpacked > _MOST_UNPACKED_BYTES or is_endless:
                raise StepError(
                    f"The file of ClinVar {release} is not unpacked any further: after"
                    f" {unpacked:,} bytes "
                    + (
                        f"a line has {_LONGEST_LINE_BYTES:,} bytes or more"
                        if is_endless
                        else f"it goes on, and at most {_MOST_UNPACKED_BYTES:,} are read"
                    ),
                    FailureCategory.DATA_ERROR,
                )


def _header(path: Path) -> str:
    with gzip.open(path) as file:
        return file.readline(_LONGEST_HEADER_BYTES).decode(errors="replace").rstrip("\r\n")


def _check_header(header: str, release: str) -> str:
    """The name of the column that holds the variation's id."""
    names = set(header.split("\t"))
    variation_ids = [name for name in _VARIATION_IDS if name in names]
    missing = [
        name for name in (_ALLELE_ID, _GENE, _SIGNIFICANCE, _REVIEW, _ASSEMBLY) if name not in names
    ]
    if not variation_ids:
        missing.append(" or ".join(_VARIATION_IDS))
    if missing:
        raise StepError(
            f"ClinVar {release} lacks the column {', '.join(missing)}; its header is:"
            f" {header[:1_000]}",
            FailureCategory.DATA_ERROR,
        )
    return variation_ids[0]
