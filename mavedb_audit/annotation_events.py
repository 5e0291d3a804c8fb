"""Statuses told as events, for releases of MaveDB that keep an append-only log of annotations.

Types that are about a variant are always told; types that are about an allele only where MaveDB
has that allele's row, found by its VRS digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from mavedb_audit.account_counts import current_of
from mavedb_audit.pipelines import KEPT_PER_VERSION, AnnotationType
from mavedb_audit.reasons import Reason


@dataclass(frozen=True)
class Told:
    """A reason in MaveDB's newer words: a status's failure category, an event's disposition and
    reason."""

    category: str
    disposition: str
    event_reason: str


_NO_ANSWER = Told("external_api_error", "failed", "api_error")
_REFUSED = Told("external_service_rejected", "failed", "service_rejected")
_NO_CAID = Told("missing_identifier", "not_applicable", "no_caid")
_NO_HGVS = Told("missing_identifier", "not_applicable", "no_hgvs")
#: Newer MaveDB has no word for what was never asked; the event's metadata holds our own.
_NOT_ASKED = Told("unknown", "failed", "api_error")

#: What each of our reasons is there. A new reason needs its line.
TOLD: Mapping[Reason, Told] = {
    Reason.MAPPING_FAILED: Told("external_service_rejected", "failed", "failed"),
    Reason.NOT_RETURNED_BY_MAPPER: Told("external_service_rejected", "failed", "failed"),
    Reason.NOTHING_TO_MAP: Told("unsupported_identifier", "absent", "no_protein_consequence"),
    Reason.NOT_MAPPED: _NO_HGVS,
    Reason.NO_HGVS: _NO_HGVS,
    Reason.MULTI_VARIANT: Told(
        "unsupported_identifier", "not_applicable", "cis_phased_unsupported"
    ),
    Reason.OUTDATED_MAPPING: Told("unsupported_identifier", "not_applicable", "no_hgvs"),
    Reason.REJECTED_BY_CLINGEN: _REFUSED,
    Reason.NO_CLINGEN_ALLELE_ID: _NO_CAID,
    Reason.MULTI_VARIANT_CLINGEN_ALLELE_ID: Told(
        "unsupported_identifier", "not_applicable", "multi_variant_caid"
    ),
    Reason.PROTEIN_LEVEL_ALLELE: Told(
        "unsupported_identifier", "not_applicable", "protein_level_allele"
    ),
    Reason.NO_CLINVAR_ALLELE: Told("no_linked_allele", "absent", "no_record"),
    Reason.NOT_IN_CLINVAR_RELEASE: Told("external_reference_not_found", "absent", "no_record"),
    Reason.NOT_IN_SOURCE: Told("external_reference_not_found", "absent", "no_record"),
    Reason.MALFORMED_RECORD: Told("external_api_error", "failed", "malformed_response"),
    Reason.CLINGEN_LOOKUP_FAILED: _NO_ANSWER,
    Reason.NO_CODING_TRANSCRIPT: Told("no_linked_allele", "absent", "no_coding_transcript"),
    Reason.INVALID_HGVS: _REFUSED,
    Reason.REFERENCE_MISMATCH: _REFUSED,
    Reason.ENSEMBL_FAILED: _NO_ANSWER,
    Reason.NOT_PUBLISHED: Told("unsupported_identifier", "not_applicable", "no_hgvs"),
    Reason.LDH_BATCH_FAILED: _NO_ANSWER,
    Reason.STEP_FAILED: _NOT_ASKED,
    Reason.STEP_CANCELLED: _NOT_ASKED,
    Reason.STEP_SKIPPED: _NOT_ASKED,
    Reason.UPSTREAM_NOT_DONE: _NOT_ASKED,
}
_PRESENT: Mapping[AnnotationType, str] = {
    AnnotationType.VRS_MAPPING: "mapped",
    AnnotationType.VARIANT_TRANSLATION: "translated",
    AnnotationType.LDH_SUBMISSION: "submitted",
}
#: Types whose event is about a variant. The others are about an allele, which score sets share.
ABOUT_VARIANTS = frozenset(_PRESENT)

_INSERT = """
    INSERT INTO annotation_event
           (annotation_type, variant_id, allele_id, disposition, reason, source_version, metadata,
            job_run_id, score_set_id)
    SELECT {subject} :annotation_type, {ids},
           coalesce(told.disposition, 'present'), coalesce(told.event_reason, :present),
           status.version,
           coalesce(status.annotation_metadata, '{{}}')
             || jsonb_strip_nulls(jsonb_build_object('error_message', status.error_message)),
           :job_id, :score_set_id
      FROM {source} AS written
     CROSS JOIN LATERAL (
        SELECT * FROM variant_annotation_status AS status WHERE {is_current} OFFSET 0
      ) AS status
      LEFT JOIN unnest(CAST(:reasons AS text[]), CAST(:dispositions AS text[]),
                       CAST(:event_reasons AS text[]))
             AS told (reason, disposition, event_reason)
        ON told.reason = status.annotation_metadata ->> 'reason'
      {alleles}
"""

_ALLELES = """
      JOIN mapped_variants AS mapped ON mapped.variant_id = written.variant_id AND mapped.current
      JOIN alleles AS allele ON allele.vrs_digest = mapped.post_mapped ->> 'digest'
     ORDER BY allele.id, status.id
"""


def write(
    connection: Connection,
    source: str,
    *,
    job_id: int,
    score_set_id: int,
    annotation_type: AnnotationType,
    version: str | None,
) -> None:
    """Tell the current statuses of the variants in the table `source`, which are what the job has
    written or confirmed."""
    about_variants = annotation_type in ABOUT_VARIANTS
    statement = _INSERT.format(
        source=source,
        subject="" if about_variants else "DISTINCT ON (allele.id)",
        ids="written.variant_id, NULL" if about_variants else "NULL, allele.id",
        alleles="" if about_variants else _ALLELES,
        is_current=current_of(
            "written.variant_id", per_version=annotation_type in KEPT_PER_VERSION, version=version
        ),
    )
    connection.execute(
        text(statement),
        {
            "annotation_type": annotation_type,
            "version": version,
            "job_id": job_id,
            "score_set_id": score_set_id,
            "present": _PRESENT.get(annotation_type, "created"),
            "reasons": [str(reason) for reason in TOLD],
            "dispositions": [told.disposition for told in TOLD.values()],
            "event_reasons": [told.event_reason for told in TOLD.values()],
        },
    )
