"""What a figure of the benchmark is: medians of pairs of runs, the target, the table, the file."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mavedb_audit.errors import MaveDBAuditError

_WIDTH_IN_A_FILE = 120


class MeasurementError(MaveDBAuditError):
    """What was to be measured did not happen; the message says what, and where to look."""


@dataclass(frozen=True)
class Pair:
    """Ours and the baseline's, measured one right after the other, or at once."""

    ours: float
    baseline: float

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline


@dataclass(frozen=True)
class Target:
    """What a figure is to reach, in words and as a check of its pairs; and, where it is known, what
    keeps the figure from it."""

    words: str
    is_met: Callable[[Sequence[Pair]], bool]
    obstacle: str | None = None


@dataclass(frozen=True)
class Figure:
    """One line of the table, and one row of bench.json.

    `ours` and `baseline` are medians over `n` pairs, in `unit`; `ratio` is the median of the pairs'
    ratios, ours to the baseline, and `spread` their lowest and highest. A figure without a target
    has neither `target` nor `met`; `why` tells of one that is not met, where that is known.
    """

    figure: str
    unit: str
    ours: float
    baseline: float
    ratio: float
    target: str | None
    met: bool | None
    n: int
    spread: tuple[float, float]
    why: str | None


def ratio_at_least(limit: float) -> Target:
    return Target(f"ratio >= {limit:g}", lambda pairs: _median_ratio(pairs) >= limit)


def ratio_at_most(limit: float, obstacle: str | None = None) -> Target:
    return Target(f"ratio <= {limit:g}", lambda pairs: _median_ratio(pairs) <= limit, obstacle)


def each_below(limit: float, unit: str, obstacle: str | None = None) -> Target:
    """Every one of ours must be below, not only their median."""
    return Target(
        f"each < {limit:g} {unit}", lambda pairs: max(p.ours for p in pairs) < limit, obstacle
    )


def median_below(limit: float, unit: str) -> Target:
    """Of ours, each of which may be the slowest of many already."""
    return Target(
        f"median < {limit:g} {unit}",
        lambda pairs: statistics.median(pair.ours for pair in pairs) < limit,
    )


def figure_of(figure: str, unit: str, pairs: Sequence[Pair], target: Target | None) -> Figure:
    ratios = [pair.ratio for pair in pairs]
    met = target.is_met(pairs) if target else None
    return Figure(
        figure=figure,
        unit=unit,
        ours=_rounded(statistics.median(pair.ours for pair in pairs)),
        baseline=_rounded(statistics.median(pair.baseline for pair in pairs)),
        ratio=_rounded(_median_ratio(pairs)),
        target=target.words if target else None,
        met=met,
        n=len(pairs),
        spread=(_rounded(min(ratios)), _rounded(max(ratios))),
        why=target.obstacle if target and not met else None,
    )


def p99(values: Sequence[float]) -> float:
    """What all but one in a hundred of the values do not exceed."""
    return sorted(values)[int(len(values) * 0.99)]


def table_of(figures: Sequence[Figure], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("figure", "ours", "baseline", "ratio", "spread", "n", "target", "met"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for row in figures:
        table.add_row(
            f"{row.figure}, {row.unit}",
            _shown(row.ours),
            _shown(row.baseline),
            _shown(row.ratio),
            f"{_shown(row.spread[0])}-{_shown(row.spread[1])}",
            str(row.n),
            row.target or "-",
            {True: "yes", False: "no", None: "-"}[row.met],
        )
    return table


def obstacles_of(figures: Sequence[Figure]) -> list[str]:
    """Of each figure that misses its target, what is known to keep it from that."""
    return [f"{row.figure}: {row.why}" for row in figures if row.why is not None]


def write_json(figures: Sequence[Figure], file: Path) -> None:
    file.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


def _median_ratio(pairs: Sequence[Pair]) -> float:
    return statistics.median(pair.ratio for pair in pairs)


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def console_for_tables() -> Console:
    """As wide as the terminal; a file is wide enough for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_IN_A_FILE)
