"""Reading GA4GH VRS objects as the mapper writes them (VRS 2 and, in old rows, VRS 1.3)."""

from collections.abc import Mapping
from typing import Any

from mavedb_audit.reasons import Reason

_BLOCKS = frozenset({"CisPhasedBlock", "Haplotype"})


def expression(post_mapped: Mapping[str, Any] | None) -> str | Reason:
    """The HGVS expression of a post-mapped variant, or the reason why it has none to use.

    A block of one member stands for its member; a block of several has no single expression.
    """
    if not post_mapped:
        return Reason.NOT_MAPPED
    if post_mapped.get("type") in _BLOCKS:
        members = post_mapped.get("members") or []
        if len(members) > 1:
            return Reason.MULTI_VARIANT
        return expression(members[0]) if members else Reason.NO_HGVS
    if _is_vrs_1(post_mapped):
        return Reason.OUTDATED_MAPPING
    for candidate in post_mapped.get("expressions") or []:
        if candidate.get("value") and candidate.get("syntax", "hgvs").startswith("hgvs"):
            return str(candidate["value"])
    return Reason.NO_HGVS


def _is_vrs_1(variation: Mapping[str, Any]) -> bool:
    """VRS 1 wraps an allele in a VariationDescriptor and gives its place as an interval."""
    return (
        variation.get("type") == "VariationDescriptor"
        or "variation" in variation
        or "interval" in (variation.get("location") or {})
    )
