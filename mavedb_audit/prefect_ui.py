"""What Prefect's own UI shows of a pipeline: a name and tags that read, how far its steps are, and
at its end what became of it.

Nothing depends on it: where Prefect refuses it, or does not answer, a line in the log says so.
"""

import html
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from pydantic import BaseModel
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from mavedb_audit.database import connect
from mavedb_audit.errors import DatabaseUnreachableError
from mavedb_audit.logs import logger_of
from mavedb_audit.pipelines import START_PIPELINE
from mavedb_audit.queries import accounts, pipelines
from mavedb_audit.reasons import AnnotationStatus
from mavedb_audit.settings import settings
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES, JobStatus

logger = logger_of(__name__)

_PATIENCE_SECONDS = 2.0
#: A request takes 12 to 30 milliseconds, which a step that is done before is spared.
_PROGRESS_INTERVAL_SECONDS = 5.0
_LONGEST_MESSAGE = 300
#: An answer that did not come, is an error, or is not what Prefect answers (a ValueError).
_UNANSWERED = (httpx.HTTPError, ValueError)


@dataclass(frozen=True)
class Shown:
    """What a flow run is called, and what it is found by."""

    name: str
    tags: list[str]


def shown_as(connection: Connection, pipeline_id: int) -> Shown:
    """The score set, the pipeline, and ClinVar's release where its one step is of one."""
    rows = connection.execute(
        text(
            """
            SELECT pipeline.name, scoresets.urn AS score_set_urn,
                   job.job_params ->> 'year' AS year, job.job_params ->> 'month' AS month
              FROM pipelines AS pipeline
              LEFT JOIN planned_jobs AS planned
                ON planned.pipeline_id = pipeline.id AND planned.job_key <> :start
              LEFT JOIN job_runs AS job ON job.id = planned.job_id
              LEFT JOIN scoresets ON scoresets.id = planned.score_set_id
             WHERE pipeline.id = :id
            """
        ),
        {"id": pipeline_id, "start": START_PIPELINE},
    ).all()
    first = rows[0]
    is_of_release = len(rows) == 1 and first.year is not None and first.month is not None
    release = f"{first.month:>02}_{first.year}" if is_of_release else None
    parts = [part for part in (first.score_set_urn, first.name, release) if part is not None]
    return Shown(" ".join(parts), sorted(parts))


def show_flow_run(pipeline_id: int, flow_run_id: UUID, tags_before: Iterable[str]) -> None:
    """Give a flow run that somebody started by hand its name and tags. Quiet."""
    with _quietly("name"):
        with connect() as connection:
            shown = shown_as(connection, pipeline_id)
        tags = sorted({*tags_before, *shown.tags})
        with _client() as client:
            client.update_flow_run(flow_run_id, name=shown.name, tags=tags)


class _Created(BaseModel):
    """As much of Prefect's answer as we need."""

    id: UUID


@dataclass
class StepProgress:
    """A progress bar on a step's task run, for steps that take longer than some seconds.

    After a request that was refused or not answered there are no more of this step's.
    """

    flow_run_id: UUID
    task_run_id: UUID
    _artifact_id: UUID | None = None
    _next_at: float = field(default_factory=lambda: time.monotonic() + _PROGRESS_INTERVAL_SECONDS)

    def show(self, percent: float, message: str) -> None:
        if time.monotonic() < self._next_at:
            return
        self._next_at = float("inf")
        with _quietly("progress"):
            self._send(percent, message)
            self._next_at = time.monotonic() + _PROGRESS_INTERVAL_SECONDS

    def end(self) -> None:
        """Fill the bar, where there is one."""
        if self._artifact_id is not None and self._next_at != float("inf"):
            with _quietly("progress"):
                self._send(100.0, "Done")

    def _send(self, percent: float, message: str) -> None:
        shown = {"data": min(100.0, max(0.0, percent)), "description": message}
        with _client() as client:
            if self._artifact_id is None:
                of = {
                    "type": "progress",
                    "flow_run_id": str(self.flow_run_id),
                    "task_run_id": str(self.task_run_id),
                }
                created = client.request("POST", "/artifacts/", json={**of, **shown})
                self._artifact_id = _Created.model_validate_json(created.content).id
            else:
                path = {"id": self._artifact_id}
                client.request("PATCH", "/artifacts/{id}", json=shown, path_params=path)


