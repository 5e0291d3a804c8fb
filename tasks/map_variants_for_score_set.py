"""Map a score set's variants to the human reference, through the VRS mapper."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, text

from mavedb_audit import score_sets
from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.hooks import audited_task
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from mavedb_audit.services import Service
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from mavedb_audit.texts import json_text, storable
from tasks.clients.vrs_mapper import MappedScore, MappingResult, map_score_set
from tasks.vrs import expression

#: What newer mappers say of a variant that has no counterpart to map to.
_BENIGN_OUTCOMES = frozenset({"intronic", "no_protein_consequence"})

_DIFFERING = "There are several, and they differ."

MAPPING_COLUMNS = (
    "mapped_variants (variant_id, pre_mapped, post_mapped, vrs_version, error_message,"
    " modification_date, mapped_date, mapping_api_version, current)"
)

_CREATE_REPEATED_RECORDS = """
    CREATE TEMPORARY TABLE repeated_record (
        variant_id integer, pre_mapped jsonb, post_mapped jsonb, vrs_version text,
        error_message text, outcome text, is_malformed boolean
    ) ON COMMIT DROP
"""

_DIFFERING_RECORDS = """
    SELECT variant_id FROM (SELECT DISTINCT * FROM repeated_record) AS record
     GROUP BY variant_id HAVING count(*) > 1
"""

_DISCARD_MAPPING = """
    UPDATE mapped_variants
       SET pre_mapped = NULL, post_mapped = NULL, vrs_version = NULL, error_message = :differing
     WHERE current AND variant_id = ANY (:variant_ids)
"""

_RETIRE_OLD_MAPPING = """
    UPDATE mapped_variants AS mapped SET current = false
      FROM variants AS variant
     WHERE mapped.variant_id = variant.id AND mapped.current
       AND variant.scoreset_id = :score_set_id
