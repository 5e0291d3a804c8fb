"""Rows move in sets: COPY from Python into PostgreSQL."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.copy import QueuedLibpqWriter
from sqlalchemy import Connection

if TYPE_CHECKING:
    import polars as pl

#: The quote is a character that text and JSON do not hold, so that next to nothing is quoted.
_SEPARATOR, _QUOTE = "\t", "\x01"
_CSV = r"FORMAT csv, DELIMITER E'\t', QUOTE E'\x01'"


def copy_rows(connection: Connection, target: str, rows: Iterable[Sequence[Any]]) -> int:
    """COPY `rows` into `target`, a table or `table (columns)`. Returns how many there were.

    Runs within the connection's transaction. A value of a jsonb column is JSON text.
    """
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    count = 0
    with driver.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


def copy_frames(connection: Connection, target: str, frames: "Iterable[pl.DataFrame]") -> int:
    """COPY the rows of `frames`, as `copy_rows` does; their columns are in the target's order.

    The next frame is made while PostgreSQL takes in the one before.
    """
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    count = 0
    with (
        driver.cursor() as cursor,
        cursor.copy(
            f"COPY {target} FROM STDIN ({_CSV})".encode(), writer=QueuedLibpqWriter(cursor)
        ) as copy,
    ):
        for frame in frames:
            copy.write(
                frame.write_csv(include_header=False, separator=_SEPARATOR, quote_char=_QUOTE)
            )
            count += frame.height
    return count
