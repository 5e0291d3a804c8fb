"""One uploaded table and everything found wrong with it, so that a curator sees all at once."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import polars as pl

from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory

HGVS_COLUMNS = ("hgvs_nt", "hgvs_splice", "hgvs_pro")
SCORE = "score"
GUIDE_SEQUENCE = "guide_sequence"
STANDARD_COLUMNS = (*HGVS_COLUMNS, SCORE, GUIDE_SEQUENCE)

MAX_DETAILS = 1_000
ROWS_IN_MESSAGE = 3


class Table:
    """A table of text cells, its name in messages, and the problems found in it so far."""

    def __init__(self, label: str, frame: pl.DataFrame) -> None:
        self.label = label
        self.frame = frame
        self._table_problems: list[str] = []
        self._row_problems: list[tuple[int, str]] = []

    @cached_property
    def lines(self) -> pl.Series:
        """The line of the file on which each row begins."""
        return lines_of_rows(self.frame)

    def has(self, column: str) -> bool:
        """Whether the column is there and holds a value."""
        return column in self.frame.columns and not _is_all_null(self.frame[column])

    def refuse(self, text: str) -> None:
        """Note a problem of the table as a whole."""
        self._table_problems.append(text)

    def refuse_row(self, row: int, text: str) -> None:
        """Note a problem of one row, counted from 0."""
        self._row_problems.append((self.lines[row], text))

    def refuse_cells(self, column: str, bad: pl.Series, describe: Callable[[str], str]) -> None:
        """Note a problem of each cell of `column` where the mask `bad` is true.

        `describe` makes the text of one cell's value; it is asked once a distinct value.
        """
        rows = bad.fill_null(False).arg_true()
        if rows.is_empty():
            return
        texts: dict[str, str] = {}
        for line, cell in zip(
            self.lines.gather(rows), self.frame[column].gather(rows), strict=True
        ):
            if cell not in texts:
                texts[cell] = f"column {column}: {describe(cell)}"
            self._row_problems.append((line, texts[cell]))

    @property
    def details(self) -> list[str]:
        """One text a problem: those of the table, then those of its rows by line."""
        rows = sorted(self._row_problems, key=lambda problem: problem[0])
        return [f"{self.label}: {text}" for text in self._table_problems] + [
            f"{self.label}, line {line}, {text}" for line, text in rows
        ]

    @property
    def summary(self) -> str:
        """The problems in a few sentences; empty without any."""
        sentences = [f"{self.label}: {text}." for text in self._table_problems]
        if self._row_problems:
            rows = len({line for line, _ in self._row_problems})
            first = sorted(self._row_problems, key=lambda problem: problem[0])[:ROWS_IN_MESSAGE]
            more = len(self._row_problems) - len(first)
            texts = "; ".join(f"line {line}, {text}" for line, text in first)
            sentences.append(
                f"{self.label}: {rows:,} of {self.frame.height:,} rows cannot be accepted: {texts}"
                + (f"; and {more:,} more." if more else ".")
            )
        return " ".join(sentences)


def raise_problems(tables: Iterable[Table]) -> None:
    """Raise all problems of the tables as one StepError, if there is one."""
    refused = [table for table in tables if table.summary]
    if not refused:
        return
    raise invalid(
        " ".join(table.summary for table in refused),
        [text for table in refused for text in table.details],
    )


def invalid(message: str, details: Sequence[str] = ()) -> StepError:
    """The error of an upload that cannot be accepted; without details the message is the one."""
    details = details or [message]
    if len(details) > MAX_DETAILS:
        details = [*details[:MAX_DETAILS], f"... and {len(details) - MAX_DETAILS:,} more"]
    return StepError(message, FailureCategory.VALIDATION_ERROR, details)


def lines_of_rows(frame: pl.DataFrame) -> pl.Series:
    """The line of the file on which each row begins; the header is on line 1."""
    if frame.is_empty():
        return pl.Series([], dtype=pl.Int64)
    newlines = frame.select(
        pl.sum_horizontal(
            pl.all().str.count_matches(r"\r\n|\r|\n").fill_null(0).cast(pl.Int64)
        ).alias("newlines")
    )["newlines"]
    header_newlines = sum(name.count("\n") for name in frame.columns)
    rows = pl.int_range(frame.height, eager=True)
    return rows + 2 + header_newlines + newlines.cum_sum() - newlines


def _is_all_null(values: pl.Series) -> bool:
    return values.null_count() == len(values)
