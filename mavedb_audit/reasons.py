"""Why a variant lacks an annotation: the closed vocabulary of the account.

A reason is stored in variant_annotation_status.failure_category; its sentence, with what the
service said where there is something to add, in error_message.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto


class AnnotationStatus(StrEnum):
    """MaveDB's values of variant_annotation_status.status."""

    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


class Reason(StrEnum):
    """Values keep MaveDB's spelling wherever MaveDB already has one."""

    MAPPING_FAILED = "vrs_mapping_failed"
    NOT_RETURNED_BY_MAPPER = "not_returned_by_mapper"
    NOTHING_TO_MAP = "nothing_to_map"
    NOT_MAPPED = "not_mapped"
    NO_HGVS = "no_hgvs"
    MULTI_VARIANT = "multi_variant"
    OUTDATED_MAPPING = "outdated_mapping"
    REJECTED_BY_CLINGEN = "rejected_by_clingen"
    NO_CLINGEN_ALLELE_ID = "missing_clingen_allele_id"
    CLINGEN_LOOKUP_FAILED = "clingen_api_error"
    MULTI_VARIANT_CLINGEN_ALLELE_ID = "multi_variant_clingen_allele_id"
    PROTEIN_LEVEL_ALLELE = "protein_level_allele"
    NO_CODING_TRANSCRIPT = "no_coding_transcript"
    INVALID_HGVS = "invalid_hgvs"
    REFERENCE_MISMATCH = "reference_mismatch"
    ENSEMBL_FAILED = "ensembl_api_error"
    NO_CLINVAR_ALLELE = "no_associated_clinvar_allele_id"
    NOT_IN_CLINVAR_RELEASE = "no_clinvar_variant_data"
    NOT_IN_SOURCE = "not_found"
    MALFORMED_RECORD = "malformed_record"
    NOT_PUBLISHED = "not_published"
    LDH_BATCH_FAILED = "ldh_batch_failed"
    STEP_FAILED = "step_failed"
    STEP_CANCELLED = "step_cancelled"
    STEP_SKIPPED = "step_skipped"
    UPSTREAM_NOT_DONE = "dependency_failure"


class Remedy(Enum):
    """What an operator can run again about it."""

    FAILED_VARIANTS = auto()
    MAP_AGAIN = auto()
    RETRY_PIPELINE = auto()


@dataclass(frozen=True)
class Meaning:
    """What a curator is told: one sentence, and what can be done about it.

    Where the hint says that something follows, it stands after the sentence in error_message.
    """

    sentence: str
    hint: str
    status: AnnotationStatus
    remedy: Remedy | None = None


