"""All that befell a pipeline or a job, in the order in which it happened."""

from datetime import datetime

from sqlalchemy import Connection, text

from mavedb_audit.errors import NotFoundError
from mavedb_audit.views import View


class Event(View):
    """Something that happened: a state that a run entered, an attempt, or what an operator did.

    `kind` is request, flow, task, attempt or action. `source` is who witnessed a state.
    """

    at: datetime
    kind: str
    subject: str
    what: str
    message: str | None
    source: str | None
    attempt: int | None


class History(View):
    urn: str
    events: list[Event]


#: A task run that no plan knows belongs to the pipeline of its flow run.
_RUNS = """
    SELECT run_id, kind, name FROM prefect_runs WHERE job_id IN (SELECT id FROM job)
     UNION
    SELECT run_id, kind, name FROM prefect_runs WHERE pipeline_id = :pipeline_id
     UNION
    SELECT run_id, kind, name FROM prefect_runs
     WHERE flow_run_id IN (SELECT run_id FROM prefect_runs WHERE pipeline_id = :pipeline_id)
"""

_EVENTS = f"""
    WITH job AS (
        SELECT job_runs.id, coalesce(planned.job_key, job_function) AS job_key FROM job_runs
          LEFT JOIN planned_jobs AS planned ON planned.job_id = job_runs.id
         WHERE job_runs.pipeline_id = :pipeline_id OR job_runs.id = :job_id
    ), run AS ({_RUNS})
    SELECT requested_at AS at, 'request' AS kind, name AS subject, 'requested' AS what,
           NULL AS message, NULL AS source, NULL::integer AS attempt
      FROM pipeline_requests JOIN pipelines ON pipelines.id = pipeline_id
     WHERE pipeline_id = :pipeline_id
     UNION ALL
    SELECT dispatched_at, 'request', name, 'taken to Prefect', NULL, NULL, NULL::integer
      FROM pipeline_requests JOIN pipelines ON pipelines.id = pipeline_id
     WHERE pipeline_id = :pipeline_id AND dispatched_at IS NOT NULL
     UNION ALL
    SELECT transition.timestamp, run.kind, run.name, transition.name, transition.message,
           transition.source, transition.run_count
      FROM run JOIN prefect_transitions AS transition USING (run_id)
     UNION ALL
    SELECT attempt.started_at, 'attempt', job.job_key, 'began',
           'on ' || attempt.host || ', process ' || attempt.process_id, NULL, attempt.attempt
      FROM job JOIN job_attempts AS attempt ON attempt.job_id = job.id
     UNION ALL
    SELECT attempt.finished_at, 'attempt', job.job_key, attempt.outcome,
           attempt.error_message, NULL, attempt.attempt
      FROM job JOIN job_attempts AS attempt ON attempt.job_id = job.id
     WHERE attempt.finished_at IS NOT NULL
     UNION ALL
    SELECT max(pruned_at), 'action', 'prune', 'earlier states forgotten', count(*) || ' runs',
           NULL, NULL
      FROM run JOIN prefect_runs USING (run_id) WHERE pruned_at IS NOT NULL HAVING count(*) > 0
     UNION ALL
    SELECT created_at, 'action', actor, action, reason, NULL, NULL
      FROM operator_actions WHERE pipeline_id = :pipeline_id
     ORDER BY at, kind, subject, what
"""


def history(connection: Connection, urn: str) -> History:
    """All that befell the pipeline or the job of the URN, oldest first.

    Raises NotFoundError for an unknown URN.
    """
    found = connection.execute(
        text(
            """
            SELECT id AS pipeline_id, NULL::integer AS job_id FROM pipelines WHERE urn = :urn
             UNION ALL
            SELECT NULL, id FROM job_runs WHERE urn = :urn
            """
        ),
        {"urn": urn},
    ).one_or_none()
    if found is None:
        raise NotFoundError(f"There is no pipeline or job {urn}")
    events = connection.execute(text(_EVENTS), dict(found._mapping))
    return History(urn=urn, events=[Event.model_validate(event) for event in events])
