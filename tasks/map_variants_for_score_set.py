"""Map a score set's variants to the human reference, through the VRS mapper."""

from collections.abc import Iterator, Mapping
from typing import Any

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

_CREATE_RESULT = """
    CREATE TEMPORARY TABLE mapper_result (
        variant_id integer, pre_mapped jsonb, post_mapped jsonb, vrs_version text,
        error_message text, outcome text, hgvs text, is_malformed boolean
    ) ON COMMIT DROP
"""

#: Records of one variant that are alike count as one.
_DROP_TWINS = """
    DELETE FROM mapper_result AS result USING mapper_result AS twin
     WHERE twin.variant_id = result.variant_id AND twin.ctid < result.ctid
       AND twin IS NOT DISTINCT FROM result
"""

#: Of records that differ nobody knows which is right.
_DISCARD_CONTRADICTIONS = """
    UPDATE mapper_result
       SET (pre_mapped, post_mapped, vrs_version, error_message, outcome, hgvs, is_malformed)
           = ROW(NULL, NULL, NULL, 'There are several, and they differ.', NULL, NULL, true)
     WHERE variant_id IN (SELECT variant_id FROM mapper_result GROUP BY 1 HAVING count(*) > 1)
"""

_RETIRE_OLD_MAPPING = """
    UPDATE mapped_variants AS mapped SET current = false
      FROM variants AS variant
     WHERE mapped.variant_id = variant.id AND mapped.current
       AND variant.scoreset_id = :score_set_id
"""

_INSERT_MAPPING = """
    INSERT INTO mapped_variants
           (variant_id, pre_mapped, post_mapped, vrs_version, error_message, modification_date,
            mapped_date, mapping_api_version, current)
    SELECT variant_id, pre_mapped, post_mapped, vrs_version, error_message, CURRENT_DATE,
           :mapped_date, :mapper_version, true
      FROM mapper_result
"""

_VARIANTS_WITH_RESULT = """
    SELECT variant.id, result.variant_id IS NOT NULL AS returned,
           result.pre_mapped IS NOT NULL AND result.post_mapped IS NOT NULL AS mapped,
           result.error_message, result.outcome, result.hgvs, result.is_malformed
      FROM variants AS variant LEFT JOIN mapper_result AS result
        ON result.variant_id = variant.id
     WHERE variant.scoreset_id = :score_set_id
"""


@audited_task
def map_variants_for_score_set(
    step: Step,
    score_set_id: int,
    updater_id: int | None,
    correlation_id: str | None = None,  # noqa: ARG001 - part of the job's parameters
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
        version = _copy_result(finish.connection, result, id_of)
        finish.connection.execute(text(_RETIRE_OLD_MAPPING), {"score_set_id": score_set_id})
        finish.connection.execute(
            text(_INSERT_MAPPING),
            {"mapped_date": result.mapped_date, "mapper_version": result.mapper_version},
        )
        _write_references(finish.connection, score_set_id, result)
        finish.account(
            AnnotationType.VRS_MAPPING,
            version,
            _statuses(finish.connection, score_set_id, result.nameless_count),
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


def _copy_result(
    connection: Connection, result: MappingResult, id_of: Mapping[str, int]
) -> str | None:
    """Bring the mapper's answer to the database, one row a variant. Returns its VRS version.

    What it says of variants that it was not asked about is nobody's.
    """
    connection.execute(text(_CREATE_RESULT))
    copy_rows(
        connection,
        "mapper_result",
        (
            (id_of[score.variant_urn], *_result_row(score))
            for score in result.scores()
            if score.variant_urn in id_of
        ),
    )
    connection.execute(text("ANALYZE mapper_result"))
    for statement in (_DROP_TWINS, _DISCARD_CONTRADICTIONS, _DROP_TWINS):
        connection.execute(text(statement))
    version: str | None = connection.execute(
        text("SELECT max(vrs_version) FROM mapper_result")
    ).scalar_one()
    return version


def _result_row(score: MappedScore) -> tuple[str | bool | None, ...]:
    hgvs = expression(score.post_mapped)
    return (
        json_text(score.pre_mapped) if score.pre_mapped else None,
        json_text(score.post_mapped) if score.post_mapped else None,
        score.vrs_version,
        storable(score.error_message) if score.error_message else None,
        score.outcome,
        None if isinstance(hgvs, Reason) else hgvs,
        score.is_malformed,
    )


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


def _statuses(connection: Connection, score_set_id: int, nameless_count: int) -> Iterator[Status]:
    rows = connection.execute(text(_VARIANTS_WITH_RESULT), {"score_set_id": score_set_id}).all()
    return (_status(row, nameless_count) for row in rows)


def _status(row: Any, nameless_count: int) -> Status:
    if not row.returned:
        nameless = f"{nameless_count:,} of its records name no variant." if nameless_count else None
        return Status(row.id, Reason.NOT_RETURNED_BY_MAPPER, nameless)
    if row.is_malformed:
        return Status(row.id, Reason.MALFORMED_RECORD, row.error_message)
    data = {"mapped_assay_level_hgvs": row.hgvs}
    if row.mapped:
        return Status(row.id, data=data)
    if row.outcome in _BENIGN_OUTCOMES:
        return Status(row.id, Reason.NOTHING_TO_MAP, row.error_message, data)
    return Status(row.id, Reason.MAPPING_FAILED, row.error_message, data)
