"""Move jobs and pipelines along with the states that Prefect's runs entered.

A step's own transaction is the truth about its work; what moves here is what no step could say:
that a run is scheduled or waits, that it crashed, was cancelled, or was never ready.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit import accounts
from mavedb_audit.failures import Failure, FailureCategory
from mavedb_audit.recorder.closing import (
    close_unsuccessful,
    derive_pipeline_status,
    lock_for_closing,
    lock_pipeline,
)
from mavedb_audit.recorder.pausing import follow_flow_run
from mavedb_audit.release import release_of
from mavedb_audit.states import TERMINAL_JOB_STATUSES, JobStatus, job_status

#: States of a flow run that leave nothing to wait for. A crash is not among them: recovery decides
#: whether the flow is tried again, and closes its jobs if not.
_CLOSING_FLOW_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CANCELLING"})
_CANCELLATION = frozenset({"CANCELLED", "CANCELLING"})
_UNSUCCESSFUL = frozenset({JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SKIPPED})
_CATEGORY_OF_STATUS = {
    JobStatus.FAILED: FailureCategory.SYSTEM_ERROR,
    JobStatus.CANCELLED: FailureCategory.CANCELLED,
    JobStatus.SKIPPED: FailureCategory.DEPENDENCY_FAILURE,
}


@dataclass(frozen=True)
class Move:
    """A planned run's newest state. `job_id` is None for a flow run."""

    run_id: UUID
    is_flow: bool
    pipeline_id: int
    job_id: int | None
    type: str
    name: str
    timestamp: datetime
    message: str
    category: FailureCategory | None = None

    @property
    def may_close(self) -> bool:
        """Whether a job may end without success by this."""
        if self.is_flow:
            return self.type in _CLOSING_FLOW_STATES
        return job_status(self.type, self.name) in _UNSUCCESSFUL

    @property
    def is_tasks_crash(self) -> bool:
        """That says nothing of its own: the flow was cancelled, or crashed, or goes on to its end,
        and that decides."""
        return not self.is_flow and self.type == "CRASHED"

    @property
    def may_withdraw(self) -> bool:
        """Whether a job may end by this with variants left that its step did not account for."""
        return not self.is_flow and job_status(self.type, self.name) is JobStatus.SUCCEEDED

    @property
    def is_tasks_own_end(self) -> bool:
        """Whether a task run says by this how it ended, whatever happened to its flow."""
        return not self.is_flow and self.type in ("COMPLETED", "FAILED")


def follow(connection: Connection, moves: Sequence[Move]) -> None:
    """Apply the moves, given in the order of pipelines and jobs."""
    open_jobs = _open_or_inferred(connection, moves)
    news = [
        move
        for move in moves
        if not move.is_tasks_crash and (move.is_flow or move.job_id in open_jobs)
    ]
    closing = {move.pipeline_id for move in news if move.may_close or move.may_withdraw}
    if closing:
        lock_for_closing(connection, sorted(closing))
    for move in news:
        lock_pipeline(connection, move.pipeline_id)
        if move.is_flow:
            if not _is_newest_flow_run(connection, move):
                continue
            if move.type in _CLOSING_FLOW_STATES:
                close_open_jobs(connection, move.pipeline_id, move.type, move.message)
            else:
                follow_flow_run(connection, move.pipeline_id, move.type, move.name, move.timestamp)
        elif move.job_id is not None:
            _move_job(connection, move, move.job_id)


def _open_or_inferred(connection: Connection, moves: Sequence[Move]) -> set[int]:
    """The jobs whose ends their steps have not written themselves.

    Most states tell of the others, and so take no lock: a job that is opened again is so for later
    states.
    """
    job_ids = [move.job_id for move in moves if move.job_id is not None]
    if not job_ids:
        return set()
    rows = connection.execute(
        text(
            """
            SELECT id FROM job_runs
             WHERE id = ANY (:ids)
               AND (status IN ('pending', 'queued', 'running') OR metadata ? 'inferred')
            """
        ),
        {"ids": job_ids},
    )
    return set(rows.scalars())


