"""The live progress of a pipeline, as it stands in MaveDB's own tables."""

import time
from collections.abc import Callable, Sequence
from textwrap import shorten

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, Engine, RowMapping, text

from mavedb_audit.errors import MaveDBAuditError
from mavedb_audit.pipelines import START_PIPELINE

_POLL_SECONDS = 0.3
_STILL_SECONDS = 180.0
_NEWS_LENGTH = 100
_CHANGING = ("status", "progress_current", "progress_message")
_TERMINAL = frozenset({"succeeded", "failed", "cancelled", "partial"})
_STYLES = {
    **{"running": "cyan", "succeeded": "green", "success": "green", "partial": "yellow"},
    **{"failed": "red", "cancelled": "red", "skipped": "yellow"},
}


class StandstillError(MaveDBAuditError):
    """A pipeline has stopped moving before its end."""


def follow(
    engine: Engine, pipeline_id: int, console: Console, check_parts: Callable[[], None]
) -> str:
    """Show the pipeline's steps until it is terminal, and return its status.

    In a terminal one line a step, live; elsewhere a line for each change. `check_parts` is called
    again and again, and ends the watch by raising. Raises StandstillError when nothing changes
    for minutes.
    """
    shown: dict[int, str] = {}
    before, changed_at = None, time.monotonic()
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while True:
            with engine.connect() as connection:
                status, waits_because = _pipeline(connection, pipeline_id)
                jobs = _jobs(connection, pipeline_id)
            if console.is_terminal:
                live.update(_steps(jobs, status, waits_because))
            else:
                _print_changes(jobs, shown, console)
            if status in _TERMINAL:
                return status
            check_parts()
            now = [tuple(job[name] for name in _CHANGING) for job in jobs]
            if now != before:
                before, changed_at = now, time.monotonic()
            elif time.monotonic() - changed_at > _STILL_SECONDS:
                raise StandstillError(
                    f"Nothing has changed for {_STILL_SECONDS:.0f} seconds, and the pipeline is "
                    f"still {status}. The logs of the worker and of the audit say more."
                )
            time.sleep(_POLL_SECONDS)


def _pipeline(connection: Connection, pipeline_id: int) -> tuple[str, str | None]:
    status, waits_because = connection.execute(
        text(
            """
            SELECT pipelines.status, request.last_error
              FROM pipelines
              LEFT JOIN pipeline_requests AS request
                ON request.pipeline_id = pipelines.id AND request.dispatched_at IS NULL
             WHERE pipelines.id = :id
            """
        ),
        {"id": pipeline_id},
    ).one()
    return status, waits_because


def _jobs(connection: Connection, pipeline_id: int) -> Sequence[RowMapping]:
    return (
        connection.execute(
            text(
                """
                SELECT job.id, job_key, status, progress_current, progress_total,
                       progress_message, error_message,
                       extract(epoch FROM coalesce(finished_at, now()) - started_at) AS seconds
                  FROM job_runs AS job JOIN planned_jobs AS planned ON planned.job_id = job.id
                 WHERE job.pipeline_id = :id AND job_function <> :start
                 ORDER BY job.id
                """
            ),
            {"id": pipeline_id, "start": START_PIPELINE},
        )
        .mappings()
        .all()
    )


def _steps(jobs: Sequence[RowMapping], status: str, waits_because: str | None) -> Group:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs:
        done, total = job["progress_current"], job["progress_total"]
        table.add_row(
            job["job_key"],
            styled(job["status"]),
            ProgressBar(total, done or 0, width=16) if total else "",
            f"{job['seconds']:.1f} s" if job["seconds"] is not None else "",
            _news(job),
        )
    heading = Text.assemble("pipeline ", styled(status))
    if waits_because:
        heading.append(f"  waits: {waits_because}", style="yellow")
    return Group(heading, table)


def _print_changes(jobs: Sequence[RowMapping], shown: dict[int, str], console: Console) -> None:
    for job in jobs:
        line = f"{job['job_key']}: {job['status']}"
        if job["progress_total"]:
            line += f" {job['progress_current'] or 0}/{job['progress_total']}"
        if news := _news(job):
            line += f", {news}"
        if shown.get(job["id"]) != line and job["status"] != "pending":
            shown[job["id"]] = line
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _news(job: RowMapping) -> str:
    """What a step says of itself, in one line."""
    return shorten(job["error_message"] or job["progress_message"] or "", _NEWS_LENGTH)


def styled(status: str) -> Text:
    """A status of a pipeline, job or variant in its colour."""
    return Text(status, style=_STYLES.get(status, ""))
