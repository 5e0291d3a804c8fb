"""Rows move in sets: COPY from Python into PostgreSQL."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import psycopg
from sqlalchemy import Connection


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