def _move_job(connection: Connection, move: Move, job_id: int) -> None:
    """Move a job that its step has not ended itself to what the task run's state stands for."""
    if not _concerns_open_job(connection, move, job_id):
        return
    status = job_status(move.type, move.name)
    if status in _UNSUCCESSFUL:
        category = move.category or (
            FailureCategory.TIMEOUT if move.name == "TimedOut" else _CATEGORY_OF_STATUS[status]
        )
        close_unsuccessful(connection, job_id, status, Failure(category, move.message))
    else:
        if status is JobStatus.SUCCEEDED:
            accounts.withdraw_rest_of_scope(connection, job_id)
        connection.execute(
            text(
                f"""
                UPDATE job_runs
                   SET status = :status, metadata = metadata - 'inferred'
                       {release_of(connection).touched},
                       started_at = CASE WHEN :status = 'running'
                                         THEN coalesce(started_at, now()) ELSE started_at END,
                       finished_at = CASE WHEN :status = 'succeeded' THEN now() END,
                       error_message = CASE WHEN :status <> 'succeeded' THEN error_message END,
                       failure_category = CASE WHEN :status <> 'succeeded'
                                               THEN failure_category END
                 WHERE id = :id AND status <> :status
                   AND NOT (:status = 'queued' AND EXISTS (
                     SELECT FROM job_attempts
                      WHERE job_attempts.job_id = job_runs.id AND outcome IS NULL))
                """
            ),
            {"id": job_id, "status": status},
        )
    if status in TERMINAL_JOB_STATUSES:
        derive_pipeline_status(connection, move.pipeline_id, overrule=move.is_tasks_own_end)


def _is_newest_flow_run(connection: Connection, move: Move) -> bool:
    """Whether no other flow run was begun for the pipeline since: that one answers for the jobs."""
    is_newest: bool = connection.execute(
        text(
            """
            SELECT NOT EXISTS (
              SELECT FROM prefect_runs AS other JOIN prefect_runs AS own ON own.run_id = :run_id
               WHERE other.pipeline_id = :pipeline_id AND other.kind = 'flow'
                 AND other.first_seen_at > own.first_seen_at)
            """
        ),
        {"pipeline_id": move.pipeline_id, "run_id": move.run_id},
    ).scalar_one()
    return is_newest


def _concerns_open_job(connection: Connection, move: Move, job_id: int) -> bool:
    """Whether the state is news: not of a task run that another one has replaced, and the job open,
    or closed only because its flow ended."""
    concerns: bool = connection.execute(
        text(
            """
            SELECT (job.status IN ('pending', 'queued', 'running')
                    OR :is_own_end AND job.metadata ? 'inferred')
                   AND job.scheduled_at <= :timestamp
                   AND NOT EXISTS (
                     SELECT FROM job_attempts AS other
                      WHERE other.job_id = job.id AND other.task_run_id <> :run_id
                        AND (other.outcome IS NULL
                             OR other.started_at > :timestamp
                             OR other.attempt > (SELECT min(own.attempt) FROM job_attempts AS own
                                                  WHERE own.job_id = job.id
                                                    AND own.task_run_id = :run_id)))
                   AND NOT EXISTS (
                     -- What a process says after it was taken for dead is no news.
                     SELECT FROM prefect_runs AS task_run
                       JOIN prefect_transitions AS crash
                         ON crash.run_id = task_run.flow_run_id AND crash.type = 'CRASHED'
                      WHERE task_run.run_id = :run_id AND crash.timestamp < :timestamp
                        AND crash.timestamp > (SELECT min(first.timestamp)
                                                 FROM prefect_transitions AS first
                                                WHERE first.run_id = :run_id))
              FROM job_runs AS job WHERE job.id = :job_id FOR NO KEY UPDATE
            """
        ),
        {
            "job_id": job_id,
            "run_id": move.run_id,
            "timestamp": move.timestamp,
            "is_own_end": move.is_tasks_own_end,
        },
    ).scalar_one()
    return concerns


def close_open_jobs(
    connection: Connection, pipeline_id: int, state_type: str, message: str
) -> None:
    """Close what a flow run in that state has left open: a final one, or CANCELLING.

    The caller holds the locks of `lock_for_closing`.
    """
    for job_id, status in _open_jobs(connection, pipeline_id):
        if state_type in _CANCELLATION:
            ending = JobStatus.CANCELLED
            failure = Failure(FailureCategory.CANCELLED, f"The flow run was cancelled: {message}")
        elif status == JobStatus.RUNNING:
            ending = JobStatus.FAILED
            failure = Failure(
                FailureCategory.SYSTEM_ERROR, f"The flow run ended while it ran: {message}"
            )
        else:
            ending = JobStatus.SKIPPED
            failure = Failure(
                FailureCategory.DEPENDENCY_FAILURE, f"Not run, because the flow ended: {message}"
            )
        # Its own task run may still say how it really ended; a cancellation stands.
        inferred = state_type not in _CANCELLATION
        close_unsuccessful(connection, job_id, ending, failure, inferred=inferred)
    if state_type in _CANCELLATION:
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


def _open_jobs(connection: Connection, pipeline_id: int) -> list[tuple[int, str]]:
    """The jobs to close, with their status. Each is closed for itself, not as a dependent."""
    rows = connection.execute(
        text(
            """
            SELECT id, status FROM job_runs
             WHERE pipeline_id = :id AND status IN ('pending', 'queued', 'running')
             ORDER BY id DESC FOR NO KEY UPDATE
            """
        ),
        {"id": pipeline_id},
    )
    return [(row.id, row.status) for row in rows]
