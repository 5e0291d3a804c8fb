"""The rows of MaveDB's table variants for a validated upload."""

from collections.abc import Iterator

import polars as pl

from tasks.upload.rules import ScoreTables
from tasks.upload.table import HGVS_COLUMNS

_ROWS_IN_BLOCK = 50_000
_DATA = pl.struct(pl.exclude(HGVS_COLUMNS))


def variant_frames(tables: ScoreTables, score_set_urn: str) -> Iterator[pl.DataFrame]:
    """Yield the rows in the scores' order, some at a time.

    Their columns are urn, the score set's and `#n`, n from 1; hgvs_nt, hgvs_splice and hgvs_pro;
    and data, the JSON text `{"score_data": {...}, "count_data": {...}}` with each table's columns
    but the HGVS ones.
    """
    for start in range(0, tables.scores.height, _ROWS_IN_BLOCK):
        scores = tables.scores.slice(start, _ROWS_IN_BLOCK)
        counts = None if tables.counts is None else tables.counts.slice(start, _ROWS_IN_BLOCK)
        number = pl.int_range(start + 1, start + 1 + scores.height).cast(pl.String)
        yield scores.select(
            *HGVS_COLUMNS,
            urn=pl.lit(f"{score_set_urn}#") + number,
            data=_json(scores, counts),
        ).select("urn", *HGVS_COLUMNS, "data")


def _json(scores: pl.DataFrame, counts: pl.DataFrame | None) -> pl.Series:
    no_counts = pl.lit({}, dtype=pl.Struct([]))
    data = scores.select(
        score_data=_DATA,
        count_data=no_counts if counts is None else counts.select(_DATA).to_series(),
    )
    return data.select(pl.struct(pl.all()).struct.json_encode()).to_series()
