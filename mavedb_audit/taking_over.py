"""Close what MaveDB's earlier job system left open, and ask for it again.

Its rows are those of pipelines and jobs that nothing here has planned. They stay, as evidence:
they only end. Nobody of the earlier system may run any more, or it would go on with what is closed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, text

from mavedb_audit.errors import RequestError
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.release import release_of
from mavedb_audit.states import TERMINAL_JOB_STATUSES, TERMINAL_PIPELINE_STATUSES
from mavedb_audit.trigger import request_pipeline

#: What is asked for in place of a pipeline once the job of that function has succeeded in it.
_REST_AFTER = {
    "map_variants_for_score_set": "annotate_score_set",
    "create_variants_for_score_set": "map_annotate_score_set",
}


@dataclass(frozen=True)
class TakenOver:
    """What was open and is closed, of a pipeline, or of a job outside of any (`name` is its own).

    `asked_again` is the URN of the pipeline of ours in its place; where there is none, `message`
    says why.
    """

    urn: str
    name: str
    score_set_urn: str | None
    open_jobs: int
    asked_again: str | None
    message: str | None


def take_over(connection: Connection, *, actor: str) -> list[TakenOver]:
    """Close every open row of the earlier system, oldest first, and ask for its pipelines again.

    All is done in the caller's transaction: rolled back, it tells what would be done. A second time
    it finds nothing.
    """
    given = {
        "terminal_job": list(TERMINAL_JOB_STATUSES),
        "terminal_pipeline": list(TERMINAL_PIPELINE_STATUSES),
        "message": f"Closed by {actor} when MaveDB's jobs moved to Prefect; it was still open.",
    }
    pipelines = connection.execute(text(_PIPELINES), given).all()
    jobs = connection.execute(text(_JOBS), given).all()
    connection.execute(text(_CLOSE_JOBS.format(touched=release_of(connection).touched)), given)
    connection.execute(text(_CLOSE_PIPELINES), given)
    return [
        *(_ask_again(connection, pipeline) for pipeline in pipelines),
        *(
            TakenOver(job.urn, job.job_function, None, 1, None, "a job outside of a pipeline")
            for job in jobs
        ),
    ]


def _ask_again(connection: Connection, old: Row[Any]) -> TakenOver:
    def taken(asked_again: str | None, message: str | None) -> TakenOver:
        return TakenOver(old.urn, old.name, old.score_set_urn, old.open_jobs, asked_again, message)

    if old.score_set_urn is None:
        return taken(None, "it is of no score set that is there")
    if old.has_newer:
        return taken(None, "a newer pipeline of its score set takes its place")
    try:
        with connection.begin_nested():
            planned = request_pipeline(
                connection,
                _rest_of(old.name, old.succeeded),
                _params(old.params),
                old.created_by_user_id,
                old.correlation_id or uuid4().hex,
            )
    except RequestError as error:
        return taken(None, str(error))
    return taken(planned.pipeline_urn, None)


def _rest_of(name: str, succeeded: list[str]) -> str:
    """The pipeline that does what is left of the pipeline `name`."""
    wanted = PIPELINES.get(name)
    planned = {step.function for step in wanted.steps} if wanted else set()
    for function, rest in _REST_AFTER.items():
        if function in planned and function in succeeded:
            return rest
    return name


def _params(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the jobs were given, all together, but the correlation id, which has its own place."""
    return {name: value for name, value in given.items() if name != "correlation_id"}


_PIPELINES = """
    WITH old AS (
        SELECT pipelines.*,
               (SELECT max((job_params ->> 'score_set_id')::integer) FROM job_runs
                 WHERE job_runs.pipeline_id = pipelines.id) AS score_set_id
          FROM pipelines
         WHERE status <> ALL (:terminal_pipeline)
           AND NOT EXISTS (SELECT FROM planned_jobs WHERE planned_jobs.pipeline_id = pipelines.id)
           FOR UPDATE OF pipelines
    )
    SELECT old.urn, old.name, old.created_by_user_id, old.correlation_id,
           score_set.urn AS score_set_urn,
           EXISTS (SELECT FROM old AS newer
                    WHERE newer.score_set_id = old.score_set_id AND newer.name = old.name
                      AND newer.id > old.id)
           OR EXISTS (SELECT FROM planned_jobs JOIN pipelines AS ours
                          ON ours.id = planned_jobs.pipeline_id
                       WHERE planned_jobs.score_set_id = old.score_set_id
                         AND ours.name = old.name AND ours.created_at > old.created_at)
           AS has_newer,
           job.*
      FROM old
      LEFT JOIN scoresets AS score_set ON score_set.id = old.score_set_id
     CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE status <> ALL (:terminal_job)) AS open_jobs,
               coalesce(array_agg(job_function) FILTER (WHERE status = 'succeeded'), '{}')
               AS succeeded,
               coalesce((SELECT jsonb_object_agg(param.key, param.value)
                           FROM job_runs AS given,
                                jsonb_each(CASE WHEN jsonb_typeof(given.job_params) = 'object'
                                                THEN given.job_params ELSE '{}' END) AS param
                          WHERE given.pipeline_id = old.id), '{}') AS params
          FROM job_runs WHERE job_runs.pipeline_id = old.id
     ) AS job
     ORDER BY old.created_at, old.id
"""

_JOBS = """
    SELECT urn, job_function FROM job_runs
     WHERE pipeline_id IS NULL AND status <> ALL (:terminal_job)
       AND NOT EXISTS (SELECT FROM planned_jobs WHERE planned_jobs.job_id = job_runs.id)
     ORDER BY created_at, id
       FOR UPDATE
"""

_CLOSE_JOBS = """
    UPDATE job_runs
       SET status = 'cancelled', finished_at = now(), failure_category = 'cancelled',
           error_message = coalesce(error_message || ' ', '') || :message{touched}
     WHERE status <> ALL (:terminal_job)
       AND NOT EXISTS (SELECT FROM planned_jobs WHERE planned_jobs.job_id = job_runs.id)
"""

_CLOSE_PIPELINES = """
    UPDATE pipelines SET status = 'cancelled', finished_at = now()
     WHERE status <> ALL (:terminal_pipeline)
       AND NOT EXISTS (SELECT FROM planned_jobs WHERE planned_jobs.pipeline_id = pipelines.id)
"""
