"""A variant's story as a curator reads it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from mavedb_audit.cli.output import duration, moment, style_of

if TYPE_CHECKING:
    from mavedb_audit.queries.stories import Attempt, Chapter, Story


def story(found: "Story", *, with_successes: bool) -> Iterator[str | Text]:
    """What is missing, each with its chain; then what is there, in a line each or in full."""
    names = "  ".join(name for name in (found.hgvs_nt, found.hgvs_pro) if name)
    yield f"{found.variant_urn}  {names}".rstrip()
    yield (
        f"of the score set {found.score_set_urn};"
        f" ClinGen allele {found.clingen_allele_id or 'not known'}"
    )
    missing = [chapter for chapter in found.chapters if chapter.status != "success"]
    there = [chapter for chapter in found.chapters if chapter.status == "success"]
    yield f"{len(missing)} of {len(found.chapters)} annotations are missing"
    for alike in _alike(missing):
        yield ""
        yield from _chapters(alike)
    if there:
        yield ""
    for chapter in there:
        if with_successes:
            yield from _chapters([chapter])
        else:
            yield Text.assemble(_title([chapter]), ": ", _status(chapter))


def _alike(chapters: "Sequence[Chapter]") -> "Iterable[Sequence[Chapter]]":
    """The releases of one annotation together that all say the same."""
    grouped: dict[tuple[str | None, ...], list[Chapter]] = {}
    for chapter in chapters:
        key = (chapter.annotation_type, chapter.status, chapter.reason, chapter.said)
        grouped.setdefault(key, []).append(chapter)
    return grouped.values()


def _title(alike: "Sequence[Chapter]") -> str:
    versions = ", ".join(chapter.version for chapter in alike if chapter.version)
    return f"{alike[0].annotation_type} {versions}".rstrip()


def _status(chapter: "Chapter") -> tuple[str, str]:
    return chapter.status, style_of(chapter.status) or ""


def _chapters(alike: "Sequence[Chapter]") -> Iterator[str | Text]:
    first = alike[0]
    reason = f" ({first.reason})" if first.reason else ""
    yield Text.assemble((_title(alike), "bold"), ": ", _status(first), reason)
    if first.sentence:
        yield f"  Why: {first.sentence}"
    if first.said:
        yield f"  It said: {first.said}"
    if first.hint:
        yield f"  What to do: {first.hint}"
    if first.command:
        yield f"    {first.command}"
    for chapter in alike:
        yield from _evidence(chapter, of_several=len(alike) > 1)


def _evidence(chapter: "Chapter", *, of_several: bool) -> Iterator[str]:
    which = f"{chapter.version} recorded" if of_several and chapter.version else "Recorded"
    by = f"{chapter.job_function}, {chapter.job_urn}" if chapter.job_urn else "an unknown job"
    within = f" of {chapter.pipeline_urn}" if chapter.pipeline_urn else ""
    yield f"  {which} {moment(chapter.recorded_at)} UTC by {by}{within}"
    if chapter.confirmed_at is not None:
        confirmer = chapter.confirmed_by_job_urn or "an unknown job"
        yield f"    Found again {moment(chapter.confirmed_at)} UTC by {confirmer}"
    for attempt in chapter.attempts:
        yield f"    {_attempt(attempt)}"
    for earlier in chapter.earlier:
        said = f": {earlier.message}" if earlier.message else ""
        was = f"{earlier.status} ({earlier.reason})" if earlier.reason else earlier.status
        yield f"    Before, {moment(earlier.recorded_at)} UTC: {was}{said}"


def _attempt(attempt: "Attempt") -> str:
    what = attempt.outcome or "still running"
    if attempt.failure_category:
        what += f" ({attempt.failure_category})"
    if attempt.finished_at is not None:
        what += f" after {duration((attempt.finished_at - attempt.started_at).total_seconds())}"
    said = f": {attempt.error_message}" if attempt.error_message else ""
    began = f"{moment(attempt.started_at)} UTC on {attempt.host}"
    return f"Attempt {attempt.attempt}, {began}, {what}{said}"