MEANINGS: dict[Reason, Meaning] = {
    Reason.MAPPING_FAILED: Meaning(
        "The mapper could not place this variant on the human reference.",
        "Check the variant against the target's sequence; the mapper's own words follow.",
        AnnotationStatus.FAILED,
    ),
    Reason.NOT_RETURNED_BY_MAPPER: Meaning(
        "The mapper answered for the score set but left this variant out.",
        "Older mappers leave out variants that change nothing, such as p.=; map the score set again"
        " once the mapper has been updated.",
        AnnotationStatus.FAILED,
        Remedy.MAP_AGAIN,
    ),
    Reason.NOTHING_TO_MAP: Meaning(
        "There is nothing to map: this variant lies in an intron, or does not change the protein.",
        "Nothing to do.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.NOT_MAPPED: Meaning(
        "This variant is not mapped to the human reference, so there is nothing to look up.",
        "See its vrs_mapping status for the cause.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.NO_HGVS: Meaning(
        "The mapper wrote no HGVS expression for this variant, and the service is asked by HGVS.",
        "Map the score set again, with a newer mapper where there is one.",
        AnnotationStatus.SKIPPED,
        Remedy.MAP_AGAIN,
    ),
    Reason.MULTI_VARIANT: Meaning(
        "This variant combines several changes, and the service takes single changes only.",
        "Nothing to do: no single allele stands for all of its changes.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.OUTDATED_MAPPING: Meaning(
        "This variant was mapped long ago, in an old format (VRS 1) that can no longer be used.",
        "Map the score set again.",
        AnnotationStatus.SKIPPED,
        Remedy.MAP_AGAIN,
    ),
    Reason.REJECTED_BY_CLINGEN: Meaning(
        "ClinGen's Allele Registry refused to register this variant.",
        "Check the mapped HGVS expression; the registry's own words follow.",
        AnnotationStatus.FAILED,
    ),
    Reason.NO_CLINGEN_ALLELE_ID: Meaning(
        "This variant has no ClinGen allele id, and the source is searched by that id.",
        "See its clingen_allele_id status for the cause.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.CLINGEN_LOOKUP_FAILED: Meaning(
        "ClinGen's Allele Registry gave no answer about this variant.",
        "Run the step again for the failed variants; the cause follows.",
        AnnotationStatus.FAILED,
        Remedy.FAILED_VARIANTS,
    ),
    Reason.MULTI_VARIANT_CLINGEN_ALLELE_ID: Meaning(
        "This variant has several ClinGen allele ids, and the source is searched by a single one.",
        "Nothing to do: the source describes single changes.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.PROTEIN_LEVEL_ALLELE: Meaning(
        "This variant is known at the protein level only, and the source describes DNA changes.",
        "Nothing to do.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.NO_CODING_TRANSCRIPT: Meaning(
        "ClinGen knows no protein change of this variant on a MANE transcript, the transcript of a"
        " gene that clinics have agreed on.",
        "Nothing to do: it changes no protein there, or lies outside of what is translated.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.INVALID_HGVS: Meaning(
        "Ensembl cannot place this variant's HGVS expression on the genome.",
        "Check the mapped HGVS expression and its transcript; Ensembl's own words follow.",
        AnnotationStatus.FAILED,
    ),
    Reason.REFERENCE_MISMATCH: Meaning(
        "This variant's HGVS expression names another reference base than Ensembl has there.",
        "Check the mapped HGVS expression and its transcript; Ensembl's own words follow.",
        AnnotationStatus.FAILED,
    ),
    Reason.ENSEMBL_FAILED: Meaning(
        "Ensembl gave no answer about this variant.",
        "Run the step again for the failed variants; the cause follows.",
        AnnotationStatus.FAILED,
        Remedy.FAILED_VARIANTS,
    ),
    Reason.NO_CLINVAR_ALLELE: Meaning(
        "ClinGen's Allele Registry, asked for this variant's ClinVar record, knows of none.",
        "Nothing to do: an absence is an answer. The registry lags some weeks behind ClinVar.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.NOT_IN_CLINVAR_RELEASE: Meaning(
        "ClinVar knows this variant, but not in this release.",
        "Nothing to do: it was submitted after the release, or merged or withdrawn before it.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.NOT_IN_SOURCE: Meaning(
        "The source was asked and has no record of this variant.",
        "Nothing to do: an absence is an answer. A newer release may have it.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.MALFORMED_RECORD: Meaning(
        "The source's record of this variant could not be read.",
        "Report what follows to the source's maintainers.",
        AnnotationStatus.FAILED,
    ),
    Reason.NOT_PUBLISHED: Meaning(
        "The score set is not published, and ClinGen's Linked Data Hub takes published ones only.",
        "Publish the score set: its variants are then submitted.",
        AnnotationStatus.SKIPPED,
    ),
    Reason.LDH_BATCH_FAILED: Meaning(
        "ClinGen's Linked Data Hub did not take the batch that this variant was sent in.",
        "Run the step again for the failed variants; what the hub said follows.",
        AnnotationStatus.FAILED,
        Remedy.FAILED_VARIANTS,
    ),
    Reason.STEP_FAILED: Meaning(
        "The step failed before it reached this variant.",
        "Run the step again once the cause that follows is mended.",
        AnnotationStatus.FAILED,
        Remedy.RETRY_PIPELINE,
    ),
    Reason.STEP_CANCELLED: Meaning(
        "The step was cancelled before it reached this variant.",
        "Run the step again.",
        AnnotationStatus.SKIPPED,
        Remedy.RETRY_PIPELINE,
    ),
    Reason.STEP_SKIPPED: Meaning(
        "The step is switched off in this installation.",
        "Switch it on by the setting that follows, then run it again.",
        AnnotationStatus.SKIPPED,
        Remedy.RETRY_PIPELINE,
    ),
    Reason.UPSTREAM_NOT_DONE: Meaning(
        "The step never ran, because a step that it depends on did not succeed.",
        "Mend the step that follows, then run the pipeline again.",
        AnnotationStatus.SKIPPED,
        Remedy.RETRY_PIPELINE,
    ),
}


_STORED = frozenset(str(reason) for reason in Reason)

#: Nobody asked about the variant: the reasons of steps that did not get that far.
NOT_REACHED = frozenset(
    {
        Reason.STEP_FAILED,
        Reason.STEP_CANCELLED,
        Reason.STEP_SKIPPED,
        Reason.UPSTREAM_NOT_DONE,
    }
)


def meaning_of(stored: str | None) -> Meaning | None:
    """What a stored reason means; None where there is none, or MaveDB wrote a word of its own."""
    return MEANINGS[Reason(stored)] if stored in _STORED else None


def explain(reason: Reason, addition: str | None = None) -> str:
    """The text of error_message: the sentence, then what the service or the step itself said."""
    sentence = MEANINGS[reason].sentence
    return f"{sentence} {addition}" if addition else sentence
