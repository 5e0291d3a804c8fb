"""Record what Prefect's runs went through, each state once, from whatever source it comes."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.recorder.closing import (
    close_unsuccessful,
    derive_pipeline_status,
    lock_pipeline,
)
from mavedb_audit.states import FINAL_STATE_TYPES, JobStatus, Run, RunKind, Transition, job_status

#: Flows before tasks: a task run finds its job through its flow run's pipeline.
_UPSERT_RUNS = """
    INSERT INTO prefect_runs (run_id, kind, flow_run_id, name, pipeline_id, job_id)
    SELECT run.run_id, :kind, run.flow_run_id, run.name,
           coalesce(pipeline.id, flow_run.pipeline_id), planned.job_id
      FROM unnest(CAST(:run_ids AS uuid[]), CAST(:flow_run_ids AS uuid[]), CAST(:names AS text[]),
                  CAST(:pipeline_urns AS text[]), CAST(:job_keys AS text[]))
           AS run (run_id, flow_run_id, name, pipeline_urn, job_key)
      LEFT JOIN pipelines AS pipeline ON pipeline.urn = run.pipeline_urn
      LEFT JOIN prefect_runs AS flow_run ON flow_run.run_id = run.flow_run_id
      LEFT JOIN planned_jobs AS planned
        ON planned.pipeline_id = flow_run.pipeline_id AND planned.job_key = run.job_key
     ORDER BY run.run_id
    ON CONFLICT (run_id) DO UPDATE
       SET pipeline_id = coalesce(prefect_runs.pipeline_id, excluded.pipeline_id),
           job_id = coalesce(prefect_runs.job_id, excluded.job_id)
     WHERE (prefect_runs.pipeline_id IS NULL AND excluded.pipeline_id IS NOT NULL)
        OR (prefect_runs.job_id IS NULL AND excluded.job_id IS NOT NULL)
"""

#: Prefect's ids of states run backwards now and then, so the order is by time first.
_INSERT_TRANSITIONS = """
    WITH incoming AS (
        SELECT * FROM unnest(
            CAST(:state_ids AS uuid[]), CAST(:run_ids AS uuid[]), CAST(:types AS text[]),
            CAST(:names AS text[]), CAST(:timestamps AS timestamptz[]),
            CAST(:run_counts AS integer[]), CAST(:messages AS text[]), CAST(:sources AS text[]))
            AS incoming (state_id, run_id, type, name, timestamp, run_count, message, source)
    ), fresh AS (
        INSERT INTO prefect_transitions
               (state_id, run_id, type, name, timestamp, run_count, message, source)
        SELECT * FROM incoming ORDER BY state_id
        ON CONFLICT (state_id) DO NOTHING
        RETURNING state_id, run_id, type, name, timestamp, run_count
    ), newest AS (
        SELECT DISTINCT ON (run_id) * FROM fresh ORDER BY run_id, timestamp DESC, state_id DESC
    )
    UPDATE prefect_runs AS run
       SET state_id = newest.state_id, state_type = newest.type, state_name = newest.name,
           state_timestamp = newest.timestamp,
           run_count = greatest(run.run_count, coalesce(newest.run_count, 0))
      FROM newest
     WHERE run.run_id = newest.run_id
       AND (run.state_timestamp IS NULL
            OR (newest.timestamp, newest.state_id) > (run.state_timestamp, run.state_id))
    RETURNING run.run_id, run.kind, run.pipeline_id, run.job_id, newest.type, newest.name
