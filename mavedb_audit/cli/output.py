"""What goes to stdout and stderr, and with which exit code a command ends."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mavedb_audit.errors import (
    ConfigurationError,
    DatabaseUnreachableError,
    MaveDBAuditError,
    PrefectUnreachableError,
    RequestError,
    SchemaError,
    ServiceError,
)
from mavedb_audit.texts import storable

DONE, FOUND_PROBLEMS, WRONG_USAGE, CANNOT_REACH = 0, 1, 2, 3
#: As of a program that SIGPIPE ends: whoever reads our output has read enough.
_PIPE_CLOSED = 141

_STYLES = {
    "succeeded": "green",
    "success": "green",
    "running": "blue",
    "failed": "red",
    "errored": "red",
    "partial": "yellow",
    "cancelled": "yellow",
    "skipped": "yellow",
    "paused": "yellow",
}


def exit_code(error: MaveDBAuditError) -> int:
    match error:
        case DatabaseUnreachableError() | PrefectUnreachableError() | ServiceError():
            return CANNOT_REACH
        case RequestError() | ConfigurationError() | SchemaError():
            return WRONG_USAGE
        case _:
            return FOUND_PROBLEMS


def tell(message: str, style: str | None = None) -> None:
    """A message for the person, on stderr, in one line however long."""
    Console(stderr=True).print(
        f"mavedb-audit: {storable(message)}",
        style=style,
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def write(text: str) -> None:
    """Data, on stdout. Ends the process quietly when nobody reads it any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)


def write_json(value: Any) -> None:
    """Views, dataclasses, or lists of them: keys in snake_case, times as ISO 8601."""
    from pydantic_core import to_json

    write(to_json(value, indent=2, by_alias=False).decode() + "\n")


def show(*parts: RenderableType) -> None:
    """Lines and tables, on stdout.

    A terminal that is too narrow for a table's columns that do not wrap breaks their lines itself,
    so that a URN stays one word where it is copied. What is no terminal gets every row in a line.
    """
    console = Console(highlight=False, markup=False)
    width = console.width
    with console.capture() as capture:
        for part in parts:
            if isinstance(part, str | Text):
                console.print(_Harmless(part), soft_wrap=True)
            else:
                console.width = _width(console, part, width)
                console.print(_Harmless(part))
    shown = capture.get()
    if not console.is_terminal:
        shown = "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
    write(shown)


@dataclass(frozen=True)
class _Harmless:
    """What is shown, without the control characters that a name in it may have."""

    part: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.part, options):
            yield segment._replace(text=storable(segment.text))


def _width(console: Console, part: RenderableType, width: int) -> int:
    needed = console.measure(part, options=console.options.update(max_width=1_000_000))
    if not console.is_terminal:
        return needed.maximum
    return max(needed.minimum, width)


def table(*headings: str, unbroken: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table. The columns in `unbroken` are never wrapped: URNs, states, times."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(heading, no_wrap=heading in unbroken, overflow="fold")
    return made


def style_of(status: str) -> str | None:
    return _STYLES.get(status)


def moment(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def duration(seconds: float | None) -> str:
    """Two units at most, such as 3 min 20 s."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, smaller, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // smaller} {below}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
