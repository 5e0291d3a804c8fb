"""The target genes of a score set as UniProt is asked about them, for the two steps that ask."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from mavedb_audit.texts import storable
from tasks.clients import uniprot

_TARGETS = """
    SELECT id, name, post_mapped_metadata FROM target_genes
     WHERE scoreset_id = :score_set_id ORDER BY id
"""


@dataclass(frozen=True)
class Unasked:
    """Why UniProt cannot be asked about a target: one word, and a sentence."""

    outcome: str
    reason: str


@dataclass(frozen=True)
class Target:
    """A target gene, and the query for the reference accession that it was mapped to."""

    target_gene_id: int
    name: str
    query: uniprot.Query | Unasked

    def described(self, outcome: str, **more: Any) -> dict[str, Any]:
        """What a step's result lists of the target."""
        accession = self.query.accession if isinstance(self.query, uniprot.Query) else None
        listed = {"name": self.name, "accession": accession, "outcome": outcome, **more}
        return {k: storable(v) if isinstance(v, str) else v for k, v in listed.items()}


def read_targets(connection: Connection, score_set_id: int) -> list[Target]:
    """The score set's target genes, in the order of their ids."""
    rows = connection.execute(text(_TARGETS), {"score_set_id": score_set_id})
    return [Target(row.id, row.name, query_for(row.post_mapped_metadata)) for row in rows]


def query_for(post_mapped_metadata: Mapping[str, Any] | None) -> uniprot.Query | Unasked:
    """The query for a target's one protein accession or, without any, its one transcript."""
    levels = post_mapped_metadata or {}
    for level in ("protein", "cdna"):
        accessions = (levels.get(level) or {}).get("sequence_accessions") or []
        if len(accessions) > 1:
            return Unasked(
                "several_accessions",
                "The target was mapped to several reference sequences, and UniProt is asked about"
                f" one: {', '.join(map(str, accessions))}.",
            )
        if accessions:
            return uniprot.query(str(accessions[0])) or Unasked(
                "unsupported_accession",
                f"UniProt maps RefSeq's and Ensembl's proteins and transcripts, not"
                f" {accessions[0]}.",
            )
    return Unasked(
        "no_accession", "The target was not mapped to a reference protein or transcript."
    )


def queries(targets: Iterable[Target]) -> list[uniprot.Query]:
    """Each distinct query once."""
    return list(dict.fromkeys(t.query for t in targets if isinstance(t.query, uniprot.Query)))
