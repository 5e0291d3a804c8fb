"""An uploaded CSV file as a table of text cells."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from mavedb_audit.errors import StepError
from tasks.upload.table import MAX_DETAILS, STANDARD_COLUMNS, invalid

#: Cells that stand for "no value", in lower case: pandas' own list and MaveDB's additions.
NULL_TOKENS = (
    *("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan"),
    *("<na>", "n/a", "na", "nan", "nil", "none", "null", "undefined"),
)
#: What Excel's and other programs' compressed files begin with, which are no text.
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
#: Control characters but tab, line feed and carriage return; NUL is among them.
_CONTROLS = bytes([*range(9), 11, 12, *range(14, 32), 127])
_CELLS_IN_BLOCK = 1_000_000


@dataclass(frozen=True)
class Limits:
    """How large a table may be: MAX_UPLOAD_COLUMNS and so on. Column names count as cells."""

    columns: int = 1_000
    rows: int = 2_000_000
    cell_characters: int = 10_000


def read_table(content: bytes, file: str, limits: Limits = Limits()) -> pl.DataFrame:
    """The table of a CSV file: every column text, null-like cells null, column names cleaned.

    Blank lines at the end are dropped; one further up is a row without any value. Raises
    StepError (validation_error) naming the file and the line for what is not a table, or a larger
    one than the limits allow.
    """
    _check_text(content, file)
    records = _records(content, file, limits)
    names = _column_names(next(records)[1], file)
    table = _unquoted_table(content, names, limits)
    if table is None:
        table = _table_of(records, names, file, limits)
    return table.with_columns(
        pl.when(~pl.all().str.strip_chars().str.to_lowercase().is_in(NULL_TOKENS)).then(pl.all())
    )


def clean_column_name(name: str) -> str:
    """The name without outer blanks and one pair of quotes; standard names in lower case."""
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1].strip()
    return name.lower() if name.lower() in STANDARD_COLUMNS else name


def _unquoted_table(content: bytes, names: list[str], limits: Limits) -> pl.DataFrame | None:
    """What `_table_of` gives, in a tenth of its time, for a file without any quote whose lines all
    have a cell for each column; None for any other file, and for one that is to be refused."""
    if b'"' in content or content.count(b"\r") != content.count(b"\r\n"):
        return None
    rows = content.count(b"\n") - content.endswith(b"\n")
    if not 0 < rows <= limits.rows or content.count(b",") != (1 + rows) * (len(names) - 1):
        return None
    try:
        table = pl.read_csv(
            content,
            has_header=False,
            skip_lines=1,
            schema=dict.fromkeys(names, pl.String),
            quote_char=None,
            empty_string_is_null=False,
        )
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
        return None  # a line has a cell too many, and another too few
    longest = table.select(pl.max_horizontal(pl.all().str.len_chars().max())).item()
    too_long = longest > min(limits.cell_characters, csv.field_size_limit())
    return None if too_long else table.rechunk()


def _table_of(
    records: Iterable[tuple[int, list[str]]], names: list[str], file: str, limits: Limits
) -> pl.DataFrame:
    blocks: list[pl.DataFrame] = []
    rows: list[list[str]] = []
    ragged: list[str] = []
    ragged_lines = blank_rows = all_rows = 0
    for line, record in records:
        if len(record) <= 1 and not "".join(record).strip():
            blank_rows += 1
            continue
        all_rows += blank_rows + 1
        if all_rows > limits.rows:
            raise invalid(
                f"{file}, line {line}: the table has more than {limits.rows:,} rows, which is the"
                " most that is accepted (MAX_UPLOAD_ROWS)"
            )
        rows.extend([""] * len(names) for _ in range(blank_rows))
        blank_rows = 0
        if len(record) != len(names):
            ragged_lines += 1
            if ragged_lines <= MAX_DETAILS:
                ragged.append(f"{file}, line {line}: {len(record)} cells, but {len(names)} columns")
            continue
        _check_cells(record, names, file, line, limits)
        rows.append(record)
        if len(rows) * len(names) >= _CELLS_IN_BLOCK:
            blocks.append(_block(names, rows))
            rows = []
    if ragged:
        more = ragged_lines - len(ragged)
        raise invalid(
            f"{ragged[0]} ({ragged_lines:,} such lines in all); put a cell that holds a comma in"
            ' double quotes (")',
            [*ragged[:-1], f"... and {more + 1:,} more"] if more else ragged,
        )
    if rows:
        blocks.append(_block(names, rows))
    if not blocks:
        raise invalid(f"{file}: there is no row below the column names; upload a table with rows")
    return pl.concat(blocks, rechunk=True)


def _check_text(content: bytes, file: str) -> None:
    if not content.strip():
        raise invalid(f"{file}: the file is empty; upload a CSV file with a line of column names")
    for magic, kind in _PACKED.items():
        if content.startswith(magic):
            raise invalid(
                f"{file}: the file is packed ({kind}); unpack it, and upload plain CSV in UTF-8"
            )
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise invalid(
            f"{file}, line {line}: byte {error.start} is not UTF-8 text; save the file as UTF-8"
        ) from error
    if len(content.translate(None, _CONTROLS)) < len(content):
        place = next(place for place, byte in enumerate(content) if byte in _CONTROLS)
        line = content[:place].count(b"\n") + 1
        found = content[place]
        name = "a NUL byte" if found == 0 else f"the control character 0x{found:02x}"
        raise invalid(
            f"{file}, line {line}: byte {place} is {name}, which is no text; save the file as"
            " plain CSV in UTF-8"
        )


def _check_cells(record: list[str], names: list[str], file: str, line: int, limits: Limits) -> None:
    if max(map(len, record)) <= limits.cell_characters:
        return
    for name, cell in zip(names, record, strict=True):
        if len(cell) > limits.cell_characters:
            raise _too_long(f"{file}, line {line}, column {name}", len(cell), limits)


def _too_long(where: str, characters: int, limits: Limits) -> StepError:
    return invalid(
        f"{where}: the cell has {characters:,} characters or more, and at most"
        f" {limits.cell_characters:,} are accepted (MAX_UPLOAD_CELL_CHARACTERS); is a quote"
        ' (") not closed?'
    )


def _records(content: bytes, file: str, limits: Limits) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins on; none has more cells than the limits allow."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    reader = csv.reader(_lines(text, file, limits), strict=True)
    line = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "field limit" in str(error):
                raise _too_long(f"{file}, line {line}", csv.field_size_limit(), limits) from error
            raise invalid(
                f'{file}, line {line}: not valid CSV ({error}); close every quote (") and write a'
                ' quote inside a quoted cell twice ("")'
            ) from error
        if len(record) > limits.columns:
            raise invalid(
                f"{file}, line {line}: it has {len(record):,} cells, and at most"
                f" {limits.columns:,} columns are accepted (MAX_UPLOAD_COLUMNS)"
            )
        if line == 1:
            numbers = [f"number {number}" for number in range(1, len(record) + 1)]
            _check_cells(record or [""], numbers or [""], file, line, limits)
        yield line, record
        line = reader.line_num + 1


def _lines(text: Iterable[str], file: str, limits: Limits) -> Iterator[str]:
    """The file's lines, of which none may have more characters than all its cells together."""
    longest = limits.columns * (limits.cell_characters + len('"",')) + len("\r\n")
    for number, line in enumerate(text, start=1):
        if len(line) > longest:
            raise invalid(
                f"{file}, line {number}: it has {len(line):,} characters, more than"
                f" {limits.columns:,} columns (MAX_UPLOAD_COLUMNS) of"
                f" {limits.cell_characters:,} characters (MAX_UPLOAD_CELL_CHARACTERS) take"
            )
        yield line


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
