"""How fast variants are accounted for, beside a COPY of the same rows into the same table."""

import json

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import Figure, ratio_at_least
from deployments.local.bench.rows import insert_bench_score_set, measure
from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason, explain


def accounting(engine: Engine, variants: int) -> Figure:
    """Statuses through the account, beside a COPY of the same rows into the same table."""
    with engine.begin() as connection:
        score_set_id = insert_bench_score_set(connection, "tmp:bench-account", "ATG")
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

    return measure(
        "annotation statuses",
        engine,
        ours,
        baseline,
        variants,
        "variant_annotation_status",
        ratio_at_least(0.6),
    )
