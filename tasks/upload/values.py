"""The data columns of an uploaded table: which are numbers, and as what they are kept."""

import polars as pl

from tasks.upload.table import Table


def typed_column(table: Table, column: str, *, number_required: bool) -> pl.Series:
    """The column as 64-bit integers, floats or text; notes what cannot be accepted.

    Integers with a null among them become floats. Integers beyond 64 bits stay exact up to
    128 bits.
    """
    text = table.frame[column]
    stripped = text.str.strip_chars()
    floats = stripped.cast(pl.Float64, strict=False).fill_nan(None)
    is_text = text.is_not_null() & floats.is_null()
    if text.null_count() == len(text):
        table.refuse(f"column {column} holds no value at all; fill it or leave it out")
    elif number_required:
        table.refuse_cells(column, is_text, _not_a_number)
    elif is_text.any():
        is_number = floats.is_not_null()
        if is_number.any():
            table.refuse(
                f"column {column} mixes numbers (first on line {_first_line(table, is_number)}) and"
                f" text (first on line {_first_line(table, is_text)}); make it all numbers or all"
                " text"
            )
        return text
    table.refuse_cells(column, floats.is_infinite(), _infinite)
    for whole in (pl.Int64, pl.Int128):
        integers = stripped.cast(whole, strict=False)
        if not integers.has_nulls():
            return integers
    return floats


def _not_a_number(cell: str) -> str:
    return f"{cell[:60]!r} is not a number; write a number or leave the cell empty"


def _infinite(cell: str) -> str:
    return f"{cell} is not a finite number; write a finite number or leave the cell empty"


def _first_line(table: Table, mask: pl.Series) -> int:
    return int(table.lines.filter(mask)[0])
