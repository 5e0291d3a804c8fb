"""`make plot`: what work costs by the number of variants, from a thousand to a million."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Drawing
from rich.table import Table

from deployments.local import bench
from deployments.local.bench import mapping, statuses, variants
from deployments.local.bench.figures import console_for_tables
from deployments.local.stack import PROJECT

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
PLOT = PROJECT / "docs/reference/cost-by-size.svg"

#: By what is plotted, in the order of its legend: how its seconds are measured.
_WORK = {
    "creating variants": variants.seconds_to_create,
    "mapping them": mapping.seconds_to_map,
    "their statuses of one annotation": statuses.seconds_to_account,
}
#: Distinct without colours, too; the colours are told apart by the colour-blind (Okabe and Ito).
_STYLES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"))
#: Below this a transaction's own time counts.
_FEWEST_FOR_SLOPE = 10_000

Measured = Mapping[str, Sequence[float]]


def plot(sizes: Sequence[int] = SIZES, file: Path = PLOT) -> None:
    """Measure each kind of work at each size, print the seconds and slopes, and draw them.

    A slope of 1 is a cost that grows as the number of variants does.
    """
    console = console_for_tables()
    with bench.database() as engine:
        measured: dict[str, list[float]] = {work: [] for work in _WORK}
        for size in sizes:
            with console.status(f"{size:,} variants"):
                for work, seconds_to in _WORK.items():
                    measured[work].append(seconds_to(engine, size))
    console.print(_table(sizes, measured))
    draw(sizes, measured, file)


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The power of the size with which the seconds grow, by least squares of the logarithms."""
    fitted = statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(each) for each in seconds]
    )
    return fitted.slope


def draw(sizes: Sequence[int], measured: Measured, file: Path) -> None:
    """Logarithmic both ways, so that what grows in proportion to the variants is a straight line,
    as the dotted ones through the last points are. The same seconds give the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "mavedb-audit", "svg.fonttype": "none"}):
        drawing = Drawing(figsize=(7.5, 5.5), layout="constrained", facecolor="white")
        axes = drawing.subplots()
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="variants of the score set",
            ylabel="seconds, from its input to its commit",
            title="Cost against size",
        )
        for (work, seconds), (colour, marker) in zip(measured.items(), _STYLES, strict=True):
            as_size = [seconds[-1] * size / sizes[-1] for size in sizes]
            axes.plot(sizes, seconds, color=colour, marker=marker, label=work)
            axes.plot(sizes, as_size, color=colour, linewidth=1.2, linestyle=":")
        axes.plot([], [], color="black", linestyle=":", label="in proportion to the variants")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(which="major", color="#dddddd", linewidth=0.6)
        axes.legend()
        drawing.savefig(
            file,
            format="svg",
            metadata={
                "Creator": None,
                "Date": None,
                "Title": "Seconds of work against the number of variants",
            },
        )


def _table(sizes: Sequence[int], measured: Measured) -> Table:
    table = Table(title="Seconds, by the number of variants", title_justify="left")
    table.add_column("work")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    table.add_column(f"slope from {_FEWEST_FOR_SLOPE:,} on", justify="right")
    large = [n for n, size in enumerate(sizes) if size >= _FEWEST_FOR_SLOPE]
    for work, seconds in measured.items():
        shown = (f"{each:.3g}" for each in seconds)
        fitted = slope([sizes[n] for n in large], [seconds[n] for n in large])
        table.add_row(work, *shown, f"{fitted:.2f}")
    return table
