"""ClinVar's variant_summary file: one gzipped TSV a release, whose columns changed over the years.

Columns are told by their names, since NCBI has moved, renamed and added some. There is no quoting,
a stray byte that is not UTF-8 harms nobody, and "-" is an ordinary text. Of the columns that are
kept, only the review status is never empty.
"""

import gzip
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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

#: A row as it is read: the lower its rank, the better it is among those of its allele.
_ROWS = COLUMNS | {"rank": pl.Int8}

_ALLELE_ID = "#AlleleID"
_GENE, _SIGNIFICANCE, _REVIEW = "GeneSymbol", "ClinicalSignificance", "ReviewStatus"
_ASSEMBLY = "Assembly"
#: The variation's id, and what it was called until 2017.
_VARIATION_IDS = ("VariationID", "VariantID")
_LONGEST_HEADER_BYTES = 100_000
#: A release of 2026 has 4 GB, in lines of one to some kilobytes.
_MOST_UNPACKED_BYTES = 32 * 1024**3
_LONGEST_LINE_BYTES = 4 * 1024**2
#: Larger pieces take more memory, and are read no faster.
_PIECE_BYTES = 4 * 1024**2
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
    for one that lacks a column or its rows, or whose lines or whole would fill the memory.
    """
    kept = [pl.DataFrame(schema=_ROWS)]
    rows = nobodys_rows = 0
    try:
        for piece in _read(path, release):
            rows += piece.height
            nobodys_rows += piece["allele_id"].null_count()
            kept.append(_best(piece.filter(pl.col("allele_id").is_not_null())))
    except (EOFError, OSError, zlib.error) as error:
        raise StepError(
            f"The file of ClinVar {release} was cut off or damaged on its way: {error}",
            FailureCategory.NETWORK_ERROR,
        ) from error
    alleles = _best(pl.concat(kept)).select(*COLUMNS)
    if alleles.is_empty() or nobodys_rows > _MOST_NOBODYS_ROWS * rows:
        raise StepError(
            f"ClinVar {release}: {nobodys_rows:,} of {rows:,} rows have no {_ALLELE_ID} that is a"
            " number. Either the file is incomplete or its format has changed",
            FailureCategory.DATA_ERROR,
        )
    return Summary(alleles, rows, nobodys_rows)


def _best(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each allele's rows the best one, in the order of the alleles; ties keep the file's."""
    return rows.sort("allele_id", "rank", maintain_order=True).unique(
        "allele_id", keep="first", maintain_order=True
    )


def _read(path: Path, release: str) -> Iterator[pl.DataFrame]:
    """The file's rows in its order, in pieces of _ROWS; the next is unpacked while one is read."""
    with gzip.open(path) as file, ThreadPoolExecutor(1) as unpacking:
        header = _line(file, _LONGEST_HEADER_BYTES, release)
        variation_id = _check_header(header.decode(errors="replace").rstrip("\r\n"), release)
        pieces = _pieces(file, header, release)
        coming = unpacking.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = unpacking.submit(next, pieces, None)
            yield _rows(piece, variation_id)


def _pieces(file: gzip.GzipFile, header: bytes, release: str) -> Iterator[bytes]:
    """What follows in the file, in pieces of whole lines, each below the header."""
    while text := file.read(_PIECE_BYTES):
        piece = b"".join((header, text, _line(file, _LONGEST_LINE_BYTES, release)))
        if file.tell() > _MOST_UNPACKED_BYTES:
            raise _too_much(
                file, f"it goes on, and at most {_MOST_UNPACKED_BYTES:,} are read", release
            )
        yield piece


def _line(file: gzip.GzipFile, most_bytes: int, release: str) -> bytes:
    """The file up to the end of the line, or of the file."""
    line = file.readline(most_bytes)
    if len(line) == most_bytes:
        raise _too_much(file, f"a line has {most_bytes:,} bytes or more", release)
    return line


def _too_much(file: gzip.GzipFile, why: str, release: str) -> StepError:
    """The refusal of what would fill the memory once it is unpacked."""
    return StepError(
        f"The file of ClinVar {release} is not unpacked any further: after {file.tell():,} bytes"
        f" {why}",
        FailureCategory.DATA_ERROR,
    )


def _rows(piece: bytes, variation_id: str) -> pl.DataFrame:
    """The piece's rows: of the other columns nothing is kept, of each distinct text one copy."""
    rank = (
        pl.when(pl.col(_REVIEW).is_null())
        .then(3)
        .when(pl.col(_ASSEMBLY) == "GRCh38")
        .then(0)
        .when(pl.col(_ASSEMBLY) == "GRCh37")
        .then(1)
        .otherwise(2)
    )
    lines = pl.scan_csv(
        piece,
        separator="\t",
        quote_char=None,
        encoding="utf8-lossy",
        infer_schema=False,
        schema_overrides={_ALLELE_ID: pl.Int32, variation_id: pl.Int32},
        ignore_errors=True,  # a number that is none becomes null
    )
    return lines.select(
        pl.col(_ALLELE_ID).alias("allele_id"),
        pl.col(variation_id).alias("variation_id"),
        _text(_GENE).fill_null("").alias("gene_symbol"),
        _text(_SIGNIFICANCE).fill_null("").alias("clinical_significance"),
        _text(_REVIEW).alias("review_status"),
        rank.cast(pl.Int8).alias("rank"),
    ).collect()


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Categorical)


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
