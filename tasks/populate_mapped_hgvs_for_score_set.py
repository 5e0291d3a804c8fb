"""Give a score set's mapped variants their HGVS on the genome, the transcript and the protein."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.steps import Step
from tasks.clients.clingen_alleles import Allele, Answer, LookupFailed
from tasks.clingen_lookup import look_up
from tasks.mapped_variants import MappedVariant, read_mapped_variants

_TARGETS = """
    SELECT coalesce(accession.accession, sequence.label, gene.name) AS name, gene.category,
           accession.accession,
           gene.post_mapped_metadata -> 'cdna' -> 'sequence_accessions' AS transcripts
      FROM target_genes AS gene
      LEFT JOIN target_accessions AS accession ON accession.id = gene.accession_id
      LEFT JOIN target_sequences AS sequence ON sequence.id = gene.target_sequence_id
     WHERE gene.scoreset_id = :score_set_id
"""

_CREATE_FOUND = """
    CREATE TEMPORARY TABLE found_hgvs (
        mapped_variant_id integer, assay_level text, g text, c text, p text, is_answered boolean
    ) ON COMMIT DROP
"""

#: Without an answer of ClinGen's, what it said before stays.
_WRITE = """
    UPDATE mapped_variants AS mapped
       SET hgvs_assay_level = found.assay_level, modification_date = CURRENT_DATE,
           hgvs_g = CASE WHEN found.is_answered THEN found.g ELSE mapped.hgvs_g END,
           hgvs_c = CASE WHEN found.is_answered THEN found.c ELSE mapped.hgvs_c END,
           hgvs_p = CASE WHEN found.is_answered THEN found.p ELSE mapped.hgvs_p END
      FROM found_hgvs AS found
     WHERE mapped.id = found.mapped_variant_id
       AND (mapped.hgvs_assay_level IS DISTINCT FROM found.assay_level
            OR found.is_answered AND (mapped.hgvs_g, mapped.hgvs_c, mapped.hgvs_p)
               IS DISTINCT FROM (found.g, found.c, found.p))
"""


@dataclass(frozen=True)
class Target:
    """What is known of a target: `transcript` is the one that its variants are described on."""

    is_protein_coding: bool
    transcript: str | None


@dataclass(frozen=True)
class Hgvs:
    """An allele on the genome, on a transcript and on its protein."""

    hgvs_g: str | None = None
    hgvs_c: str | None = None
    hgvs_p: str | None = None


#: Targets by the name that their variants carry in a score set of several.
Targets = Mapping[str, Target]


@audited_task
def populate_mapped_hgvs_for_score_set(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Write hgvs_assay_level as the mapper gave it, and hgvs_g, hgvs_c, hgvs_p as ClinGen does."""
    with step.reading() as connection:
        variants = read_mapped_variants(connection, step.scope)
        targets = _read_targets(connection, score_set_id)
    ids = {i for v in variants if not isinstance(i := askable(v), Reason)}
    transcripts = {t.transcript for t in targets.values() if t.transcript}
    answers = look_up(step, ids, transcripts)
    with step.finishing() as finish:
        _write(finish.connection, variants, targets, answers)
        finish.account(
            AnnotationType.MAPPED_HGVS,
            None,
            (_status(variant, targets, answers) for variant in variants),
        )


def askable(variant: MappedVariant) -> str | Reason:
    """The one id that ClinGen is asked about, or why there is none."""
    match variant.clingen_allele_ids:
        case ():
            return variant.why_unregistered()
        case (allele_id,):
            return allele_id
        case _:
            return Reason.MULTI_VARIANT_CLINGEN_ALLELE_ID


def hgvs_of(allele: Allele, target: Target) -> Hgvs:
    """The HGVS of an allele of this target.

    c. and p. are on the target's own transcript and nowhere else; where none is known, on MANE's.
    A target that codes for no protein has g. only, a protein allele p. only.
    """
    if allele.allele_id.startswith("PA"):
        return Hgvs(hgvs_p=allele.protein_hgvs)
    if not target.is_protein_coding:
        return Hgvs(allele.genomic_hgvs)
    if target.transcript is None:
        transcript = allele.mane
    else:
        on_it = [t for t in allele.transcripts if t.accession == target.transcript]
        transcript = on_it[0] if on_it else None
    if transcript is None:
        return Hgvs(allele.genomic_hgvs)
    return Hgvs(allele.genomic_hgvs, transcript.hgvs, transcript.protein_hgvs)


def _read_targets(connection: Connection, score_set_id: int) -> Targets:
    rows = connection.execute(text(_TARGETS), {"score_set_id": score_set_id}).all()
    return {
        row.name: Target(
            row.category == "protein_coding", _transcript(row.accession, row.transcripts)
        )
        for row in rows
    }


def target_of(variant: MappedVariant, targets: Targets) -> Target:
    if len(targets) == 1:
        return next(iter(targets.values()))
    return targets.get(variant.target_name, Target(False, None))


def _transcript(accession: str | None, mapped_to: Sequence[str] | None) -> str | None:
    """The target's own accession, if it is a transcript's, or the only one it was mapped to."""
    if accession is not None and accession.startswith(("NM", "ENST")):
        return accession
    return mapped_to[0] if mapped_to is not None and len(mapped_to) == 1 else None


def _write(
    connection: Connection,
    variants: Sequence[MappedVariant],
    targets: Targets,
    answers: Mapping[str, Answer],
) -> None:
    def rows() -> Iterator[tuple[int, str | None, str | None, str | None, str | None, bool]]:
        for variant in variants:
            if variant.mapped_variant_id is None:
                continue
            answer = _answer(variant, answers)
            found = _found(variant, targets, answer)
            yield (
                variant.mapped_variant_id,
                None if isinstance(variant.hgvs, Reason) else variant.hgvs,
                found.hgvs_g,
                found.hgvs_c,
                found.hgvs_p,
                not isinstance(answer, LookupFailed),
            )

    connection.execute(text(_CREATE_FOUND))
    copy_rows(connection, "found_hgvs", rows())
    connection.execute(text("ANALYZE found_hgvs"))
    connection.execute(text(_WRITE))


def _answer(variant: MappedVariant, answers: Mapping[str, Answer]) -> Answer | Reason:
    allele_id = askable(variant)
    return allele_id if isinstance(allele_id, Reason) else answers[allele_id]


def _found(variant: MappedVariant, targets: Targets, answer: Answer | Reason) -> Hgvs:
    if not isinstance(answer, Allele):
        return Hgvs()
    return hgvs_of(answer, target_of(variant, targets))


def _status(variant: MappedVariant, targets: Targets, answers: Mapping[str, Answer]) -> Status:
    answer = _answer(variant, answers)
    found = {k: v for k, v in asdict(_found(variant, targets, answer)).items() if v is not None}
    known = found if isinstance(variant.hgvs, Reason) else {"hgvs_assay_level": variant.hgvs}
    data = known | found or None
    match answer:
        case Reason():
            return Status(variant.variant_id, answer, data=data)
        case LookupFailed(message=message):
            return Status(variant.variant_id, Reason.CLINGEN_LOOKUP_FAILED, message, data)
        case Allele(allele_id=allele_id) if not found:
            nothing = f"ClinGen knows {allele_id}, but on no reference that is kept here."
            return Status(variant.variant_id, Reason.NOT_IN_SOURCE, nothing, data)
        case Allele():
            return Status(variant.variant_id, data=data)
        case _:
            unknown = f"ClinGen has no allele {variant.clingen_allele_ids[0]}."
            return Status(variant.variant_id, Reason.NOT_IN_SOURCE, unknown, data)
