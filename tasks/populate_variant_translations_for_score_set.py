"""Find which protein alleles a score set's nucleotide alleles encode, and the other way round."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from sqlalchemy import text

from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.steps import Step
from tasks.clients.clingen_alleles import Allele, Answer, LookupFailed
from tasks.clingen_lookup import look_up
from tasks.mapped_variants import MappedVariant, read_mapped_variants

_CREATE_FOUND = """
    CREATE TEMPORARY TABLE found_translation (aa_clingen_id text, nt_clingen_id text)
    ON COMMIT DROP
"""

#: In one order, so that two score sets with the same alleles do not wait for each other.
_INSERT = """
    INSERT INTO variant_translations
           (aa_clingen_id, nt_clingen_id, creation_date, modification_date)
    SELECT DISTINCT aa_clingen_id, nt_clingen_id, CURRENT_DATE, CURRENT_DATE
      FROM found_translation ORDER BY aa_clingen_id, nt_clingen_id
        ON CONFLICT DO NOTHING
"""

#: A protein allele's id and that of a nucleotide allele that encodes it.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Translations:
    """What ClinGen says of one allele: its pairs, or why there are none or not all."""

    pairs: frozenset[Pair] = frozenset()
    reason: Reason | None = None
    addition: str | None = None


@audited_task
def populate_variant_translations_for_score_set(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Write the pairs of each variant's alleles.

    A pair says something of two ids that ClinGen never gives to anything else, whatever score set
    asked for it: pairs are added, and never taken back.
    """
    with step.reading() as connection:
        variants = read_mapped_variants(connection, step.scope)
    own_ids = {allele_id for variant in variants for allele_id in variant.clingen_allele_ids}
    answers = look_up(step, own_ids)
    protein_ids = {
        protein_id
        for answer in answers.values()
        if isinstance(answer, Allele)
        for protein_id in answer.protein_allele_ids
    }
    answers |= look_up(step, protein_ids - answers.keys())
    found = {allele_id: translations_of(allele_id, answers) for allele_id in own_ids}
    with step.finishing() as finish:
        finish.connection.execute(text(_CREATE_FOUND))
        pairs = {pair for translations in found.values() for pair in translations.pairs}
        copy_rows(finish.connection, "found_translation", pairs)
        finish.connection.execute(text(_INSERT))
        finish.account(
            AnnotationType.VARIANT_TRANSLATION,
            None,
            (status_of(variant, found) for variant in variants),
        )


def translations_of(allele_id: str, answers: Mapping[str, Answer]) -> Translations:
    """The pairs that an allele is in, by the answers about it and about what it encodes."""
    match answers[allele_id]:
        case None:
            return Translations(
                reason=Reason.NOT_IN_SOURCE, addition=f"ClinGen has no allele {allele_id}."
            )
        case LookupFailed(message=message):
            return Translations(reason=Reason.CLINGEN_LOOKUP_FAILED, addition=message)
        case Allele() as allele:
            pass
    if allele_id.startswith("PA"):
        pairs = frozenset((allele_id, nucleotide) for nucleotide in allele.nucleotide_allele_ids)
        if not pairs:
            nothing = f"ClinGen has registered no DNA change that encodes {allele_id}."
            return Translations(reason=Reason.NOT_IN_SOURCE, addition=nothing)
        return Translations(pairs)
    pairs = frozenset(_pairs_of_nucleotide(allele_id, allele, answers))
    if not pairs:
        return Translations(reason=Reason.NO_CODING_TRANSCRIPT)
    for protein_id in allele.protein_allele_ids:
        if isinstance(failed := answers[protein_id], LookupFailed):
            return Translations(pairs, Reason.CLINGEN_LOOKUP_FAILED, failed.message)
    return Translations(pairs)


def _pairs_of_nucleotide(
    allele_id: str, allele: Allele, answers: Mapping[str, Answer]
) -> Iterator[Pair]:
    """With what it encodes on MANE transcripts, and with all else that encodes the same."""
    for protein_id in allele.protein_allele_ids:
        yield protein_id, allele_id
        protein = answers[protein_id]
        if isinstance(protein, Allele):
            for nucleotide in protein.nucleotide_allele_ids:
                yield protein_id, nucleotide


def status_of(variant: MappedVariant, found: Mapping[str, Translations]) -> Status:
    """Of a variant with several alleles: success with all that was found, unless a call failed."""
    if not variant.clingen_allele_ids:
        return Status(variant.variant_id, variant.why_unregistered())
    each = [found[allele_id] for allele_id in variant.clingen_allele_ids]
    data = _data({pair for translations in each for pair in translations.pairs})
    lacking = [translations for translations in each if translations.reason is not None]
    failed = [t for t in lacking if t.reason is Reason.CLINGEN_LOOKUP_FAILED]
    if data is not None and not failed:
        return Status(variant.variant_id, data=data)
    cause = (failed or lacking)[0]
    return Status(variant.variant_id, cause.reason, cause.addition, data)


def _data(pairs: Set[Pair]) -> dict[str, list[str]] | None:
    if not pairs:
        return None
    return {
        "aa_clingen_ids": sorted({protein for protein, _ in pairs}),
        "nt_clingen_ids": sorted({nucleotide for _, nucleotide in pairs}),
    }