"""


class Finding(NamedTuple):
    """What the mapper found out about a variant. `reason` is None exactly when it was mapped."""

    reason: Reason | None
    addition: str | None
    hgvs: str | None
    vrs_version: str | None


@dataclass
class Findings:
    """What the mapper found out about each variant, by its id. `nameless_count` of its records
    name no variant; about `repeated` variants there are several."""

    of_variant: dict[int, Finding] = field(default_factory=dict)
    repeated: set[int] = field(default_factory=set)
    nameless_count: int = 0

    @property
    def vrs_version(self) -> str | None:
        """The newest."""
        return max((f.vrs_version for f in self.of_variant.values() if f.vrs_version), default=None)

    def status(self, variant_id: int) -> Status:
        finding = self.of_variant.get(variant_id)
        if finding is None:
            nameless = (
                f"{self.nameless_count:,} of its records name no variant."
                if self.nameless_count
                else None
            )
            return Status(variant_id, Reason.NOT_RETURNED_BY_MAPPER, nameless)
        if finding.reason is Reason.MALFORMED_RECORD:
            return Status(variant_id, finding.reason, finding.addition)
        data = {"mapped_assay_level_hgvs": finding.hgvs}
        return Status(variant_id, finding.reason, finding.addition, data)


@audited_task
def map_variants_for_score_set(
    step: Step,
    score_set_id: int,
    updater_id: int | None,
    correlation_id: str | None = None,
) -> None:
    """Ask the mapper for the whole score set, and keep its answer as the current mapping.

    The mapper reads the variants back from MaveDB, so they are committed before. It answers by the
    URNs that they had then: meanwhile a publication may have renamed them, or a new upload may have
    given the same URNs to others. A failed call leaves the previous mapping current.
    """
    with step.writing() as connection:
        score_sets.mapping_began(connection, score_set_id, updater_id)
    with step.asking(Service.VRS_MAPPER):
        _map(step, score_set_id)


def _map(step: Step, score_set_id: int) -> None:
    with step.reading() as connection:
        urn: str = connection.execute(
            text("SELECT urn FROM scoresets WHERE id = :id"), {"id": score_set_id}
        ).scalar_one()
        asked = connection.execute(
            text("SELECT urn, id FROM variants WHERE scoreset_id = :id"), {"id": score_set_id}
        )
        id_of: dict[str, int] = {row.urn: row.id for row in asked}
    step.progress(10, 100, f"Waiting for the mapper to map {len(id_of):,} variants")
    config = settings()
    with (
        map_score_set(
            config.dcd_mapping_url,
            urn,
            len(id_of),
            connect_timeout=config.mapper_connect_timeout_seconds,
            base_timeout=config.mapper_base_timeout_seconds,
            timeout_per_variant=config.mapper_timeout_seconds_per_variant,
        ) as result,
        step.finishing() as finish,
    ):
        _refuse_replaced_variants(finish.connection, score_set_id, id_of)
        findings = replace_mapping(finish.connection, score_set_id, result, id_of)
        finish.account(
            AnnotationType.VRS_MAPPING,
            findings.vrs_version,
            map(findings.status, id_of.values()),
        )
        counts = finish.data[AnnotationType.VRS_MAPPING]
        if counts["success"]:
            complete = counts["success"] == len(id_of)
            score_sets.mapping_succeeded(finish.connection, score_set_id, complete=complete)
        else:
            finish.failure = StepError(
                "All variants failed to map.", FailureCategory.VRS_MAPPING_FAILED
            )


def _refuse_replaced_variants(
    connection: Connection, score_set_id: int, id_of: Mapping[str, int]
) -> None:
    """Refuse an answer about variants that are gone: others have their URNs now."""
    now = connection.execute(
        text("SELECT id FROM variants WHERE scoreset_id = :id"), {"id": score_set_id}
    ).scalars()
    if set(now) != set(id_of.values()):
        raise StepError(
            "The score set's variants were replaced while the mapper was at work on the old ones",
            FailureCategory.SCHEDULING_ERROR,
        )


def replace_mapping(
    connection: Connection, score_set_id: int, result: MappingResult, id_of: Mapping[str, int]
) -> Findings:
    """Make the mapper's answer the current mapping of a score set's variants, which are given by
    their URNs. What it says of others is nobody's.

    Raises as `MappingResult.scores` does, and StepError where it names a target of no such name.
    """
    today = connection.execute(text("SELECT CURRENT_DATE")).scalar_one()
    connection.execute(text(_RETIRE_OLD_MAPPING), {"score_set_id": score_set_id})
    findings = Findings()
    dates_and_origin = (today, result.mapped_date, result.mapper_version, True)
    copy_rows(
        connection,
        MAPPING_COLUMNS,
        ((*row, *dates_and_origin) for row in _first_records(result, id_of, findings)),
    )
    if findings.repeated:
        _discard_contradictions(connection, result, id_of, findings)
    _write_references(connection, score_set_id, result)
    return findings


def _first_records(
    result: MappingResult, id_of: Mapping[str, int], findings: Findings
) -> Iterator[tuple[int | str | None, ...]]:
    """Of each variant the first record, as stored. What there is to know is put into `findings`."""
    for score in result.scores():
        if score.variant_urn is None:
            findings.nameless_count += 1
        elif (variant_id := id_of.get(score.variant_urn)) is None:
            continue
        elif variant_id in findings.of_variant:
            findings.repeated.add(variant_id)
        else:
            findings.of_variant[variant_id] = _finding(score)
            yield variant_id, *_stored(score)


def _stored(score: MappedScore) -> tuple[str | None, str | None, str | None, str | None]:
    return (
        json_text(score.pre_mapped) if score.pre_mapped else None,
        json_text(score.post_mapped) if score.post_mapped else None,
        score.vrs_version,
        storable(score.error_message) if score.error_message else None,
    )


def _finding(score: MappedScore) -> Finding:
    hgvs = expression(score.post_mapped)
    return Finding(
        _reason(score),
        score.error_message,
        None if isinstance(hgvs, Reason) else hgvs,
        score.vrs_version,
    )


def _reason(score: MappedScore) -> Reason | None:
    if score.is_malformed:
        return Reason.MALFORMED_RECORD
    if score.pre_mapped and score.post_mapped:
        return None
    if score.outcome in _BENIGN_OUTCOMES:
        return Reason.NOTHING_TO_MAP
    return Reason.MAPPING_FAILED


def _discard_contradictions(
    connection: Connection, result: MappingResult, id_of: Mapping[str, int], findings: Findings
) -> None:
    """Records of one variant that are alike count as one; of those that differ nobody knows which
    is right."""
    connection.execute(text(_CREATE_REPEATED_RECORDS))
    copy_rows(
        connection,
        "repeated_record",
        (
            (variant_id, *_stored(score), score.outcome, score.is_malformed)
            for score in result.scores()
            if score.variant_urn is not None
            and (variant_id := id_of.get(score.variant_urn)) in findings.repeated
        ),
    )
    variant_ids = connection.execute(text(_DIFFERING_RECORDS)).scalars().all()
    connection.execute(
        text(_DISCARD_MAPPING), {"differing": _DIFFERING, "variant_ids": variant_ids}
    )
    unknown = Finding(Reason.MALFORMED_RECORD, _DIFFERING, None, None)
    findings.of_variant.update(dict.fromkeys(variant_ids, unknown))


def _write_references(connection: Connection, score_set_id: int, result: MappingResult) -> None:
    """Keep what the mapper found out about each target. A nameless one is the only target's."""
    for reference in result.references:
        updated = connection.execute(
            text(
                """
                UPDATE target_genes
                   SET mapped_hgnc_name = :hgnc_symbol,
                       pre_mapped_metadata = CAST(:pre_mapped AS jsonb),
                       post_mapped_metadata = CAST(:post_mapped AS jsonb),
                       modification_date = CURRENT_DATE
                 WHERE scoreset_id = :score_set_id AND name = coalesce(nullif(:name, ''), name)
                """
            ),
            {
                "score_set_id": score_set_id,
                "name": reference.target_name,
                "hgnc_symbol": reference.hgnc_symbol,
                "pre_mapped": json_text(reference.pre_mapped_metadata),
                "post_mapped": json_text(reference.post_mapped_metadata),
            },
        )
        if not updated.rowcount:
            raise StepError(
                f"The mapper's answer describes a target {reference.target_name!r} that the score"
                " set does not have",
                FailureCategory.DATA_ERROR,
            )
