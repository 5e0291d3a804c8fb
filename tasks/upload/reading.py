"""An uploaded CSV file as a table of text cells."""

import csv
import io
from collections.abc import Iterator

import polars as pl

from tasks.upload.table import STANDARD_COLUMNS, invalid

#: Cells that stand for "no value", in lower case: pandas' own list and MaveDB's additions.
NULL_TOKENS = (
    *("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan"),
    *("<na>", "n/a", "na", "nan", "nil", "none", "null", "undefined"),
)
_ROWS_IN_BLOCK = 50_000


def read_table(content: bytes, file: str) -> pl.DataFrame:
    """The table of a CSV file: every column text, null-like cells null, column names cleaned.

    Blank lines at the end are dropped; one further up is a row without any value. Raises
    StepError (validation_error) naming the file and the line for what is not a table.
    """
    _check_text(content, file)
    records = _records(content, file)
    names = _column_names(next(records)[1], file)
    blocks: list[pl.DataFrame] = []
    rows: list[list[str]] = []
    ragged: list[str] = []
    blank_rows = 0
    for line, record in records:
        if len(record) <= 1 and not "".join(record).strip():
            blank_rows += 1
            continue
        rows.extend([""] * len(names) for _ in range(blank_rows))
        blank_rows = 0
        if len(record) != len(names):
            ragged.append(f"{file}, line {line}: {len(record)} cells, but {len(names)} columns")
            continue
        rows.append(record)
        if len(rows) >= _ROWS_IN_BLOCK:
            blocks.append(_block(names, rows))
            rows = []
    if ragged:
        raise invalid(
            f"{ragged[0]} ({len(ragged):,} such lines in all); put a cell that holds a comma in"
            ' double quotes (")',
            ragged,
        )
    if rows:
        blocks.append(_block(names, rows))
    if not blocks:
        raise invalid(f"{file}: there is no row below the column names; upload a table with rows")
    return pl.concat(blocks, rechunk=True).with_columns(
        pl.when(~pl.all().str.strip_chars().str.to_lowercase().is_in(NULL_TOKENS)).then(pl.all())
    )


def clean_column_name(name: str) -> str:
    """The name without outer blanks and one pair of quotes; standard names in lower case."""
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1].strip()
    return name.lower() if name.lower() in STANDARD_COLUMNS else name


def _check_text(content: bytes, file: str) -> None:
    if not content.strip():
        raise invalid(f"{file}: the file is empty; upload a CSV file with a line of column names")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise invalid(
            f"{file}, line {line}: byte {error.start} is not UTF-8 text; save the file as UTF-8"
        ) from error
    nul = content.find(b"\0")
    if nul >= 0:
        line = content[:nul].count(b"\n") + 1
        raise invalid(
            f"{file}, line {line}: byte {nul} is a NUL byte, which is no text; save the file as"
            " plain CSV in UTF-8"
        )


def _records(content: bytes, file: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins on."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    line = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise invalid(
                f'{file}, line {line}: not valid CSV ({error}); close every quote (") and write a'
                ' quote inside a quoted cell twice ("")'
            ) from error
        yield line, record
        line = reader.line_num + 1


def _column_names(header: list[str], file: str) -> list[str]:
    names = [clean_column_name(name) for name in header]
    if len(names) <= 1:
        raise invalid(
            f"{file}, line 1: the first line must hold the names of at least two columns,"
            f" separated by commas; found {''.join(header)!r}"
        )
    problems = [
        f"{file}, line 1: column {number} has no name"
        for number, name in enumerate(names, start=1)
        if not name
    ]
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if name and (other := first.setdefault(name.lower(), number)) != number:
            problems.append(
                f"{file}, line 1: columns {other} and {number} are both named {name}"
                " (capitals do not count)"
            )
    if problems:
        raise invalid("; ".join(problems) + ". Give every column a name of its own", problems)
    return names


def _block(names: list[str], rows: list[list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            name: pl.Series(name, column, dtype=pl.String)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
    )
