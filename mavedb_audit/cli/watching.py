"""Follows a pipeline until it ends."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mavedb_audit.cli.application import LOOK, Output, PipelineURN, command
from mavedb_audit.cli.output import DONE, FOUND_PROBLEMS, moment, show, write
from mavedb_audit.cli.reaching import database

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Connection

    from mavedb_audit.cli.views import StepChange
    from mavedb_audit.queries.pipelines import Detail


@command(
    "watch",
    LOOK,
    "mavedb-audit watch urn:mavedb:pipeline-0c5d…",
    "mavedb-audit watch urn:mavedb:pipeline-0c5d… --output json | jq -r .pipeline_status",
)
def watch(
    pipeline_urn: PipelineURN,
    /,
    *,
    every: Annotated[float, Parameter(help="How often to look, in seconds.")] = 1.0,
    output: Output = "table",
) -> int:
    """Follow a pipeline until it ends. Exits 0 when it succeeded, else 1.

    On a terminal it is a table that changes; elsewhere, a line for each change, and with --output
    json an object a line. An outage of the database is waited out.
    """
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    # The first look is not patient: a wrong URN or database is told at once.
    with database() as connection:
        first = _look_with(connection, pipeline_urn)
    if output == "table" and console.is_terminal:
        last = _follow_live(console, first, every)
    else:
        last = _follow_in_lines(first, every, as_json=output == "json")
    return DONE if last.status == "succeeded" else FOUND_PROBLEMS


def _follow_live(console: "Console", first: "Detail", every: float) -> "Detail":
    from rich.console import Group
    from rich.live import Live

    from mavedb_audit.cli.pipelines_text import detail

    last = first
    # On the alternate screen nothing is left but what is printed at the end.
    with Live(console=console, refresh_per_second=4, screen=True) as live:
        for last in _looks(first, every):
            live.update(Group(*detail(last)))
    show(*detail(last))
    return last


def _follow_in_lines(first: "Detail", every: float, *, as_json: bool) -> "Detail":
    before: Detail | None = None
    for last in _looks(first, every):
        for change in changes(before, last):
            write(f"{change.model_dump_json()}\n" if as_json else _line(change))
        before = last
    return last


def _looks(first: "Detail", every: float) -> "Iterator[Detail]":
    """The pipeline again and again, until it has ended."""
    from mavedb_audit.database import connect, patiently
    from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES

    @patiently
    def look() -> "Detail":
        with connect() as connection:
            return _look_with(connection, first.urn)

    seen = first
    yield seen
    while seen.status not in TERMINAL_PIPELINE_STATUSES:
        time.sleep(every)
        seen = look()
        yield seen


def _look_with(connection: "Connection", pipeline_urn: str) -> "Detail":
    from mavedb_audit.queries.pipelines import detail

    return detail(connection, pipeline_urn)


def changes(before: "Detail | None", now: "Detail") -> "Iterator[StepChange]":
    """What differs: the steps in the order of the plan, then the pipeline itself.

    Before the first look everything was pending, and the pipeline not there.
    """
    from mavedb_audit.cli.views import StepChange

    at = datetime.now(UTC)
    known = {step.job_key: step for step in before.steps} if before else {}
    for step in now.steps:
        was = known.get(step.job_key)
        state = (step.status, step.attempts, step.progress_current, step.progress_message)
        if was is None:
            is_new = step.status != "pending"
        else:
            is_new = state != (was.status, was.attempts, was.progress_current, was.progress_message)
        if is_new:
            yield StepChange(
                at=at,
                pipeline_urn=now.urn,
                pipeline_status=now.status,
                job_key=step.job_key,
                job_status=step.status,
                attempts=step.attempts,
                progress_current=step.progress_current,
                progress_total=step.progress_total,
                message=step.error_message or step.progress_message,
            )
    if before is None or before.status != now.status:
        yield StepChange(
            at=at,
            pipeline_urn=now.urn,
            pipeline_status=now.status,
            job_key=None,
            job_status=None,
            attempts=None,
            progress_current=None,
            progress_total=None,
            message=now.waiting_because,
        )


def _line(change: "StepChange") -> str:
    if change.job_key is None:
        said = f": {change.message}" if change.message else ""
        return f"{moment(change.at)}  {change.pipeline_urn} is {change.pipeline_status}{said}\n"
    done = ""
    if change.progress_total:
        done = f" {change.progress_current or 0:,}/{change.progress_total:,}"
    said = f": {change.message}" if change.message else ""
    return f"{moment(change.at)}  {change.job_key} {change.job_status}{done}{said}\n"
