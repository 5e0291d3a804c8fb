"""What is kept of variants that a new upload replaces: how many had which status, and why."""

from sqlalchemy import Connection, text

from mavedb_audit.release import release_of


def keep_summary(connection: Connection, score_set_id: int, job_id: int) -> None:
    """Keep the counts of the score set's current statuses, before `job_id` deletes its variants."""
    reason = release_of(connection).reason("status")
    connection.execute(
        text(
            f"""
            INSERT INTO replaced_variant_statuses
                   (score_set_id, replaced_by_job_id, annotation_type, version, status,
                    failure_category, variants)
            SELECT :score_set_id, :job_id, status.annotation_type, status.version, status.status,
                   {reason}, count(*)
              FROM variants AS variant
              JOIN variant_annotation_status AS status ON status.variant_id = variant.id
             WHERE variant.scoreset_id = :score_set_id AND status.current
             GROUP BY status.annotation_type, status.version, status.status,
                      {reason}
            """
        ),
        {"score_set_id": score_set_id, "job_id": job_id},
    )
