"""The only writer of status_confirmations: which job found once more what was known already.

A source that is asked again mostly answers as before. Such a status keeps its row, with the job
that found it first and its time; that a later job asked and found the same is kept here.
"""

from sqlalchemy import Connection, text

from mavedb_audit.account_counts import BLOCK_SIZE

_INSERT = f"""
    INSERT INTO status_confirmations
           (job_id, score_set_id, annotation_type, version, id_block, variants, variant_ids)
    SELECT :job_id, :score_set_id, :annotation_type, :version, variant_id / {BLOCK_SIZE}, count(*),
           range_agg(int4range(variant_id, variant_id, '[]'))
      FROM {{source}} AS confirmed
     GROUP BY variant_id / {BLOCK_SIZE}
"""

#: SQL: the variants of :annotation_type that the job :job_id confirmed, and when.
CONFIRMED_BY_JOB = """(
    SELECT variant_id, confirmed.confirmed_at
      FROM status_confirmations AS confirmed
     CROSS JOIN unnest(confirmed.variant_ids) AS ids
     CROSS JOIN generate_series(lower(ids), upper(ids) - 1) AS variant_id
     WHERE confirmed.job_id = :job_id AND confirmed.annotation_type = :annotation_type
)"""


def last_confirmed(status: str, score_set_id: str) -> str:
    """SQL: the last confirmation of `status`, a current row of variant_annotation_status: its
    confirmed_at, and the job_urn. No row where it was never confirmed."""
    return f"""(
        SELECT confirmed.confirmed_at, job_runs.urn AS job_urn
          FROM status_confirmations AS confirmed JOIN job_runs ON job_runs.id = confirmed.job_id
         WHERE confirmed.score_set_id = {score_set_id}
           AND confirmed.annotation_type = {status}.annotation_type
           AND confirmed.id_block = {status}.variant_id / {BLOCK_SIZE}
           AND confirmed.variant_ids @> {status}.variant_id
           AND confirmed.version IS NOT DISTINCT FROM {status}.version
           AND confirmed.confirmed_at >= {status}.created_at
         ORDER BY confirmed.id DESC LIMIT 1
    )"""


def write(
    connection: Connection,
    source: str,
    *,
    job_id: int,
    score_set_id: int,
    annotation_type: str,
    version: str | None,
) -> None:
    """Keep that the job has confirmed the current status of every variant in `source`, SQL that
    gives their ids as variant_id."""
    connection.execute(
        text(_INSERT.format(source=source)),
        {
            "job_id": job_id,
            "score_set_id": score_set_id,
            "annotation_type": annotation_type,
            "version": version,
        },
    )


def forget(connection: Connection, score_set_id: int) -> None:
    """Keep nothing of the score set's variants, which are about to go with their statuses."""
    connection.execute(
        text("DELETE FROM status_confirmations WHERE score_set_id = :id"), {"id": score_set_id}
    )
