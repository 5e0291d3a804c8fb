"""What changed between two releases, as a person reads it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import RenderableType

from mavedb_audit.cli.output import table

if TYPE_CHECKING:
    from mavedb_audit.queries.releases import ReleaseDiff, Said


def differences(found: "ReleaseDiff") -> Iterable[RenderableType]:
    yield (
        f"{found.score_set_urn}: {found.annotation_type} from {found.from_version} to"
        f" {found.to_version}"
    )
    yield ", ".join(f"{number:,} {change}" for change, number in found.counts.items())
    if found.transitions:
        made = table(found.from_version, found.to_version, "variants")
        for each in found.transitions:
            made.add_row(
                each.before or "no record", each.after or "no record", f"{each.variants:,}"
            )
        yield ""
        yield made
    if found.variants:
        made = table(
            *("variant", "HGVS", "change", found.from_version, found.to_version),
            unbroken=("variant", "change"),
        )
        for variant in found.variants:
            made.add_row(
                variant.variant_urn,
                variant.hgvs_nt or variant.hgvs_pro or "-",
                variant.change,
                _said(variant.before),
                _said(variant.after),
            )
        yield ""
        yield made
    if found.next_cursor:
        yield "There are more: --limit"


def _said(said: "Said") -> str:
    if said.record is None:
        return said.reason or said.status or "-"
    return ", ".join(str(value) for value in said.record.values() if value is not None)
