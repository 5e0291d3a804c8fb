"""How fast variants are created and accounted for, beside a COPY of the same rows."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import Figure, Pair, Target, figure_of, ratio_at_least
from deployments.local.score_set import generate, synthetic_target
from deployments.local.submission import insert_score_set
from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason, explain
from tasks.create_variants_for_score_set import VARIANT_COLUMNS, replace_variants
from tasks.upload.reading import read_table
from tasks.upload.rules import ScoreTables, validate_tables
from tasks.upload.rules import Target as UploadTarget
from tasks.upload.variants import variant_rows

PAIRS = 5
_SEED = 1

Work = Callable[[Connection], None]


def creation(engine: Engine, variants: int, codons: int) -> Figure:
    """From a score file's bytes to committed variants, beside a COPY of the same rows."""
    sequence = synthetic_target(_SEED, codons)
    scores_csv, _ = generate(_SEED, variants, sequence)
    content = scores_csv.encode()
    target = UploadTarget("bench", None, sequence, "dna", None, is_base_editor=False)
    with engine.begin() as connection:
        score_set_id = _insert_score_set(connection, "tmp:bench-creation", sequence)

    def validated() -> ScoreTables:
        return validate_tables(
            read_table(content, "scores.csv"),
            None,
            [target],
            scores_file="scores.csv",
            counts_file=None,
            score_columns_metadata=None,
            count_columns_metadata=None,
        )

    def ours(connection: Connection) -> None:
        replace_variants(connection, score_set_id, validated())

    today = datetime.now(UTC).date()
    rows = [
        (*row, score_set_id, today, today)
        for row in variant_rows(validated(), "tmp:bench-creation")
    ]

    def baseline(connection: Connection) -> None:
        copy_rows(connection, VARIANT_COLUMNS, rows)

    return _measure(
        "variant creation", engine, ours, baseline, variants, "variants", ratio_at_least(0.15)
    )


def accounting(engine: Engine, variants: int) -> Figure:
    """Statuses through the account, beside a COPY of the same rows into the same table."""
    with engine.begin() as connection:
        score_set_id = _insert_score_set(connection, "tmp:bench-account", "ATG")
        connection.execute(
            text(
                """
                INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
                SELECT 'tmp:bench-account#' || n, '{}', :score_set_id, CURRENT_DATE, CURRENT_DATE
                  FROM generate_series(1, :variants) AS n
                """
            ),
            {"score_set_id": score_set_id, "variants": variants},
        )
        ids = list(
            connection.execute(
                text("SELECT id FROM variants WHERE scoreset_id = :id"), {"id": score_set_id}
            ).scalars()
        )
        job_id = connection.execute(
            text(
                """
                INSERT INTO job_runs (urn, job_type, job_function, status, priority, max_retries,
                                      retry_count)
                VALUES ('urn:mavedb:job-bench', 'mapped_variant_annotation',
                        'link_gnomad_variants', 'running', 0, 0, 0) RETURNING id
                """
            )
        ).scalar_one()
    gnomad = AnnotationType.GNOMAD_ALLELE_FREQUENCY
    identifier = {"gnomad_db_identifier": "1-12345-A-G"}
    statuses = [
        Status(n, data=identifier) if n % 2 else Status(n, Reason.NOT_IN_SOURCE) for n in ids
    ]

    def ours(connection: Connection) -> None:
        accounts.write(
            connection,
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=gnomad,
            version="v4.1",
            statuses=statuses,
        )

    absent = explain(Reason.NOT_IN_SOURCE)
    rows = [
        (n, gnomad, "v4.1", "success", None, None, json.dumps(identifier), True, job_id)
        if n % 2
        else (n, gnomad, "v4.1", "skipped", absent, Reason.NOT_IN_SOURCE, None, True, job_id)
        for n in ids
    ]

    def baseline(connection: Connection) -> None:
        copy_rows(
            connection,
            "variant_annotation_status (variant_id, annotation_type, version, status,"
            " error_message, failure_category, success_data, current, job_run_id)",
            rows,
        )

    return _measure(
        "annotation statuses",
        engine,
        ours,
        baseline,
        variants,
        "variant_annotation_status",
        ratio_at_least(0.6),
    )


def _measure(
    figure: str, engine: Engine, ours: Work, baseline: Work, rows: int, table: str, target: Target
) -> Figure:
    """Time both in turn, each on a table as empty as the other's."""
    pairs = [
        Pair(rows / _seconds(engine, ours, table), rows / _seconds(engine, baseline, table))
        for _ in range(PAIRS)
    ]
    return figure_of(figure, "rows/s", pairs, target)


def _seconds(engine: Engine, work: Work, table: str) -> float:
    """The time of one transaction with its commit; what it wrote is deleted after it."""
    with engine.connect() as connection:
        newest = connection.execute(text(f"SELECT coalesce(max(id), 0) FROM {table}")).scalar_one()
        connection.commit()
        began = time.perf_counter()
        work(connection)
        connection.commit()
        seconds = time.perf_counter() - began
        connection.execute(text(f"DELETE FROM {table} WHERE id > :newest"), {"newest": newest})
        connection.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM ANALYZE {table}"))
    return seconds


def _insert_score_set(connection: Connection, urn: str, sequence: str) -> int:
    score_set_id, _ = insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="bench",
        sequence=sequence,
        sequence_type="dna",
        user="bench",
    )
    return score_set_id
