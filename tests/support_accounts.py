"""Accounts written as steps write them, and what the counts of them must be."""

from sqlalchemy import Connection, text

from deployments.local.submission import insert_score_set
from mavedb_audit import accounts
from mavedb_audit.account_counts import BLOCK_SIZE
from mavedb_audit.accounts import Status
from mavedb_audit.pipelines import AnnotationType

GNOMAD = AnnotationType.GNOMAD_ALLELE_FREQUENCY
MAPPING = AnnotationType.VRS_MAPPING
CLINVAR = AnnotationType.CLINVAR_CONTROL


def insert_score_set_of(connection: Connection, urn: str, variant_ids: range) -> int:
    """A score set whose variants have these ids, and URNs with them, in a database without it."""
    score_set_id, _ = insert_score_set(
        connection,
        urn=urn,
        title=f"Scores of {urn}",
        target_name="ABC",
        sequence="ATGGCT",
        sequence_type="dna",
        user="curator",
    )
    connection.execute(
        text(
            """
            INSERT INTO variants (id, urn, data, hgvs_nt, hgvs_pro, scoreset_id, creation_date,
                                  modification_date)
            SELECT n, :urn || '#' || n, '{}', 'c.' || n || 'A>G', 'p.Ala' || n || 'Gly', :id,
                   CURRENT_DATE, CURRENT_DATE
              FROM unnest(CAST(:variant_ids AS integer[])) AS n
            """
        ),
        {"urn": urn, "id": score_set_id, "variant_ids": list(variant_ids)},
    )
    connection.execute(
        text("UPDATE scoresets SET num_variants = :n WHERE id = :id"),
        {"n": len(variant_ids), "id": score_set_id},
    )
    return score_set_id


def insert_jobs(connection: Connection, number: int) -> None:
    """Jobs of no pipeline, which have the ids 1, 2, ... in a database without any."""
    connection.execute(
        text(
            """
            INSERT INTO job_runs (urn, job_type, job_function, status, priority, max_retries,
                                  retry_count)
            SELECT 'urn:mavedb:job-' || n, 'mapped_variant_annotation', 'link_gnomad_variants',
                   'running', 0, 3, 0 FROM generate_series(1, :number) AS n
            """
        ),
        {"number": number},
    )


def write(
    connection: Connection,
    score_set_id: int,
    *statuses: Status,
    job_id: int = 1,
    annotation_type: AnnotationType = GNOMAD,
    version: str | None = "v4.1",
) -> None:
    accounts.write(
        connection,
        job_id=job_id,
        score_set_id=score_set_id,
        annotation_type=annotation_type,
        version=version,
        statuses=statuses,
    )


#: (score set, type, version, status, reason) -> how many, by the account's rows and by the counts.
ROWS = f"""
    SELECT variant.scoreset_id, annotation_type, version, status.status, failure_category,
           variant.id / {BLOCK_SIZE}, count(*), max(status.created_at), array_agg(variant.id
           ORDER BY variant.id)
      FROM variant_annotation_status AS status JOIN variants AS variant
        ON variant.id = status.variant_id
     WHERE status.current GROUP BY 1, 2, 3, 4, 5, 6
"""
COUNTS = """
    SELECT score_set_id, annotation_type, version, status, reason, id_block, variants, newest_at,
           variant_ids
      FROM account_counts
"""


def assert_counts_follow(connection: Connection, most_listed: int = 64) -> int:
    """The counts are those of the rows, and each lists its variants if they are few.

    Returns how many counts there are.
    """
    rows = [tuple(row) for row in connection.execute(text(ROWS))]
    expected = {(*row[:8], tuple(row[8]) if row[6] <= most_listed else None) for row in rows}
    counts = [tuple(row) for row in connection.execute(text(COUNTS))]
    assert {(*row[:8], None if row[8] is None else tuple(row[8])) for row in counts} == expected
    return len(counts)


def counted(connection: Connection, score_set_id: int) -> dict[tuple[str | None, ...], int]:
    """(version, status, reason) -> how many variants, of all types."""
    rows = connection.execute(
        text(
            """
            SELECT version, status, reason, sum(variants) FROM account_counts
             WHERE score_set_id = :id GROUP BY 1, 2, 3
            """
        ),
        {"id": score_set_id},
    )
    return {(row[0], row[1], row[2]): row[3] for row in rows}


#: The tables of the release of MaveDB whose failure categories are a closed list.
NEWER_RELEASE = """
    ALTER TABLE variant_annotation_status RENAME success_data TO annotation_metadata;
    ALTER TABLE variant_annotation_status ADD CONSTRAINT failure_category_valid CHECK
        (failure_category IN ('external_api_error', 'external_service_rejected', 'unknown',
                              'external_reference_not_found'))
"""