"""


def record(connection: Connection, transitions: Iterable[Transition]) -> None:
    """Record the transitions that are new, and move runs, jobs and pipelines along with them.

    Late and repeated deliveries change nothing: a state is keyed by its own id, and a run moves
    only forward in time.
    """
    batch = sorted(
        {transition.state_id: transition for transition in transitions}.values(),
        key=lambda transition: transition.run.run_id,
    )
    if not batch:
        return
    runs = {transition.run.run_id: transition.run for transition in batch}
    for kind in RunKind:
        bind_runs(connection, kind, [run for run in runs.values() if run.kind is kind])
    messages = {transition.run.run_id: transition.message for transition in batch}
    moved = connection.execute(
        text(_INSERT_TRANSITIONS),
        {
            "state_ids": [transition.state_id for transition in batch],
            "run_ids": [transition.run.run_id for transition in batch],
            "types": [transition.type for transition in batch],
            "names": [transition.name for transition in batch],
            "timestamps": [transition.timestamp for transition in batch],
            "run_counts": [transition.run_count for transition in batch],
            "messages": [transition.message for transition in batch],
            "sources": [str(transition.source) for transition in batch],
        },
    ).all()
    for run in sorted(moved, key=lambda run: (run.pipeline_id or 0, run.job_id or 0)):
        message = messages[run.run_id] or f"Prefect's state: {run.name}"
        if run.job_id is not None:
            _move_job(connection, run.pipeline_id, run.job_id, run.type, run.name, message)
        elif run.kind == RunKind.FLOW and run.pipeline_id is not None:
            _move_pipeline(connection, run.pipeline_id, run.type, message)


def bind_runs(connection: Connection, kind: RunKind, runs: Sequence[Run]) -> None:
    """Make the runs known, each bound to its pipeline or job as far as that is known now."""
    if not runs:
        return
    connection.execute(
        text(_UPSERT_RUNS),
        {
            "kind": str(kind),
            "run_ids": [run.run_id for run in runs],
            "flow_run_ids": [run.flow_run_id for run in runs],
            "names": [run.name for run in runs],
            "pipeline_urns": [run.pipeline_urn for run in runs],
            "job_keys": [run.job_key for run in runs],
        },
    )


def _move_job(
    connection: Connection,
    pipeline_id: int | None,
    job_id: int,
    state_type: str,
    state_name: str,
    message: str,
) -> None:
    """Move a job that its step has not ended itself to what the task run's state stands for."""
    status = job_status(state_type, state_name)
    lock_pipeline(connection, pipeline_id)
    is_open = connection.execute(
        text(
            """
            SELECT status IN ('pending', 'queued', 'running') FROM job_runs WHERE id = :id
               FOR UPDATE
            """
        ),
        {"id": job_id},
    ).scalar_one()
    if not is_open:
        return
    if status in (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SKIPPED):
        category = {
            JobStatus.FAILED: FailureCategory.TIMEOUT
            if state_name == "TimedOut"
            else FailureCategory.SYSTEM_ERROR,
            JobStatus.CANCELLED: FailureCategory.CANCELLED,
            JobStatus.SKIPPED: FailureCategory.DEPENDENCY_FAILURE,
        }[status]
        close_unsuccessful(connection, job_id, status, Failure(category, message))
    else:
        connection.execute(
            text(
                """
                UPDATE job_runs
                   SET status = :status,
                       started_at = CASE WHEN :status = 'running'
                                         THEN coalesce(started_at, now()) ELSE started_at END,
                       finished_at = CASE WHEN :status = 'succeeded' THEN now() END
                 WHERE id = :id AND status <> :status
                   AND NOT (status = 'running' AND :status = 'queued')
                """
            ),
            {"id": job_id, "status": status},
        )
    derive_pipeline_status(connection, pipeline_id)


def _move_pipeline(connection: Connection, pipeline_id: int, state_type: str, message: str) -> None:
    """A flow run that has ended leaves no job open behind it."""
    if state_type not in FINAL_STATE_TYPES:
        return
    lock_pipeline(connection, pipeline_id)
    open_jobs = connection.execute(
        text(
            """
            SELECT id, status FROM job_runs
             WHERE pipeline_id = :id AND status IN ('pending', 'queued', 'running')
             ORDER BY id FOR UPDATE
            """
        ),
        {"id": pipeline_id},
    ).all()
    for job in open_jobs:
        if state_type == "CANCELLED":
            failure = Failure(FailureCategory.CANCELLED, f"The flow run was cancelled: {message}")
            close_unsuccessful(connection, job.id, JobStatus.CANCELLED, failure)
        elif job.status == JobStatus.RUNNING:
            failure = Failure(
                FailureCategory.SYSTEM_ERROR, f"The flow run ended while it ran: {message}"
            )
            close_unsuccessful(connection, job.id, JobStatus.FAILED, failure)
        else:
            failure = Failure(
                FailureCategory.DEPENDENCY_FAILURE, f"Not run, because the flow ended: {message}"
            )
            close_unsuccessful(connection, job.id, JobStatus.SKIPPED, failure)
    if state_type == "CANCELLED":
        connection.execute(
            text(
                """
                UPDATE pipelines SET status = 'cancelled', finished_at = now()
                 WHERE id = :id AND status IN ('created', 'running', 'paused')
                """
            ),
            {"id": pipeline_id},
        )
    derive_pipeline_status(connection, pipeline_id)
