"""Which HGVS expression a mapped variant is looked up by, or why there is none."""

from typing import Any

import pytest

from mavedb_audit.reasons import Reason
from tasks.vrs import expression


def allele(*expressions: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "type": "Allele",
        "location": {"type": "SequenceLocation", "start": 166, "end": 167},
        "state": {"type": "LiteralSequenceExpression", "sequence": "C"},
        "expressions": list(expressions),
        **more,
    }


THR = allele({"syntax": "hgvs.p", "value": "NP_009231.2:p.Thr167Cys"})
ALA = allele({"syntax": "hgvs.p", "value": "NP_009231.2:p.Ala2Gly"})
# A row mapped before 2025: the allele in a descriptor, its place as an interval.
VRS_1 = {
    "type": "VariationDescriptor",
    "variation": {
        "type": "Allele",
        "location": {
            "type": "SequenceLocation",
            "interval": {
                "type": "SequenceInterval",
                "start": {"type": "Number", "value": 141},
                "end": {"type": "Number", "value": 142},
            },
        },
    },
    "expressions": [{"syntax": "hgvs.p", "value": "NP_009225.1:p.Pro142Val"}],
}


@pytest.mark.parametrize(
    ("post_mapped", "expected"),
    [
        (THR, "NP_009231.2:p.Thr167Cys"),
        ({"type": "CisPhasedBlock", "members": [THR]}, "NP_009231.2:p.Thr167Cys"),
        ({"type": "Haplotype", "members": [THR]}, "NP_009231.2:p.Thr167Cys"),
        ({"type": "CisPhasedBlock", "members": [THR, ALA]}, Reason.MULTI_VARIANT),
        ({"type": "Haplotype", "members": [VRS_1, VRS_1]}, Reason.MULTI_VARIANT),
        ({"type": "Haplotype", "members": [VRS_1]}, Reason.OUTDATED_MAPPING),
        ({"type": "CisPhasedBlock", "members": []}, Reason.NO_HGVS),
        (None, Reason.NOT_MAPPED),
        ({}, Reason.NOT_MAPPED),
        (allele(), Reason.NO_HGVS),
        ({"type": "Allele"}, Reason.NO_HGVS),
        (allele({"syntax": "hgvs.p", "value": ""}), Reason.NO_HGVS),
        (allele({"syntax": "spdi", "value": "NC_000017.11:43124016:A:T"}), Reason.NO_HGVS),
        (
            allele(
                {"syntax": "spdi", "value": "NC_000017.11:43124016:A:T"},
                {"syntax": "hgvs.g", "value": "NC_000017.11:g.43124017A>T"},
            ),
            "NC_000017.11:g.43124017A>T",
        ),
        (allele("text", {"syntax": 7}, None), Reason.NO_HGVS),  # type: ignore[arg-type]
        ({"type": ["Allele"], "location": "SL.x", "expressions": "hgvs.p"}, Reason.NO_HGVS),
        ({"type": "CisPhasedBlock", "members": ["text"]}, Reason.NO_HGVS),
        (VRS_1, Reason.OUTDATED_MAPPING),
        (VRS_1["variation"], Reason.OUTDATED_MAPPING),
    ],
)
def test_expression(post_mapped: dict[str, Any] | None, expected: str | Reason) -> None:
    assert expression(post_mapped) == expected
    assert type(expression(post_mapped)) is type(expected)
