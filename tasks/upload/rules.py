"""MaveDB's rules for uploaded score and count tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from tasks.upload.hgvs import check_hgvs_column, prefix_combination_problem
from tasks.upload.pairing import check_same_identifiers, paired_rows
from tasks.upload.reading import clean_column_name
from tasks.upload.table import (
    GUIDE_SEQUENCE,
    HGVS_COLUMNS,
    SCORE,
    STANDARD_COLUMNS,
    Table,
    raise_problems,
)
from tasks.upload.targets import Target, Targets, arrange_targets
from tasks.upload.values import typed_column

__all__ = ["ScoreTables", "Target", "validate_tables"]


@dataclass(frozen=True)
class ScoreTables:
    """A validated upload.

    Both tables hold the three HGVS columns first and then their data columns, as text, integers
    or floats. The counts are in the order of the scores, row by row. `index_column` names the
    column that identifies the rows. `dataset_columns` is as in MaveDB's scoresets.
    """

    scores: pl.DataFrame
    counts: pl.DataFrame | None
    dataset_columns: dict[str, Any]
    index_column: str


def validate_tables(
    scores: pl.DataFrame,
    counts: pl.DataFrame | None,
    targets: Sequence[Target],
    *,
    scores_file: str,
    counts_file: str | None,
    score_columns_metadata: Mapping[str, Any] | None,
    count_columns_metadata: Mapping[str, Any] | None,
) -> ScoreTables:
    """Check the tables that `read_table` gave, all rules at once where one does not need another.

    Raises StepError (validation_error); its details hold one text a problem.
    """
    arranged = arrange_targets(targets)
    score_table = Table(f"scores {scores_file}", _ordered(scores))
    count_table = None if counts is None else Table(f"counts {counts_file}", _ordered(counts))
    tables = [score_table] if count_table is None else [score_table, count_table]

    score_metadata = _checked_metadata(score_table, score_columns_metadata)
    count_metadata: dict[str, Any] = {}
    if count_table is not None:
        count_metadata = _checked_metadata(count_table, count_columns_metadata)
    elif count_columns_metadata:
        score_table.refuse("column metadata came for counts, but no counts table; upload both")

    if SCORE not in score_table.frame.columns:
        score_table.refuse("the column score is missing; add it")
    if count_table is not None and SCORE in count_table.frame.columns:
        count_table.refuse("a counts table must not have a column score; rename it or leave it out")

    index = _index_column(score_table, arranged)
    _check_hgvs(score_table, arranged)
    identified = True
    for table in tables:
        _check_rows_hold_values(table)
        _check_guides(table)
        identified &= _check_index(table, index)
    pairs: pl.Series | None = None
    if count_table is not None and check_same_identifiers(score_table, count_table) and identified:
        pairs = paired_rows(score_table, count_table, index)
    typed_scores = _typed(score_table, text_allowed=True)
    typed_counts = None
    if count_table is not None:
        typed_counts = _typed(count_table, text_allowed=False)
    raise_problems(tables)

    if typed_counts is not None and pairs is not None:
        typed_counts = typed_counts[pairs]
    return ScoreTables(
        scores=typed_scores,
        counts=typed_counts,
        dataset_columns={
            "score_columns": _non_hgvs(typed_scores),
            "count_columns": [] if typed_counts is None else _non_hgvs(typed_counts),
            "score_columns_metadata": score_metadata,
            "count_columns_metadata": count_metadata,
        },
        index_column=index,
    )


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with all three HGVS columns, and the standard columns in front."""
    missing = [name for name in HGVS_COLUMNS if name not in frame.columns]
    complete = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in missing)
    standard = [name for name in STANDARD_COLUMNS if name in complete.columns]
    return complete.select(*standard, *(n for n in complete.columns if n not in STANDARD_COLUMNS))


def _non_hgvs(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in HGVS_COLUMNS]


def _checked_metadata(table: Table, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata under cleaned column names."""
    cleaned: dict[str, Any] = {}
    for key, value in (metadata or {}).items():
        name = clean_column_name(key)
        if name in STANDARD_COLUMNS:
            table.refuse(f"column metadata for {name}: a standard column has none; leave it out")
        elif name not in table.frame.columns:
            table.refuse(f"column metadata for {name}: the table has no such column")
        elif not isinstance(value, Mapping) or not isinstance(value.get("description"), str):
            table.refuse(f"column metadata for {name}: must have a description")
        else:
            cleaned[name] = {"details": None, **value}
    return cleaned


def _index_column(scores: Table, targets: Targets) -> str:
    """The column that identifies the rows."""
    if targets.base_editor:
        for column in (GUIDE_SEQUENCE, "hgvs_nt"):
            if not scores.has(column):
                scores.refuse(f"column {column} is needed for base editor targets; fill it")
        return GUIDE_SEQUENCE
    if scores.has("hgvs_nt"):
        return "hgvs_nt"
    if not scores.has("hgvs_pro"):
        scores.refuse("neither hgvs_nt nor hgvs_pro holds a variant; fill one of them")
    return "hgvs_pro"


def _check_hgvs(scores: Table, targets: Targets) -> None:
    """Check the scores' variants; the counts' are held against the scores' by pairing."""
    filled = [column for column in HGVS_COLUMNS if scores.has(column)]
    prefixes = {column: check_hgvs_column(scores, column, targets) for column in filled}
    if all(prefixes.values()):
        problem = prefix_combination_problem(
            *(prefixes.get(column) for column in HGVS_COLUMNS),
            accession_based=targets.accession_based,
        )
        if problem:
            scores.refuse(problem)


def _check_rows_hold_values(table: Table) -> None:
    for row in _empty_rows(table.frame).arg_true():
        table.refuse_row(row, "the row holds no value; delete it")


def _check_guides(table: Table) -> None:
    if GUIDE_SEQUENCE in table.frame.columns:
        guides = table.frame[GUIDE_SEQUENCE]
        table.refuse_cells(
            GUIDE_SEQUENCE,
            ~guides.str.contains("^[ACGT]+$"),
            lambda guide: f"{guide!r} is not a guide sequence; write it with A, C, G and T only",
        )


def _check_index(table: Table, index: str) -> bool:
    """Whether each row has a value of its own in the index column; notes those without."""
    if not table.has(index):
        return False
    values = table.frame[index]
    empty = values.is_null() & ~_empty_rows(table.frame)
    table.refuse_cells(
        index, empty, lambda _: "is empty, but identifies the rows; fill it in every row"
    )
    first = values.is_first_distinct()
    repeated = values.is_not_null() & ~first
    if repeated.any():
        line_of = dict(zip(values.filter(first), table.lines.filter(first), strict=True))
        table.refuse_cells(
            index,
            repeated,
            lambda cell: f"{cell} is already on line {line_of[cell]}; keep one row for each",
        )
    return not values.has_nulls() and not repeated.any()


def _typed(table: Table, *, text_allowed: bool) -> pl.DataFrame:
    """The table with its data columns as numbers or, beside score, text."""
    frame = table.frame
    data_columns = _non_hgvs(frame)
    if data_columns in ([], [GUIDE_SEQUENCE]):
        table.refuse("there is no data column beside the variants; add one")
    return frame.with_columns(
        typed_column(
            table,
            name,
            number_required=name == SCORE or not (text_allowed or name == GUIDE_SEQUENCE),
        )
        for name in data_columns
    )


def _empty_rows(frame: pl.DataFrame) -> pl.Series:
    return frame.select(pl.all_horizontal(pl.all().is_null()).alias("empty"))["empty"]
