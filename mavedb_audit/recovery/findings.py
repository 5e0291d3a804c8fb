"""What the database shows: pipelines whose flow run is dead or stalls, and what others left over.

A finding is a suspicion. Prefect is asked before anything is done about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit.locks import IS_HELD
from mavedb_audit.settings import settings
from mavedb_audit.states import (
    FINAL_STATE_TYPES,
    TERMINAL_PIPELINE_STATUSES,
    PipelineStatus,
)

#: So many findings that only time made are looked into in one scan; the next takes others.
_MOST_BY_TIME = 200
#: A state may reach Prefect's server and us so much later than the end of its flow run.
_STATES_TAKE_SECONDS = 60.0
#: A worker that is there ends what it cancels in a few seconds.
_CANCELLING_TAKES_SECONDS = 30.0
#: A flow tells Prefect of its end within so much time of its last step's.
_REPORTING_TAKES_SECONDS = 10.0


class Evidence(StrEnum):
    """Why a flow run is suspected."""

    CRASHED = "Prefect says that it crashed"
    UNLOCKED = "nobody holds its lock"
    STALLED = "it stalls"


@dataclass(frozen=True)
class Suspect:
    """An open pipeline with the flow run that should work on it."""

    pipeline_id: int
    pipeline_urn: str
    flow_run_id: UUID
    evidence: Evidence
    correlation_id: str | None


@dataclass(frozen=True)
class LeftTaskRun:
    """A task run that has no end, though its flow run has. `is_done`: its step had committed."""

    run_id: UUID
    is_done: bool


@dataclass(frozen=True)
class UnreportedEnd:
    """A flow run whose pipeline has ended, and whose process died before it told Prefect."""

    flow_run_id: UUID
    status: PipelineStatus


_FLOW_LOCK_IS_HELD = IS_HELD.format(key="'mavedb_audit:flow:' || flow_run_id")

#: Each open pipeline with its newest flow run: the dispatched one before we hear of its states.
#: A restart of PostgreSQL drops all locks, and the living take theirs again within seconds.
_SUSPECTS = f"""
    WITH newest AS (
        SELECT pipeline.id AS pipeline_id, pipeline.urn, pipeline.correlation_id,
               CASE WHEN unheard.id IS NULL THEN run.run_id ELSE unheard.flow_run_id
               END AS flow_run_id,
               CASE WHEN unheard.id IS NULL THEN run.state_type END AS state_type,
               CASE WHEN unheard.id IS NULL THEN coalesce(run.state_timestamp, run.first_seen_at)
                    ELSE unheard.dispatched_at END AS since
          FROM pipelines AS pipeline
          LEFT JOIN LATERAL (
            SELECT * FROM prefect_runs
             WHERE pipeline_id = pipeline.id AND kind = 'flow'
             ORDER BY first_seen_at DESC, run_id DESC LIMIT 1) AS run ON true
          LEFT JOIN pipeline_requests AS unheard
            ON unheard.pipeline_id = pipeline.id
           AND NOT EXISTS (SELECT FROM prefect_runs WHERE run_id = unheard.flow_run_id)
         WHERE pipeline.status IN ('created', 'running')
           AND (CAST(:pipeline_ids AS integer[]) IS NULL OR pipeline.id = ANY (:pipeline_ids))
    ), suspected AS (
        SELECT pipeline_id, urn, correlation_id, flow_run_id, since,
               {_FLOW_LOCK_IS_HELD} AS is_held,
               CASE
                 WHEN state_type = 'CRASHED' THEN 'CRASHED'
                 WHEN state_type = 'RUNNING'
                      AND since < clock_timestamp() - :grace * interval '1 second'
                   THEN 'UNLOCKED'
                 WHEN (state_type IS NULL OR state_type IN ('SCHEDULED', 'PENDING'))
                      AND since < clock_timestamp() - :queued * interval '1 second'
                   THEN 'STALLED'
                 WHEN (state_type = 'CANCELLING' OR state_type = ANY (:final))
                      AND since < clock_timestamp() - :pending * interval '1 second'
                   THEN 'STALLED'
                 WHEN EXISTS (
                        SELECT FROM job_runs AS job
                         WHERE job.pipeline_id = newest.pipeline_id AND job.status = 'running'
                           AND job.started_at < clock_timestamp() - :running * interval '1 second')
                   THEN 'STALLED'
               END AS evidence
          FROM newest WHERE flow_run_id IS NOT NULL
    )
    SELECT pipeline_id, urn, correlation_id, flow_run_id, evidence FROM suspected
     WHERE (evidence = 'CRASHED'
            OR evidence IS NOT NULL AND clock_timestamp()
               > pg_postmaster_start_time() + :restart_grace * interval '1 second')
       AND (NOT is_held
            OR evidence = 'CRASHED' AND since < clock_timestamp() - :queued * interval '1 second')
       AND (:by_time OR evidence <> 'STALLED')
     ORDER BY evidence <> 'CRASHED', evidence = 'STALLED', random()
     LIMIT {_MOST_BY_TIME}
