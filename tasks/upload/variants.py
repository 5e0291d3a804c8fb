"""The rows of MaveDB's table variants for a validated upload."""

from collections.abc import Iterator

import polars as pl

from tasks.upload.rules import ScoreTables
from tasks.upload.table import HGVS_COLUMNS

VariantRow = tuple[str, str | None, str | None, str | None, str]

_ROWS_IN_BLOCK = 50_000
_DATA = pl.struct(pl.exclude(HGVS_COLUMNS))


def variant_rows(tables: ScoreTables, score_set_urn: str) -> Iterator[VariantRow]:
    """Yield (urn, hgvs_nt, hgvs_splice, hgvs_pro, data as JSON text) in the scores' order.

    The URN is the score set's and `#n`, n from 1. data is
    `{"score_data": {...}, "count_data": {...}}` with each table's columns but the HGVS ones.
    """
    for start in range(0, tables.scores.height, _ROWS_IN_BLOCK):
        scores = tables.scores.slice(start, _ROWS_IN_BLOCK)
        counts = None if tables.counts is None else tables.counts.slice(start, _ROWS_IN_BLOCK)
        rows = zip(scores.select(HGVS_COLUMNS).iter_rows(), _json(scores, counts), strict=True)
        for number, ((nt, splice, pro), data) in enumerate(rows, start=start + 1):
            yield f"{score_set_urn}#{number}", nt, splice, pro, data


def _json(scores: pl.DataFrame, counts: pl.DataFrame | None) -> pl.Series:
    no_counts = pl.lit({}, dtype=pl.Struct([]))
    data = scores.select(
        score_data=_DATA,
        count_data=no_counts if counts is None else counts.select(_DATA).to_series(),
    )
    return data.select(pl.struct(pl.all()).struct.json_encode()).to_series()
