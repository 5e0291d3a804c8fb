"""The command `mavedb-audit`. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 1 found problems, 2 wrong usage, 3 cannot reach what it needs.
"""

import json
import logging
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

from cyclopts import App, Parameter
from rich.console import Console

from mavedb_audit.errors import (
    ConfigurationError,
    DatabaseUnreachableError,
    MaveDBAuditError,
    PrefectUnreachableError,
    RequestError,
    SchemaError,
    ServiceError,
    StepError,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

app = App(name="mavedb-audit", help=__doc__)
messages = Console(stderr=True)


@app.command
def serve() -> None:
    """Take requests to Prefect, record its states and recover what died, until stopped.

    Several may run, on any host. Ctrl-C and SIGTERM end it.
    """
    from mavedb_audit.database import check_schema, connect
    from mavedb_audit.service import serve_until

    _require_prefect()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with connect() as connection:
        check_schema(connection)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    serve_until(stop)


@app.command
def request(
    pipeline: str,
    *,
    score_set: Annotated[str, Parameter(help="URN of the score set.")],
    params: Annotated[str, Parameter(help="The pipeline's other parameters, as JSON.")] = "{}",
    user_id: Annotated[int | None, Parameter(help="Who asks: users.id.")] = None,
) -> None:
    """Ask for a pipeline, as MaveDB's API does, and print the pipeline's URN.

    Example: mavedb-audit request annotate_score_set --score-set urn:mavedb:00000001-a-1
    """
    from sqlalchemy import text

    from mavedb_audit.database import check_schema, connect
    from mavedb_audit.trigger import request_pipeline

    try:
        given = json.loads(params)
    except json.JSONDecodeError as error:
        raise RequestError(f"--params is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError('--params must be a JSON object, such as {"updater_id": 3}')
    with connect() as connection:
        check_schema(connection)
        score_set_id = connection.execute(
            text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": score_set}
        ).scalar_one_or_none()
        if score_set_id is None:
            raise RequestError(f"There is no score set {score_set}")
        if user_id is not None and not _is_user(connection, user_id):
            raise RequestError(f"There is no user with the id {user_id}")
        asked = {"score_set_id": score_set_id, "updater_id": user_id, **given}
        planned = request_pipeline(connection, pipeline, asked, user_id, uuid4().hex)
        connection.commit()
    sys.stdout.write(f"{planned.pipeline_urn}\n")


Output = Annotated[Literal["table", "json"], Parameter(help="How to print what was found.")]
Since = Annotated[
    datetime | None, Parameter(help="Only runs that are open, started or ended since then (UTC).")
]


@app.command
def verify(*, since: Since = None, output: Output = "table") -> int:
    """Compare the audit with Prefect, state by state, and the audit's rows with each other.

    Exits 1 when something is missing or contradicts; what only a process witnessed, because it
    died before Prefect heard of it, is listed as lost by Prefect and is no problem.
    """
    from mavedb_audit import verify as verification
    from mavedb_audit.histories import prefect_client
    from mavedb_audit.report import verification_as_json, verification_as_table

    _require_prefect()
    with prefect_client() as client:
        found = verification.verify(client, since=_in_utc(since))
    if output == "json":
        sys.stdout.write(verification_as_json(found))
    else:
        Console().print(verification_as_table(found))
    return 1 if found.has_problems else 0


@app.command
def reconcile(
    *,
    since: Since = None,
    everything: Annotated[
        bool, Parameter(name="--all", help="All runs that Prefect has, however old.")
    ] = False,
    output: Output = "table",
) -> int:
    """Ask Prefect for every state of our runs, and record what is missing.

    Of the runs of the last RECONCILE_WINDOW_HOURS, unless told otherwise. With --all it makes the
    transitions again from Prefect's history.
    """
    from dataclasses import asdict

    from mavedb_audit import reconcile as reconciliation
    from mavedb_audit.histories import prefect_client
    from mavedb_audit.settings import settings

    _require_prefect()
    window = timedelta(hours=settings().reconcile_window_hours)
    begin = _in_utc(since) or (None if everything else datetime.now(UTC) - window)
    with prefect_client() as client:
        done = reconciliation.reconcile(client, since=begin, everything=True)
    figures = asdict(done)
    if output == "json":
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in figures.items()))
    return 1 if done.unanswered else 0


