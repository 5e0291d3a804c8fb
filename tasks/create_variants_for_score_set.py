"""Create a score set's variants from its uploaded files, in place of any it had."""

from collections.abc import Mapping
from datetime import date
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import polars as pl
from sqlalchemy import Connection, text

from mavedb_audit import account_counts, confirmations, replaced, score_sets, uploads
from mavedb_audit.bulk import copy_frames
from mavedb_audit.errors import StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.hooks import audited_task
from mavedb_audit.settings import settings
from mavedb_audit.steps import Step, score_set_of
from mavedb_audit.uploads import UploadKind
from tasks.upload.reading import Limits, read_table
from tasks.upload.rules import ScoreTables, Target, validate_tables
from tasks.upload.variants import variant_frames

#: Whatever refers to the old variants, in the order in which it can go.
_DELETE_OLD_VARIANTS = (
    """
    DELETE FROM gnomad_variants_mapped_variants AS link
     USING mapped_variants AS mapped JOIN variants AS variant ON variant.id = mapped.variant_id
     WHERE link.mapped_variant_id = mapped.id AND variant.scoreset_id = :score_set_id
    """,
    """
    DELETE FROM mapped_variants_clinical_controls AS link
     USING mapped_variants AS mapped JOIN variants AS variant ON variant.id = mapped.variant_id
     WHERE link.mapped_variant_id = mapped.id AND variant.scoreset_id = :score_set_id
    """,
    """
    DELETE FROM mapped_variants AS mapped USING variants AS variant
     WHERE variant.id = mapped.variant_id AND variant.scoreset_id = :score_set_id
    """,
    "DELETE FROM variants WHERE scoreset_id = :score_set_id",
)

#: The target of the COPY that brings the rows of variants in.
_VARIANT_COLUMNS = (
    "variants (urn, hgvs_nt, hgvs_splice, hgvs_pro, data, scoreset_id, creation_date,"
    " modification_date)"
)


@audited_task
def create_variants_for_score_set(
    step: Step,
    score_set_id: int,
    updater_id: int | None,
    scores_file_key: str | None,
    counts_file_key: str | None,
    score_columns_metadata: Mapping[str, Any] | None,
    count_columns_metadata: Mapping[str, Any] | None,
    correlation_id: str | None = None,
) -> None:
    """Validate the files by MaveDB's rules, then replace the variants in one transaction.

    A file that breaks a rule, or is no longer the one that was uploaded, leaves the old variants
    as they were; what is wrong with it, line by line, stands in the score set's processing_errors.
    """
    if scores_file_key is None:
        raise StepError(
            "No scores file was uploaded: upload one and try again",
            FailureCategory.VALIDATION_ERROR,
        )
    with step.writing() as connection:
        score_sets.creation_began(connection, score_set_id, updater_id)
    step.progress(0, 100, "Reading the uploaded files")
    scores_file = PurePosixPath(scores_file_key).name
    counts_file = PurePosixPath(counts_file_key).name if counts_file_key else None
    scores_csv = _content(step, UploadKind.SCORES, scores_file_key)
    counts_csv = _content(step, UploadKind.COUNTS, counts_file_key) if counts_file_key else None
    limits = _limits()
    scores = read_table(scores_csv, scores_file, limits)
    counts = (
        read_table(counts_csv, counts_file, limits)
        if counts_csv is not None and counts_file
        else None
    )
    del scores_csv, counts_csv  # hundreds of megabytes at times
    with step.reading() as connection:
        targets = _targets(connection, score_set_id)
    step.progress(10, 100, f"Validating {scores.height:,} variants")
    tables = validate_tables(
        scores,
        counts,
        targets,
        scores_file=scores_file,
        counts_file=counts_file,
        score_columns_metadata=score_columns_metadata,
        count_columns_metadata=count_columns_metadata,
    )
    step.progress(80, 100, f"Writing {scores.height:,} variants")
    with step.finishing() as finish:
        replaced.keep_summary(finish.connection, score_set_id, finish.job.job_id)
        finish.data["variants"] = replace_variants(finish.connection, score_set_id, tables)


def replace_variants(connection: Connection, score_set_id: int, tables: ScoreTables) -> int:
    """Write the tables' rows as the score set's variants, instead of those it has.

    Returns their number. The score set's row stays locked until the commit, so that a publication
    renames all of the variants or none.
    """
    urn, today = connection.execute(
        text("SELECT urn, CURRENT_DATE FROM scoresets WHERE id = :id FOR UPDATE"),
        {"id": score_set_id},
    ).one()
    account_counts.forget(connection, score_set_id)
    confirmations.forget(connection, score_set_id)
    for statement in _DELETE_OLD_VARIANTS:
        connection.execute(text(statement), {"score_set_id": score_set_id})
    written = copy_variants(connection, score_set_id, urn, today, tables)
    score_sets.creation_succeeded(connection, score_set_id, written, tables.dataset_columns)
    return written


def copy_variants(
    connection: Connection, score_set_id: int, urn: str, today: date, tables: ScoreTables
) -> int:
    """COPY the tables' rows into variants. Returns their number."""
    of_all = {
        "scoreset_id": pl.lit(score_set_id),
        "creation_date": pl.lit(today),
        "modification_date": pl.lit(today),
    }
    frames = (frame.with_columns(**of_all) for frame in variant_frames(tables, urn))
    return copy_frames(connection, _VARIANT_COLUMNS, frames)


def _content(step: Step, kind: UploadKind, key: str) -> bytes:
    """The uploaded file. It is recorded at once, since one that breaks a rule is evidence, too."""
    content = BytesIO()
    found = uploads.fetch(key, content, most_bytes=settings().max_upload_bytes)
    job = step.attempt.job
    assert job.pipeline_id is not None  # without its pipeline no job is found
    with step.writing() as connection:
        uploads.record_or_verify(
            connection,
            pipeline_id=job.pipeline_id,
            score_set_id=score_set_of(job),
            kind=kind,
            key=key,
            found=found,
        )
    return content.getvalue()


def _limits() -> Limits:
    config = settings()
    return Limits(
        columns=config.max_upload_columns,
        rows=config.max_upload_rows,
        cell_characters=config.max_upload_cell_characters,
    )


def _targets(connection: Connection, score_set_id: int) -> list[Target]:
    rows = connection.execute(
        text(
            """
            SELECT target.name, sequence.label, sequence.sequence, sequence.sequence_type,
                   accession.accession, coalesce(accession.is_base_editor, false) AS is_base_editor
              FROM target_genes AS target
              LEFT JOIN target_sequences AS sequence ON sequence.id = target.target_sequence_id
              LEFT JOIN target_accessions AS accession ON accession.id = target.accession_id
             WHERE target.scoreset_id = :score_set_id
             ORDER BY target.id
            """
        ),
        {"score_set_id": score_set_id},
    )
    return [Target(**row._mapping) for row in rows]
