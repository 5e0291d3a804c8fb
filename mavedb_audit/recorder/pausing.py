"""A paused pipeline starts no further step. Its flow suspends itself in Prefect between steps."""

from datetime import datetime

from sqlalchemy import Connection, text

from mavedb_audit.recorder.closing import lock_pipeline
from mavedb_audit.states import PipelineStatus


def is_paused(connection: Connection, pipeline_id: int) -> bool:
    """Whether no further step of the pipeline may start."""
    status = connection.execute(
        text("SELECT status FROM pipelines WHERE id = :id"), {"id": pipeline_id}
    ).scalar_one()
    return bool(status == PipelineStatus.PAUSED)


def lock_if_paused(connection: Connection, pipeline_id: int) -> str | None:
    """Lock the pipeline. Returns a key of the pause that is in force, or None when none is."""
    lock_pipeline(connection, pipeline_id)
    if not is_paused(connection, pipeline_id):
        return None
    newest = connection.execute(
        text(
            """
            SELECT coalesce(max(id), 0) FROM operator_actions
             WHERE pipeline_id = :id AND action = 'pause'
            """
        ),
        {"id": pipeline_id},
    ).scalar_one()
    return f"pause-{newest}"


def pause_pipeline(connection: Connection, pipeline_id: int) -> None:
    """Pause it if it has not ended. The caller holds the pipeline's lock."""
    connection.execute(
        text(
            """
            UPDATE pipelines SET status = 'paused'
             WHERE id = :id AND status IN ('created', 'running')
            """
        ),
        {"id": pipeline_id},
    )


def resume_pipeline(connection: Connection, pipeline_id: int) -> None:
    """Let it go on if it is paused. The caller holds the pipeline's lock."""
    connection.execute(
        text(
            """
            UPDATE pipelines
               SET status = CASE WHEN started_at IS NULL THEN 'created' ELSE 'running' END
             WHERE id = :id AND status = 'paused'
            """
        ),
        {"id": pipeline_id},
    )


def follow_flow_run(
    connection: Connection, pipeline_id: int, state_type: str, state_name: str, since: datetime
) -> None:
    """Pause or resume with a flow run that was suspended or resumed in Prefect.

    What an operator asked of us later than that stands.
    """
    if state_type == "PAUSED" and not _asked_since(connection, pipeline_id, "resume", since):
        pause_pipeline(connection, pipeline_id)
    elif state_name == "Resuming" and not _asked_since(connection, pipeline_id, "pause", since):
        resume_pipeline(connection, pipeline_id)


def _asked_since(connection: Connection, pipeline_id: int, action: str, since: datetime) -> bool:
    asked: bool = connection.execute(
        text(
            """
            SELECT EXISTS (SELECT FROM operator_actions
                            WHERE pipeline_id = :id AND action = :action AND created_at > :since)
            """
        ),
        {"id": pipeline_id, "action": action, "since": since},
    ).scalar_one()
    return asked
