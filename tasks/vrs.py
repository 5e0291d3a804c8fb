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
    if str(post_mapped.get("type")) in _BLOCKS:
        members = _objects(post_mapped.get("members"))
        if len(members) > 1:
            return Reason.MULTI_VARIANT
        return expression(members[0]) if members else Reason.NO_HGVS
    if _is_vrs_1(post_mapped):
        return Reason.OUTDATED_MAPPING
    for candidate in _objects(post_mapped.get("expressions")):
        if candidate.get("value") and str(candidate.get("syntax", "hgvs")).startswith("hgvs"):
            return str(candidate["value"])
    return Reason.NO_HGVS


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of what should be a list of nothing else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_vrs_1(variation: Mapping[str, Any]) -> bool:
    """VRS 1 wraps an allele in a VariationDescriptor and gives its place as an interval."""
    location = variation.get("location")
    return (
        variation.get("type") == "VariationDescriptor"
        or "variation" in variation
        or (isinstance(location, dict) and "interval" in location)
    )
