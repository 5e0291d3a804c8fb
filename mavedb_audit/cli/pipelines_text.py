"""Pipelines and score sets as a person reads them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mavedb_audit.cli.output import duration, moment, style_of, table

if TYPE_CHECKING:
    from mavedb_audit.cli.views import Overview
    from mavedb_audit.queries.accounts import Account, Count
    from mavedb_audit.queries.failures import FailureGroup
    from mavedb_audit.queries.histories import History
    from mavedb_audit.queries.pipelines import Detail, Step, Summary


def overview(found: "Overview") -> Iterable[RenderableType]:
    system = found.system
    by_status = ", ".join(f"{n} {status}" for status, n in system.pipelines_by_status.items())
    yield f"Pipelines of the last day, and open ones: {by_status or 'none'}"
    yield (
        f"Open runs in Prefect: {system.open_runs}; requests waiting: {system.requests_waiting};"
        f" latest record of a state: {duration(system.mirror_lag_seconds)} late"
    )
    for problem in found.problems:
        yield Text(f"Problem: {problem}", style="red")
    if not found.problems:
        yield "Nothing is wrong"
    if found.pipelines:
        yield ""
        yield summaries(found.pipelines)


def summaries(pipelines: "Sequence[Summary]") -> Table:
    made = table(
        *("pipeline", "name", "status", "jobs", "created (UTC)", "took", "score set", "by"),
        unbroken=("pipeline", "status", "jobs", "created (UTC)", "took", "score set"),
    )
    for one in pipelines:
        made.add_row(
            one.urn,
            one.name,
            Text(one.status, style=style_of(one.status) or ""),
            f"{one.jobs_ended}/{one.jobs}"
            + (f", {one.jobs_failed} failed" * bool(one.jobs_failed)),
            moment(one.created_at),
            duration(one.duration_seconds),
            one.score_set_urn or "-",
            one.requested_by or "-",
        )
    return made


def detail(pipeline: "Detail") -> Iterable[RenderableType]:
    """A pipeline's head, its steps, what went wrong, and who did what to it."""
    yield f"{pipeline.urn}  {pipeline.name}"
    yield Text.assemble(
        ("status ", ""),
        (pipeline.status, style_of(pipeline.status) or ""),
        f", {pipeline.jobs_ended} of {pipeline.jobs} jobs ended",
        f", {duration(pipeline.duration_seconds)}" if pipeline.duration_seconds else "",
    )
    by = pipeline.requested_by or "nobody known"
    yield f"asked for {moment(pipeline.created_at)} UTC by {by}"
    if pipeline.score_set_urn:
        yield f"score set {pipeline.score_set_urn}"
    if pipeline.flow_run_id:
        yield f"flow run in Prefect {pipeline.flow_run_id}"
    if pipeline.waiting_because:
        yield f"waits: {pipeline.waiting_because}"
    yield ""
    yield steps(pipeline.steps)
    failed = [step for step in pipeline.steps if step.error_message]
    for step in failed:
        yield ""
        yield f"{step.job_key}: {step.failure_category or 'failed'}"
        yield f"  {step.error_message}"
    for action in pipeline.actions:
        yield (
            f"{moment(action.created_at)} UTC  {action.action} by {action.actor}"
            + (f": {action.reason}" if action.reason else "")
        )


def steps(of_pipeline: "Sequence[Step]") -> Table:
    made = table(
        *("step", "status", "attempts", "took", "left", "progress"),
        unbroken=("step", "status", "attempts", "took", "left"),
    )
    for step in of_pipeline:
        done = ""
        if step.progress_total and step.status == "running":
            done = f"{step.progress_current or 0:,}/{step.progress_total:,} "
        made.add_row(
            step.job_key,
            Text(step.status, style=style_of(step.status) or ""),
            str(step.attempts or "-"),
            duration(step.elapsed_seconds),
            f"about {duration(step.remaining_seconds)}" if step.remaining_seconds else "",
            done + (step.progress_message or ""),
        )
    return made


def account(found: "Account") -> Iterable[RenderableType]:
    """The numbers of variants by annotation and reason, and what the reasons mean."""
    yield f"{found.score_set_urn}  {found.title}"
    yield (
        f"{found.variants:,} variants; processing {found.processing_state or '-'},"
        f" mapping {found.mapping_state or '-'}"
    )
    if not found.counts:
        yield "No annotation has a status yet"
        return
    reasons = sorted({count.reason for count in found.counts if count.reason})
    # A reason's name is long, and the numbers below it are short.
    headings = [reason.replace("_", "_\n") for reason in reasons]
    made = table("annotation", "version", "success", *headings, unbroken=("annotation", "version"))
    for column in made.columns[2:]:
        column.justify = "right"
    for (annotation_type, version), counts in _by_annotation(found.counts).items():
        numbers = {count.reason: count.variants for count in counts}
        made.add_row(
            annotation_type,
            version or "-",
            *(f"{numbers[key]:,}" if key in numbers else "" for key in (None, *reasons)),
        )
    yield ""
    yield made
    meanings = {count.reason: count for count in found.counts if count.reason}
    for reason in reasons:
        count = meanings[reason]
        yield ""
        yield f"{reason} ({count.status}): {count.sentence or '-'}"
        if count.hint:
            yield f"  {count.hint}"


def _by_annotation(counts: "Iterable[Count]") -> "dict[tuple[str, str | None], list[Count]]":
    grouped: dict[tuple[str, str | None], list[Count]] = {}
    for count in counts:
        grouped.setdefault((count.annotation_type, count.version), []).append(count)
    return grouped


def failures(groups: "Sequence[FailureGroup]", by: str) -> Iterable[RenderableType]:
    made = table(
        *(by, "variants", "jobs", "last (UTC)", "for example", "it said"),
        unbroken=(by, "variants", "jobs", "last (UTC)", "for example"),
    )
    for group in groups:
        made.add_row(
            group.group,
            f"{group.variants:,}",
            f"{group.jobs:,}",
            moment(group.last_at),
            group.example_urn or "-",
            group.example or "",
        )
    yield made
    for group in groups:
        if group.hint:
            yield ""
            yield f"{group.group}: {group.hint}"


def history(found: "History") -> Table:
    made = table(
        *("at (UTC)", "what of", "which", "what", "attempt", "told by", "message"),
        unbroken=("at (UTC)", "what of", "what", "attempt", "told by"),
    )
    for event in found.events:
        made.add_row(
            f"{event.at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            event.kind,
            event.subject,
            Text(event.what, style=style_of(event.what) or ""),
            str(event.attempt or ""),
            event.source or "",
            event.message or "",
        )
    return made