@app.command
def uploads(
    urn: Annotated[str, Parameter(help="URN of a score set or of a pipeline.")],
    *,
    save: Annotated[Path | None, Parameter(help="A folder to write the files into.")] = None,
    output: Output = "table",
) -> int:
    """List the files that were uploaded for a score set or a pipeline, and give them back.

    With --save each file is written below the folder under its key, if it is still the one that was
    recorded; nothing is overwritten. Exits 1 when a file differs or is gone.
    """
    from mavedb_audit import uploads as kept
    from mavedb_audit.database import check_schema, connect
    from mavedb_audit.report import uploads_as_json, uploads_as_text

    with connect() as connection:
        check_schema(connection)
        found = kept.find(connection, urn)
    sys.stdout.write(uploads_as_json(found) if output == "json" else uploads_as_text(found))
    if not found:
        _tell(f"no file of {urn} is recorded: that happens when it is first read, at the latest")
    if save is None:
        return 0
    # Pipelines that were asked for with one file share it.
    files = {(upload.key, upload.digest): upload for upload in found}.values()
    for upload in files:
        kept.path_in(save, upload)
    problems = 0
    for upload in files:
        try:
            _tell(f"saved {kept.save(upload, save)}")
        except ServiceError:
            raise  # the store does not answer: it would not for the next file either
        except StepError as error:
            problems += 1
            _tell(str(error), style="red")
    return 1 if problems else 0


limits = App(name="limits", help="How many steps ask each external service at once.")
app.command(limits)


@limits.command(name="apply")
def apply_limits(
    *,
    reset: Annotated[
        bool, Parameter(help="Also set those that differ back to what the project suggests.")
    ] = False,
) -> None:
    """Make Prefect's global concurrency limit of each service, where it is missing.

    What was changed in Prefect stays, unless --reset is given. Steps refuse to run without them.
    """
    from mavedb_audit import limits as service_limits
    from mavedb_audit.histories import expecting_an_answer, prefect_client

    _require_prefect()
    with prefect_client() as client, expecting_an_answer("What is missing was not made"):
        applied = service_limits.apply(client, reset=reset)
    for one in applied:
        change = "made" if one.before is None else "kept"
        if one.before not in (None, one.limit):
            change = f"was {one.before}"
        sys.stdout.write(f"{one.service}: {one.limit} ({change})\n")


def _require_prefect() -> None:
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value() is None:
        # Prefect would start a server of its own, where nobody looks for the flow runs.
        raise ConfigurationError(
            "PREFECT_API_URL is not set: it must be the API of the Prefect server, such as"
            " http://prefect:4200/api"
        )


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _is_user(connection: "Connection", user_id: int) -> bool:
    from sqlalchemy import text

    found = connection.execute(text("SELECT true FROM users WHERE id = :id"), {"id": user_id})
    return found.scalar_one_or_none() is True


def main() -> None:
    """The entry point: a mistake that a person can mend is one message, without a traceback."""
    try:
        sys.exit(app())
    except MaveDBAuditError as error:
        _tell(str(error), style="red")
        sys.exit(_exit_code(error))


def _tell(message: str, style: str | None = None) -> None:
    messages.print(
        f"mavedb-audit: {message}", style=style, highlight=False, markup=False, soft_wrap=True
    )


def _exit_code(error: MaveDBAuditError) -> int:
    match error:
        case DatabaseUnreachableError() | PrefectUnreachableError() | ServiceError():
            return 3
        case RequestError() | ConfigurationError() | SchemaError():
            return 2
        case _:
            return 1
