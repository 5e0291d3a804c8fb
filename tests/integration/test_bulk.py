"""What is copied into a table is there as it was given."""

import json
from datetime import date

import polars as pl
from sqlalchemy import create_engine, text

from mavedb_audit.bulk import copy_frames

#: Whatever could end a cell or a row of COPY's text, stand for null, or be an escape.
TEXTS = [
    *("plain", "", None, "a\tb", "a\nb", "a\rb", "a\r\nb", "\\", "\\.", "\\N", "\\t", '"', '"a"'),
    *("'", "\x01", "\x01a\x01", " a ", "NULL", "é 𝛽 \u2028", "a,b", "x" * 300_000),
]
JSON = ['{"a": "tab\\t, quote \\", backslash \\\\, \\u0001"}', "{}", None, "[1.5e-7, 10, null]"]


def test_frames_are_copied_as_they_are(domain_database: str) -> None:
    numbers = list(range(len(TEXTS)))
    frame = pl.DataFrame(
        {
            "text": TEXTS,
            "number": numbers,
            "day": [date(2026, 11, 29)] * len(TEXTS),
            "data": [JSON[n % len(JSON)] for n in numbers],
        }
    )
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TEMPORARY TABLE given (written text, n bigint, day date, data jsonb)")
        )
        copied = copy_frames(connection, "given (written, n, day, data)", [frame[:7], frame[7:]])
        found = connection.execute(text("SELECT written, n, day, data FROM given ORDER BY n")).all()
        assert copied == len(TEXTS)
        assert [row.written for row in found] == TEXTS
        assert [row.n for row in found] == numbers
        assert {row.day for row in found} == {date(2026, 11, 29)}
        assert [row.data for row in found] == [
            json.loads(data) if data else None for data in frame["data"]
        ]
    engine.dispose()
