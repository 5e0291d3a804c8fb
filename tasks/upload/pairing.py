"""The rows of a counts table, brought into the order of the scores table's rows."""

import polars as pl

from tasks.upload.table import GUIDE_SEQUENCE, HGVS_COLUMNS, Table


def check_same_identifiers(scores: Table, counts: Table) -> bool:
    """Note the identifying columns that only one of the tables fills; whether both fill the same.

    A column without any value is as good as absent.
    """
    same = True
    for column in (*HGVS_COLUMNS, GUIDE_SEQUENCE):
        if scores.has(column) and not counts.has(column):
            counts.refuse(f"column {column} holds no value, but it does in {scores.label}; copy it")
            same = False
        elif counts.has(column) and not scores.has(column):
            scores.refuse(f"column {column} holds no value, but it does in {counts.label}; copy it")
            same = False
    return same


def paired_rows(scores: Table, counts: Table, index: str) -> pl.Series:
    """For each row of the scores the number of its row in the counts, found by `index`.

    Notes rows without a partner, and partners that differ in another identifying column.
    `index` has neither nulls nor duplicates in either table.
    """
    ours = scores.frame.select(index).with_row_index("score_row")
    theirs = counts.frame.select(index).with_row_index("count_row")
    rows = ours.join(theirs, on=index, how="left", maintain_order="left")["count_row"]
    scores.refuse_cells(
        index, rows.is_null(), lambda cell: f"{cell} has no row in {counts.label}; add it there"
    )
    extra = theirs.join(ours, on=index, how="left", maintain_order="left")["score_row"].is_null()
    counts.refuse_cells(
        index, extra, lambda cell: f"{cell} has no row in {scores.label}; add it there"
    )
    paired = rows.is_not_null()
    for column in (*HGVS_COLUMNS, GUIDE_SEQUENCE):
        if column == index or not (scores.has(column) and counts.has(column)):
            continue
        partner = counts.frame[column].gather(rows)
        differs = paired & scores.frame[column].ne_missing(partner)
        for row in differs.arg_true():
            scores.refuse_row(
                row,
                f"column {column}: {scores.frame[column][row] or 'empty'}, but"
                f" {partner[row] or 'empty'} on line {counts.lines[rows[row]]} of {counts.label};"
                " make the two agree",
            )
    return rows
