"""What was found, as a person or a program reads it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

if TYPE_CHECKING:  # what prints one of them does not wait for the others to load
    from mavedb_audit.uploads import Upload
    from mavedb_audit.verify import Difference, Verification


def uploads_as_json(found: "Sequence[Upload]") -> str:
    """A list of objects. Times as text."""
    return json.dumps([asdict(upload) for upload in found], indent=2, default=str) + "\n"


def uploads_as_text(found: "Sequence[Upload]") -> str:
    """Some lines a file; none is broken, so that digests and URNs can be copied."""
    return "".join(
        f"{upload.key}\n"
        f"  {upload.kind}, {upload.size:,} bytes, SHA-256 {upload.sha256}\n"
        f"  recorded {upload.recorded_at:%Y-%m-%d %H:%M:%S} UTC ({upload.recorded_by}),"
        f" by {upload.username or upload.user_id or 'nobody known'}\n"
        f"  for {upload.pipeline_urn}\n"
        for upload in found
    )


def verification_as_json(found: "Verification") -> str:
    """One object: the counts, and the lists by name. Ids and times as text."""
    return json.dumps(asdict(found), indent=2, default=str) + "\n"


def verification_as_table(found: "Verification") -> Group:
    """The counts in a line, then a table for each list that is not empty."""
    counts = (
        f"{found.runs} runs; {found.states_in_prefect} states in Prefect,"
        f" {found.states_in_audit} in the audit; {len(found.differences)} differences,"
        f" {len(found.broken)} broken invariants, {len(found.unanswered)} runs unanswered;"
        f" {len(found.lost_by_prefect)} states lost by Prefect,"
        f" {len(found.recent)} too recent to judge,"
        f" {found.runs_forgotten} runs forgotten by Prefect"
    )
    parts: list[str | Table] = [counts]
    for title, differences in (
        ("Differences", found.differences),
        ("Lost by Prefect", found.lost_by_prefect),
    ):
        if differences:
            parts.append(_differences(title, differences))
    if found.broken:
        table = Table(title="Broken invariants", title_justify="left")
        for heading in ("what must hold", "rows", "for example"):
            table.add_column(heading)
        for broken in found.broken:
            examples = "\n".join(f"{subject}: {said}" for subject, said in broken.examples[:5])
            table.add_row(broken.invariant, str(broken.rows), examples)
        parts.append(table)
    return Group(*parts)


def _differences(title: str, differences: "list[Difference]") -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("run", "name", "state", "at", "what", "told by"):
        table.add_column(heading, overflow="fold")
    for each in differences:
        table.add_row(
            str(each.run_id),
            each.run_name,
            f"{each.name} {each.state_id}",
            each.timestamp.isoformat(timespec="milliseconds"),
            each.what,
            each.source or "",
        )
    return table
