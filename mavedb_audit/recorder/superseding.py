"""Which pipelines a newer upload has superseded: their variants are gone, so they write nothing.

An upload is newer when its pipeline was asked for later. Once its variants are there, every older
pipeline of the score set is about variants that are not; the newer one maps and annotates its own.
"""

from sqlalchemy import Connection, text

from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.pipelines import CREATE


def superseded(connection: Connection, pipeline_id: int | None) -> Failure | None:
    """Why nothing of the pipeline may be written any more; None as long as it may."""
    newer_urn = connection.execute(
        text(
            """
            SELECT newer.urn
              FROM planned_jobs AS creation JOIN pipelines AS newer ON newer.id = pipeline_id
             WHERE creation.pipeline_id > :pipeline_id AND creation.job_key = :create
               AND creation.score_set_id IN (SELECT score_set_id FROM planned_jobs AS own
                                              WHERE own.pipeline_id = :pipeline_id)
               AND EXISTS (SELECT FROM job_attempts AS attempt
                            WHERE attempt.job_id = creation.job_id
                              AND attempt.outcome = 'succeeded')
             ORDER BY newer.id DESC LIMIT 1
            """
        ),
        {"pipeline_id": pipeline_id, "create": CREATE.key},
    ).scalar_one_or_none()
    if newer_urn is None:
        return None
    return Failure(
        FailureCategory.CANCELLED,
        f"Superseded by {newer_urn}: that newer upload has replaced the score set's variants, and"
        " its pipeline maps and annotates them. To go back to older files, upload them again",
    )
