"""The service, and what Prefect needs for it."""

import signal
import threading
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter

from mavedb_audit.cli.application import RUN, Output, app, command, examples_text
from mavedb_audit.cli.output import DONE, write, write_json
from mavedb_audit.cli.reaching import database, require_prefect


@command("serve", RUN, "mavedb-audit serve")
def serve() -> None:
    """Take requests to Prefect, record its states and recover what died, until stopped.

    Several may run, on any host. Ctrl-C and SIGTERM end it.
    """
    from mavedb_audit.database import check_schema
    from mavedb_audit.logs import configure
    from mavedb_audit.service import serve_until
    from mavedb_audit.settings import settings

    require_prefect()
    configure(settings())
    with database() as connection:
        check_schema(connection)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    serve_until(stop)


limits = App(
    name="limits",
    group=RUN,
    help="How many steps ask each external service at once.",
    help_prologue=examples_text(("mavedb-audit limits apply",)),
)
app.command(limits)


@command("apply", RUN, "mavedb-audit limits apply", "mavedb-audit limits apply --reset", to=limits)
def apply_limits(
    *,
    reset: Annotated[
        bool,
        Parameter(
            help="Also set those that differ back to what the project suggests.", negative=""
        ),
    ] = False,
    output: Output = "table",
) -> int:
    """Make Prefect's global concurrency limit of each service, where it is missing.

    What was changed in Prefect stays, unless --reset is given. Steps refuse to run without them.
    """

    from mavedb_audit import limits as service_limits
    from mavedb_audit.histories import expecting_an_answer, prefect_client

    require_prefect()
    with prefect_client() as client, expecting_an_answer("What is missing was not made"):
        applied = service_limits.apply(client, reset=reset)
    if output == "json":
        write_json(applied)
        return DONE
    for one in applied:
        change = "made" if one.before is None else "kept"
        if one.before not in (None, one.limit):
            change = f"was {one.before}"
        write(f"{one.service}: {one.limit} ({change})\n")
    return DONE
