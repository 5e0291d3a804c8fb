"""The variants of a step's scope, as they are mapped and registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from mavedb_audit.reasons import Reason
from mavedb_audit.scopes import IN_SCOPE
from tasks.vrs import expression

_VARIANTS = f"""
    SELECT variant.id AS variant_id, mapped.id AS mapped_variant_id, mapped.post_mapped,
           mapped.clingen_allele_id,
           split_part(coalesce(variant.hgvs_nt, variant.hgvs_splice, variant.hgvs_pro), ':', 1)
           AS target_name
      FROM variants AS variant
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE {IN_SCOPE}
     ORDER BY variant.id
"""


@dataclass(frozen=True, slots=True)
class MappedVariant:
    """A variant of the scope.

    `hgvs` is its expression on the human reference, or why it has none. `clingen_allele_ids` has
    several for old data alone. In a score set of several targets its own HGVS begins with the name
    of its target.
    """

    variant_id: int
    mapped_variant_id: int | None
    hgvs: str | Reason
    clingen_allele_ids: tuple[str, ...]
    target_name: str

    def why_unregistered(self) -> Reason:
        """The reason why it has no ClinGen allele id."""
        return self.hgvs if isinstance(self.hgvs, Reason) else Reason.NO_CLINGEN_ALLELE_ID


def read_mapped_variants(
    connection: Connection, scope: Mapping[str, int]
) -> Sequence[MappedVariant]:
    """Every variant of the scope, also those that were not mapped."""
    rows = connection.execution_options(yield_per=5_000).execute(text(_VARIANTS), scope)
    return [
        MappedVariant(
            row.variant_id,
            row.mapped_variant_id,
            expression(row.post_mapped),
            tuple(i for i in map(str.strip, (row.clingen_allele_id or "").split(",")) if i),
            row.target_name or "",
        )
        for row in rows
    ]
