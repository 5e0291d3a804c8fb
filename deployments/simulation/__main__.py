"""Workers against the services' limits, simulated: beside measured runs, then extrapolated."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from deployments.simulation import costs, report
from mavedb_audit.errors import ConfigurationError, MaveDBAuditError

app = App(name="deployments.simulation", help=__doc__)

#: What `make bench` writes.
_BENCH = Path("bench.json")
_WIDTH_IN_A_FILE = 120


@app.default
def run(
    *,
    variants: Annotated[
        int, Parameter(validator=Number(gte=1), help="How many in all.")
    ] = 10_000_000,
    a_score_set: Annotated[
        int, Parameter(validator=Number(gte=1), help="How many of them a score set has.")
    ] = 12_000,
    measure: Annotated[
        bool, Parameter(env_var="MEASURE", help="Measure the costs anew first.")
    ] = False,
) -> None:
    """Print each measured run beside the same one simulated, and what more workers would bring."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_IN_A_FILE)
    if measure:
        with console.status("measuring"):
            _measure()
    measured = costs.read_measured()
    console.print(report.validation(measured, {**measured.runs, **_benchmark()}))
    for extrapolation in report.extrapolations(measured, variants, a_score_set):
        console.print(report.by_workers(extrapolation))
        if extrapolation.waits_for_services:
            console.print(report.by_service(extrapolation))


def _measure() -> None:
    from deployments.simulation.measure import measure

    with tempfile.TemporaryDirectory(prefix="mavedb-simulation-") as state:
        measured = measure(Path(state), _benchmark())
    costs.MEASURED.write_text(measured.model_dump_json(indent=2) + "\n")


def _benchmark() -> dict[str, float]:
    """The seconds of whole pipelines in the last `make bench`, if there was one."""
    if not _BENCH.exists():
        return {}
    try:
        figures = json.loads(_BENCH.read_text())
        return {row["figure"]: row["ours"] for row in figures if report.is_run(row["figure"])}
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f"{_BENCH} is not what `make bench` writes: run it again, or delete the file"
        ) from None


def main() -> None:
    """The entry point: a mistake that a person can mend is one message, without a traceback."""
    if os.environ.get("MEASURE") == "":  # as good as not given
        del os.environ["MEASURE"]
    try:
        app()
    except MaveDBAuditError as error:
        Console(stderr=True).print(
            str(error), style="red", highlight=False, markup=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
