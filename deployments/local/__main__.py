"""The local deployment: everything on loopback, in one folder, without root or Docker."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from mavedb_audit.errors import MaveDBAuditError

app = App(name="deployments.local", help=__doc__)

State = Annotated[Path, Parameter(env_var="STATE", help="The folder that holds everything.")]
_DEFAULT_STATE = Path(".demo")
_VARIABLES = ("STATE", "SCORES", "COUNTS", "TARGET", "KEEP", "SIZE", "ONLY")
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@app.command
def demo(
    *,
    state: State = _DEFAULT_STATE,
    scores: Annotated[Path | None, Parameter(env_var="SCORES", help="A score file.")] = None,
    counts: Annotated[Path | None, Parameter(env_var="COUNTS", help="Its count file.")] = None,
    target: Annotated[
        Path | None, Parameter(env_var="TARGET", help="The target's sequence, as FASTA.")
    ] = None,
    keep: Annotated[bool, Parameter(env_var="KEEP", help="Leave everything up.")] = False,
) -> int:
    """Run one score set through the whole pipeline: a generated one, or that of the files."""
    from deployments.local.demo import run

    return run(state, scores, counts, target, keep)


@app.command
def start(*, state: State = _DEFAULT_STATE) -> int:
    """Start everything, and leave it up."""
    from deployments.local import stack

    with stack.running(state) as running:
        stack.keep(running)
    sys.stdout.write(
        f"{stack.how_to_sign_in(running)}\nPrefect UI: {running.prefect_ui_url}\n"
        f"Environment: {running.state}/env\n"
    )
    return 0


@app.command
def stop(*, state: State = _DEFAULT_STATE) -> int:
    """End everything that was started in the state folder."""
    from deployments.local import stack

    ended = stack.stop(state)
    sys.stdout.write(f"Stopped: {', '.join(ended)}\n" if ended else "Nothing was running.\n")
    return 0


@app.command
def bench(
    *,
    size: Annotated[str, Parameter(env_var="SIZE", help="small or full.")] = "small",
    only: Annotated[str, Parameter(env_var="ONLY", help="Kinds of figures, with commas.")] = "",
) -> None:
    """Measure how fast the work is, each figure beside a baseline of the same run."""
    from deployments.local.bench import run

    run(size, only)


@app.command
def plot() -> None:
    """Draw what work costs by the number of variants: docs/reference/cost-by-size.svg."""
    from deployments.local.bench.sizes import plot

    plot()


def _end(received: int, _frame: FrameType | None) -> None:
    """Leave as after an error, so that all that was started is stopped: which takes seconds."""
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + received)


def main() -> None:
    """The entry point: a mistake that a person can mend is one message, without a traceback."""
    for ending in _ENDINGS:
        signal.signal(ending, _end)
    for name in _VARIABLES:
        if os.environ.get(name) == "":  # as good as not given
            del os.environ[name]
    try:
        sys.exit(app())
    except MaveDBAuditError as error:
        Console(stderr=True).print(
            str(error), style="red", highlight=False, markup=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