def summarise(flow_run_id: UUID) -> None:
    """Put the summary of the flow run's pipeline on it, if the pipeline has ended. Quiet.

    Each is kept under the pipeline's own key: after a retry Prefect shows the newest.
    """
    with _quietly("summary"):
        with connect() as connection:
            urn = connection.execute(
                text(
                    """
                    SELECT urn FROM prefect_runs JOIN pipelines ON pipelines.id = pipeline_id
                     WHERE run_id = :flow_run_id
                    """
                ),
                {"flow_run_id": flow_run_id},
            ).scalar_one_or_none()
            if urn is None:
                return
            pipeline = pipelines.detail(connection, urn)
            if pipeline.status not in TERMINAL_PIPELINE_STATUSES:
                return
            score_set = pipeline.score_set_urn
            account = None if score_set is None else accounts.account(connection, score_set)
        shown: dict[str, Any] = {
            "type": "markdown",
            "key": _key(urn),
            "flow_run_id": str(flow_run_id),
            "description": f"{pipeline.status}: {pipeline.name}",
            "data": summary(pipeline, account, settings().audit_page_url),
        }
        with _client() as client:
            client.request("POST", "/artifacts/", json=shown)


def _key(urn: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    return re.sub("[^a-z0-9]+", "-", urn.removeprefix("urn:mavedb:").lower()).strip("-")


def summary(
    pipeline: pipelines.Detail, account: accounts.Account | None, page_url: str | None
) -> str:
    """What became of the pipeline, as markdown."""
    parts = [f"# {_inline(pipeline.name)}: {pipeline.status}", _facts(pipeline, page_url)]
    steps = [step for step in pipeline.steps if step.job_function != START_PIPELINE]
    parts.append(
        _table(
            ("step", "status", "attempts", "seconds"),
            [
                (
                    step.job_key,
                    step.status,
                    str(step.attempts),
                    "" if step.elapsed_seconds is None else f"{step.elapsed_seconds:.1f}",
                )
                for step in steps
            ],
        )
    )
    failed = [step for step in steps if step.status in (JobStatus.FAILED, JobStatus.ERRORED)]
    if failed:
        parts.append("## What failed")
        parts += [
            f"- **{_inline(step.job_key)}** ({step.failure_category}):"
            f" {_inline(step.error_message or 'without a message')}"
            for step in failed
        ]
    if account is not None and account.counts:
        parts += [f"## Variants: {account.variants:,}", _account(account)]
        parts += _hints(account)
    return "\n\n".join(parts) + "\n"


def _facts(pipeline: pipelines.Detail, page_url: str | None) -> str:
    facts = [f"`{pipeline.urn}`"]
    if pipeline.score_set_urn is not None:
        facts.append(f"score set `{pipeline.score_set_urn}`")
    if pipeline.requested_by is not None:
        facts.append(f"requested by {_inline(pipeline.requested_by)}")
    if page_url is not None:
        facts.append(f"[all about it]({page_url.rstrip('/')}/pipelines/{pipeline.urn})")
    return ", ".join(facts)


def _account(account: accounts.Account) -> str:
    """One row for each annotation and version, with the number of variants of each status."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for count in account.counts:
        row = counts.setdefault((count.annotation_type, count.version or ""), {})
        row[count.status] = row.get(count.status, 0) + count.variants
    return _table(
        ("annotation", "version", *AnnotationStatus),
        [
            (*annotation, *(f"{row.get(status, 0):,}" for status in AnnotationStatus))
            for annotation, row in counts.items()
        ],
    )


def _hints(account: accounts.Account) -> list[str]:
    """What can be done about the variants that failed."""
    failed = [count for count in account.counts if count.status == AnnotationStatus.FAILED]
    lines = [
        f"- {count.variants:,} of {count.annotation_type}"
        f"{f' {count.version}' if count.version else ''}: {count.sentence or count.reason}"
        f" {count.hint or ''}".rstrip()
        for count in failed
    ]
    return ["## What to do", "\n".join(lines)] if lines else []


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(_inline(cell) for cell in line)} |" for line in lines)


def _inline(words: str) -> str:
    """Words of a service or a person, as text that is no markup and breaks no line."""
    line = " ".join(words.split())
    short = line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(short, quote=False))


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """A client that asks once, and does not wait for long."""
    patience = {"timeout": _PATIENCE_SECONDS}
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings=patience) as client,
    ):
        yield client


@contextmanager
def _quietly(what: str) -> Iterator[None]:
    try:
        yield
    except (*_UNANSWERED, SQLAlchemyError, DatabaseUnreachableError) as error:
        logger.warning("prefect.not_shown", what=what, error=str(error))
