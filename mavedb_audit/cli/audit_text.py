"""What was found of the audit itself, and of uploaded files, as a person reads it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mavedb_audit.cli.output import moment, table

if TYPE_CHECKING:
    from mavedb_audit.cli.views import Recovered
    from mavedb_audit.doctor import Finding
    from mavedb_audit.prune import Pruned
    from mavedb_audit.taking_over import TakenOver
    from mavedb_audit.uploads import Upload
    from mavedb_audit.verify import Difference, Verification


def uploads(found: "Sequence[Upload]") -> Iterable[str]:
    """Some lines a file; none is broken, so that digests and URNs can be copied."""
    for upload in found:
        yield upload.key
        yield f"  {upload.kind}, {upload.size:,} bytes, SHA-256 {upload.sha256}"
        yield (
            f"  recorded {moment(upload.recorded_at)} UTC ({upload.recorded_by}),"
            f" by {upload.username or upload.user_id or 'nobody known'}"
        )
        yield f"  for {upload.pipeline_urn}"


def verification_as_table(found: "Verification") -> Iterable[RenderableType]:
    """The counts in a line, then a table for each list that is not empty."""
    yield (
        f"{found.runs} runs; {found.states_in_prefect} states in Prefect,"
        f" {found.states_in_audit} in the audit; {len(found.differences)} differences,"
        f" {len(found.broken)} broken invariants, {len(found.unanswered)} runs unanswered;"
        f" {len(found.lost_by_prefect)} states lost by Prefect,"
        f" {len(found.recent)} too recent to judge,"
        f" {found.runs_forgotten} runs forgotten by Prefect, {found.runs_pruned} pruned here"
    )
    for title, differences in (
        ("Differences", found.differences),
        ("Lost by Prefect", found.lost_by_prefect),
    ):
        if differences:
            yield ""
            yield _differences(title, differences)
    if found.broken:
        made = table("what must hold", "rows", "for example", title="Broken invariants")
        for broken in found.broken:
            examples = "\n".join(f"{subject}: {said}" for subject, said in broken.examples[:5])
            made.add_row(broken.invariant, str(broken.rows), examples)
        yield ""
        yield made


def _differences(title: str, differences: "Sequence[Difference]") -> Table:
    made = table(
        *("run", "name", "state", "at", "what", "told by"), title=title, unbroken=("run", "at")
    )
    for each in differences:
        made.add_row(
            str(each.run_id),
            each.run_name,
            f"{each.name} {each.state_id}",
            each.timestamp.isoformat(timespec="milliseconds"),
            each.what,
            each.source or "",
        )
    return made


def recoveries(done: "Recovered") -> Iterable[RenderableType]:
    yield f"{done.settled} settled"
    if done.recoveries:
        made = table(*("pipeline", "what was done", "why"), unbroken=("pipeline", "what was done"))
        for each in done.recoveries:
            made.add_row(each.pipeline_urn or "-", each.action, each.reason or "")
        yield made


def pruned(found: "Sequence[Pruned]") -> Iterable[RenderableType]:
    if not found:
        yield "Nothing is old enough"
        return
    made = table("table", "state", "rows", unbroken=("table", "state", "rows"))
    for each in found:
        made.add_row(each.table, each.state, f"{each.rows:,}")
    yield made


def findings(found: "Sequence[Finding]") -> Iterable[RenderableType]:
    """What is wrong, with what to do; then all that was looked at."""
    wrong = [finding for finding in found if finding.ok is False]
    made = table("", "what", "found", unbroken=("", "what"))
    marks = {
        True: Text("ok", "green"),
        False: Text("wrong", "red"),
        None: Text("not seen", "yellow"),
    }
    for finding in found:
        made.add_row(marks[finding.ok], finding.name, finding.found)
    yield made
    for finding in wrong:
        yield ""
        yield Text(f"{finding.name}: {finding.found}", style="red")
        yield f"  {finding.remedy}"
    yield ""
    yield f"{len(wrong)} of {len(found)} are wrong" if wrong else "Nothing is wrong"


def taken_over(done: "Sequence[TakenOver]") -> Iterable[RenderableType]:
    """A row for each pipeline or job of the earlier system that was open."""
    rows = table("closed", "name", "score set", "open jobs", "in its place", unbroken=("closed",))
    for each in done:
        rows.add_row(
            each.urn,
            each.name,
            each.score_set_urn or "-",
            str(each.open_jobs),
            each.asked_again or f"nothing: {each.message}",
        )
    yield rows if done else "The earlier system left nothing open."