"""


def suspects(
    connection: Connection, *, by_time: bool, pipeline_ids: Sequence[int] | None = None
) -> list[Suspect]:
    """The open pipelines whose flow run seems dead; `by_time`: also those that stall.

    Those that Prefect has seen crash come first.
    """
    config = settings()
    rows = connection.execute(
        text(_SUSPECTS),
        {
            "by_time": by_time,
            "pipeline_ids": None if pipeline_ids is None else list(pipeline_ids),
            "grace": config.recovery_grace_seconds,
            "restart_grace": config.recovery_restart_grace_seconds,
            "queued": config.recovery_queued_seconds,
            "running": config.recovery_running_seconds,
            "pending": config.recovery_pending_seconds,
            "final": sorted(FINAL_STATE_TYPES),
        },
    )
    return [
        Suspect(
            row.pipeline_id,
            row.urn,
            row.flow_run_id,
            Evidence[row.evidence],
            row.correlation_id,
        )
        for row in rows
    ]


def left_task_runs(connection: Connection) -> list[LeftTaskRun]:
    """Task runs without an end whose flow run ended after their newest state.

    The flow run may have been tried again since: then others run in their place.
    """
    rows = connection.execute(
        text(
            f"""
            SELECT task_run.run_id,
                   EXISTS (SELECT FROM job_attempts AS attempt
                            WHERE attempt.task_run_id = task_run.run_id
                              AND attempt.outcome = 'succeeded') AS is_done
              FROM prefect_runs AS task_run
             WHERE task_run.kind = 'task' AND task_run.state_type <> ALL (:final)
               AND task_run.state_name <> 'NotReady'
               AND EXISTS (
                 SELECT FROM prefect_transitions AS ended
                  WHERE ended.run_id = task_run.flow_run_id AND ended.type = ANY (:final)
                    AND ended.timestamp > task_run.state_timestamp
                    AND ended.timestamp > clock_timestamp() - interval '1 day'
                    AND ended.timestamp < clock_timestamp() - :seconds * interval '1 second')
             ORDER BY random() LIMIT {_MOST_BY_TIME}
            """
        ),
        {"final": sorted(FINAL_STATE_TYPES), "seconds": _STATES_TAKE_SECONDS},
    )
    return [LeftTaskRun(row.run_id, row.is_done) for row in rows]


def stuck_cancellations(connection: Connection) -> list[UUID]:
    """Flow runs that are being cancelled, though no process of theirs is left to end."""
    rows = connection.execute(
        text(
            f"""
            SELECT flow_run_id FROM (
                SELECT run_id AS flow_run_id FROM prefect_runs
                 WHERE kind = 'flow' AND pipeline_id IS NOT NULL AND state_type = 'CANCELLING'
                   AND state_timestamp < clock_timestamp() - :seconds * interval '1 second'
            ) AS cancelling
             WHERE NOT {_FLOW_LOCK_IS_HELD}
               AND clock_timestamp()
                   > pg_postmaster_start_time() + :restart_grace * interval '1 second'
             LIMIT {_MOST_BY_TIME}
            """
        ),
        {
            "seconds": _CANCELLING_TAKES_SECONDS,
            "restart_grace": settings().recovery_restart_grace_seconds,
        },
    )
    return list(rows.scalars())


def unreported_ends(connection: Connection) -> list[UnreportedEnd]:
    """Flow runs that Prefect takes for running, or crashed, though all their jobs had ended."""
    rows = connection.execute(
        text(
            f"""
            SELECT flow_run_id, status FROM (
                SELECT run.run_id AS flow_run_id, pipeline.status
                  FROM prefect_runs AS run
                  JOIN pipelines AS pipeline ON pipeline.id = run.pipeline_id
                 WHERE run.kind = 'flow' AND pipeline.status = ANY (:terminal)
                   AND (run.state_type = 'RUNNING'
                        OR run.state_type = 'CRASHED' AND pipeline.status = ANY (:successful)
                           AND run.state_timestamp > statement_timestamp() - interval '1 day')
                   AND greatest(run.state_timestamp, pipeline.finished_at)
                       < clock_timestamp() - :seconds * interval '1 second'
            ) AS ended
             WHERE NOT {_FLOW_LOCK_IS_HELD}
               AND clock_timestamp()
                   > pg_postmaster_start_time() + :restart_grace * interval '1 second'
             LIMIT {_MOST_BY_TIME}
            """
        ),
        {
            "terminal": sorted(TERMINAL_PIPELINE_STATUSES),
            "successful": [PipelineStatus.SUCCEEDED, PipelineStatus.PARTIAL],
            "seconds": _REPORTING_TAKES_SECONDS,
            "restart_grace": settings().recovery_restart_grace_seconds,
        },
    )
    return [UnreportedEnd(row.flow_run_id, PipelineStatus(row.status)) for row in rows]


def done_task_runs(connection: Connection, task_run_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the task runs whose step had committed its success."""
    rows = connection.execute(
        text(
            """
            SELECT DISTINCT task_run_id FROM job_attempts
             WHERE task_run_id = ANY (:ids) AND outcome = 'succeeded'
            """
        ),
        {"ids": list(task_run_ids)},
    )
    return set(rows.scalars())
