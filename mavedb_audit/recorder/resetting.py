"""Make jobs that had ended pending again. What their attempts went through stays as it is."""

from enum import StrEnum

from sqlalchemy import Connection, text

from mavedb_audit.errors import RequestError
from mavedb_audit.recorder.superseding import superseded
from mavedb_audit.release import release_of


class Selection(StrEnum):
    """Which of a pipeline's jobs: each value is SQL that selects their ids."""

    #: The failed ones, and those that were skipped because of them.
    FAILED = """
        WITH RECURSIVE failed (id) AS (
            SELECT id FROM job_runs WHERE pipeline_id = :id AND status IN ('failed', 'errored')
             UNION
            SELECT dependent.id
              FROM failed
              JOIN job_dependencies AS dependency ON dependency.depends_on_job_id = failed.id
              JOIN job_runs AS dependent ON dependent.id = dependency.id
             WHERE dependent.status = 'skipped'
        )
        SELECT id FROM failed
    """
    UNSUCCESSFUL = """
        SELECT id FROM job_runs
         WHERE pipeline_id = :id AND status IN ('failed', 'errored', 'cancelled', 'skipped')
    """
    ALL = "SELECT id FROM job_runs WHERE pipeline_id = :id"


def reset_jobs(connection: Connection, pipeline_id: int, selection: Selection) -> int:
    """Reset them, and return their number. The caller holds the pipeline's lock.

    Their next attempt is numbered after the last, and abandons one that is still open. Raises
    RequestError when a newer upload has replaced their variants.
    """
    overtaken = superseded(connection, pipeline_id)
    if overtaken is not None:
        raise RequestError(f"Nothing is run again. {overtaken.message}")
    reset = connection.execute(
        text(
            f"""
            UPDATE job_runs
               SET status = 'pending', scheduled_at = now(), started_at = NULL,
                   finished_at = NULL, error_message = NULL, error_traceback = NULL,
                   failure_category = NULL, progress_current = NULL, progress_total = NULL,
                   progress_message = NULL, metadata = metadata - 'inferred'
                   {release_of(connection).touched}
             WHERE id IN ({selection})
            """
        ),
        {"id": pipeline_id},
    )
    return reset.rowcount


def reopen_pipeline(connection: Connection, pipeline_id: int) -> None:
    """Let a flow run begin it again. The caller holds the pipeline's lock."""
    connection.execute(
        text("UPDATE pipelines SET status = 'created', finished_at = NULL WHERE id = :id"),
        {"id": pipeline_id},
    )
