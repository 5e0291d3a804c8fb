"""Map a score set's variants to the human reference, through the VRS mapper."""

from collections.abc import Iterator
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
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step
from mavedb_audit.texts import json_text, storable
from tasks.clients.vrs_mapper import MappedScore, MappingResult, map_score_set
from tasks.vrs import expression

#: What newer mappers say of a variant that has no counterpart to map to.
_BENIGN_OUTCOMES = frozenset({"intronic", "no_protein_consequence"})

_CREATE_RESULT = """
    CREATE TEMPORARY TABLE mapper_result (
        variant_urn text, pre_mapped jsonb, post_mapped jsonb, vrs_version text,
        error_message text, outcome text, hgvs text
    ) ON COMMIT DROP
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
    SELECT variant.id, result.pre_mapped, result.post_mapped, result.vrs_version,
           result.error_message, CURRENT_DATE, :mapped_date, :mapper_version, true
      FROM mapper_result AS result JOIN variants AS variant ON variant.urn = result.variant_urn
"""

_VARIANTS_WITH_RESULT = """
    SELECT variant.id, result.variant_urn IS NOT NULL AS returned,
           result.pre_mapped IS NOT NULL AND result.post_mapped IS NOT NULL AS mapped,
           result.error_message, result.outcome, result.hgvs
      FROM variants AS variant LEFT JOIN mapper_result AS result
        ON result.variant_urn = variant.urn
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

    The mapper reads the variants back from MaveDB, so they are committed before. A failed call
    leaves the previous mapping current.
    """
    with step.writing() as connection:
        score_sets.mapping_began(connection, score_set_id, updater_id)
    with step.reading() as connection:
        urn, variant_count = connection.execute(
            text(
                """
                SELECT urn, (SELECT count(*) FROM variants WHERE scoreset_id = scoresets.id)
                  FROM scoresets WHERE id = :id
                """
            ),
            {"id": score_set_id},
        ).one()
    step.progress(10, 100, f"Waiting for the mapper to map {variant_count:,} variants")
    config = settings()
    with (
        map_score_set(
            config.dcd_mapping_url,
            urn,
            variant_count,
            connect_timeout=config.mapper_connect_timeout_seconds,
            base_timeout=config.mapper_base_timeout_seconds,
            timeout_per_variant=config.mapper_timeout_seconds_per_variant,
        ) as result,
        step.finishing() as finish,
    ):
        version = _copy_result(finish.connection, result)
        _refuse_unusable_result(finish.connection, score_set_id)
        finish.connection.execute(text(_RETIRE_OLD_MAPPING), {"score_set_id": score_set_id})
        finish.connection.execute(
            text(_INSERT_MAPPING),
            {"mapped_date": result.mapped_date, "mapper_version": result.mapper_version},
        )
        _write_references(finish.connection, score_set_id, result)
        finish.account(
            AnnotationType.VRS_MAPPING, version, _statuses(finish.connection, score_set_id)
        )
        counts = finish.data[AnnotationType.VRS_MAPPING]
        if counts["success"]:
            complete = counts["success"] == variant_count
            score_sets.mapping_succeeded(finish.connection, score_set_id, complete=complete)
        else:
            finish.failure = StepError(
                "All variants failed to map.", FailureCategory.VRS_MAPPING_FAILED
            )


def _copy_result(connection: Connection, result: MappingResult) -> str | None:
    """Bring the mapper's answer to the database. Returns its VRS version."""
    connection.execute(text(_CREATE_RESULT))
    copy_rows(connection, "mapper_result", (_result_row(score) for score in result.scores()))
    connection.execute(text("ANALYZE mapper_result"))
    version: str | None = connection.execute(
        text("SELECT max(vrs_version) FROM mapper_result")
    ).scalar_one()
    return version


def _result_row(score: MappedScore) -> tuple[str | None, ...]:
    hgvs = expression(score.post_mapped)
    return (
        score.variant_urn,
        json_text(score.pre_mapped) if score.pre_mapped else None,
        json_text(score.post_mapped) if score.post_mapped else None,
        score.vrs_version,
        storable(score.error_message) if score.error_message else None,
        score.outcome,
        None if isinstance(hgvs, Reason) else hgvs,
    )


def _refuse_unusable_result(connection: Connection, score_set_id: int) -> None:
    """Refuse an answer that repeats a variant, or names one that is no longer the score set's."""
    repeated = connection.execute(
        text("SELECT variant_urn FROM mapper_result GROUP BY 1 HAVING count(*) > 1 LIMIT 1")
    ).scalar_one_or_none()
    if repeated is not None:
        raise StepError(
            f"The mapper's answer holds the variant {repeated} more than once: report it to the"
            " mapper's maintainers",
            FailureCategory.DATA_ERROR,
        )
    unknown = connection.execute(
        text(
            """
            SELECT count(*) AS variants, min(result.variant_urn) AS example
              FROM mapper_result AS result
             WHERE NOT EXISTS (SELECT FROM variants AS variant
                                WHERE variant.urn = result.variant_urn
                                  AND variant.scoreset_id = :score_set_id)
            """
        ),
        {"score_set_id": score_set_id},
    ).one()
    if unknown.variants:
        raise StepError(
            f"The mapper's answer names {unknown.variants:,} variants that the score set does not"
            f" have, such as {unknown.example}: its variants were replaced while they were mapped."
            " Map the score set again",
            FailureCategory.DATA_ERROR,
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


def _statuses(connection: Connection, score_set_id: int) -> Iterator[Status]:
    rows = connection.execute(text(_VARIANTS_WITH_RESULT), {"score_set_id": score_set_id}).all()
    return (_status(row) for row in rows)


def _status(row: Any) -> Status:
    if not row.returned:
        return Status(row.id, Reason.NOT_RETURNED_BY_MAPPER)
    data = {"mapped_assay_level_hgvs": row.hgvs}
    if row.mapped:
        return Status(row.id, data=data)
    if row.outcome in _BENIGN_OUTCOMES:
        return Status(row.id, Reason.NOTHING_TO_MAP, row.error_message, data)
    return Status(row.id, Reason.MAPPING_FAILED, row.error_message, data)
