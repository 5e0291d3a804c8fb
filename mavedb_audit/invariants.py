"""What must hold between the audit's rows at any moment, each as one query for what breaks it.

Only what was planned by us counts: MaveDB's tables hold jobs of its earlier system, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from mavedb_audit.account_counts import BLOCK_SIZE
from mavedb_audit.pipelines import KEPT_PER_VERSION, PIPELINES, START_PIPELINE
from mavedb_audit.recorder.closing import DERIVED_STATUS
from mavedb_audit.release import release_of
from mavedb_audit.states import TERMINAL_JOB_STATUSES, TERMINAL_PIPELINE_STATUSES

_EXAMPLES = 20


@dataclass(frozen=True)
class Broken:
    """An invariant that does not hold: for so many rows, of which `examples` names some.

    An example is a URN or an id, and what was found there.
    """

    invariant: str
    rows: int
    examples: tuple[tuple[str, str], ...]


#: What the queries stand on: pipelines that are open or ended since `:since`, and what is theirs.
_ROWS = """
    WITH pipeline AS (
        SELECT * FROM pipelines
         WHERE (CAST(:since AS timestamptz) IS NULL OR finished_at IS NULL OR finished_at >= :since)
           AND EXISTS (SELECT FROM planned_jobs WHERE planned_jobs.pipeline_id = pipelines.id)
    ), job AS (
        SELECT job_runs.*, planned.job_key, planned.score_set_id
          FROM pipeline
          JOIN planned_jobs AS planned ON planned.pipeline_id = pipeline.id
          JOIN job_runs ON job_runs.id = planned.job_id
    ), attempt AS (
        SELECT job_attempts.*, job.urn FROM job_attempts JOIN job ON job.id = job_attempts.job_id
    ), run AS (
        SELECT * FROM prefect_runs
         WHERE CAST(:since AS timestamptz) IS NULL OR state_timestamp >= :since
    ), owed AS (
        SELECT DISTINCT job.score_set_id, owes.annotation_type, owes.kept_per_version
          FROM job
          JOIN unnest(CAST(:functions AS text[]), CAST(:annotation_types AS text[]),
                      CAST(:kept_per_version AS boolean[]))
               AS owes (function, annotation_type, kept_per_version)
            ON owes.function = job.job_function
         WHERE NOT EXISTS (
            SELECT FROM planned_jobs AS other JOIN pipelines ON pipelines.id = other.pipeline_id
             WHERE other.score_set_id = job.score_set_id
               AND pipelines.status <> ALL (:terminal_pipeline))
    ), accounted AS (
        SELECT DISTINCT scoresets.id AS score_set_id
          FROM job JOIN scoresets ON scoresets.id = job.score_set_id
    ), recorded AS (
        SELECT accounted.score_set_id, status.annotation_type, status.version, status.status,
               {reason} AS reason, variant.id / {block_size} AS id_block
          FROM accounted
          JOIN variants AS variant ON variant.scoreset_id = accounted.score_set_id
          JOIN variant_annotation_status AS status
            ON status.variant_id = variant.id AND status.current
    )
"""

#: Invariant -> a query of (subject, found) for what breaks it.
INVARIANTS: Mapping[str, str] = {
    "no job is open in a pipeline that has ended": """
        SELECT job.urn AS subject,
               format('%s %s in %s, which is %s', job_key, job.status, pipeline.urn,
                      pipeline.status) AS found
          FROM job JOIN pipeline ON pipeline.id = job.pipeline_id
         WHERE job.status <> ALL (:terminal_job) AND pipeline.status = ANY (:terminal_pipeline)
    """,
    "a job succeeded if an attempt of it did since it was scheduled": """
        SELECT job.urn, format('%s is %s, attempt %s succeeded', job_key, job.status, attempt)
          FROM job JOIN attempt ON attempt.job_id = job.id
         WHERE attempt.outcome = 'succeeded' AND attempt.finished_at >= job.scheduled_at
           AND job.status <> 'succeeded'
    """,
    "a job that succeeded has an attempt that did, or Prefect says so": """
        SELECT job.urn, format('%s succeeded', job_key) FROM job
         WHERE status = 'succeeded' AND job_function <> :start
           AND NOT EXISTS (SELECT FROM attempt
                            WHERE attempt.job_id = job.id AND attempt.outcome = 'succeeded')
           AND NOT EXISTS (SELECT FROM prefect_runs
                            WHERE prefect_runs.job_id = job.id AND state_type = 'COMPLETED')
    """,
    "a running job has an open attempt, or its newest task run is running": """
        SELECT job.urn, format('%s is running', job_key) FROM job
         WHERE status = 'running'
           AND NOT EXISTS (SELECT FROM attempt
                            WHERE attempt.job_id = job.id AND attempt.outcome IS NULL)
           AND coalesce((SELECT state_type FROM prefect_runs WHERE prefect_runs.job_id = job.id
                          ORDER BY state_timestamp DESC NULLS LAST LIMIT 1), '')
               NOT IN ('RUNNING', 'CANCELLING')
    """,
    "only a running job has an open attempt, and one at most": """
        SELECT job.urn, format('%s is %s, open attempts: %s', job_key, job.status, count(*))
          FROM job JOIN attempt ON attempt.job_id = job.id
         WHERE attempt.outcome IS NULL
         GROUP BY job.urn, job_key, job.status
        HAVING job.status <> 'running' OR count(*) > 1
    """,
    "a job's retry_count is the number of its attempts less one": """
        SELECT job.urn, format('%s: retry_count %s, attempts %s', job_key, retry_count,
                               count(attempt.id))
          FROM job LEFT JOIN attempt ON attempt.job_id = job.id
         GROUP BY job.urn, job_key, retry_count
        HAVING retry_count <> greatest(count(attempt.id) - 1, 0)
    """,
    "attempts are numbered from 1 without a gap": """
        SELECT urn, format('attempts %s', array_agg(attempt ORDER BY attempt)) FROM attempt
         GROUP BY urn HAVING min(attempt) <> 1 OR max(attempt) <> count(*)
    """,
    "no attempt begins before the one before it has ended": """
        SELECT urn, format('attempt %s began %s, the one before ended %s', attempt, started_at,
                           coalesce(ended::text, 'never'))
          FROM (SELECT urn, attempt, started_at,
                       lag(finished_at) OVER (PARTITION BY job_id ORDER BY attempt) AS ended
                  FROM attempt) AS successive
         WHERE attempt > 1 AND (ended IS NULL OR started_at < ended)
    """,
    "a job has a time of its end exactly if it has ended": """
        SELECT urn, format('%s is %s, finished_at %s', job_key, status,
                           coalesce(finished_at::text, 'missing'))
          FROM job WHERE (finished_at IS NOT NULL) <> (status = ANY (:terminal_job))
    """,
    "a pipeline has a time of its end exactly if it has ended": """
        SELECT urn, format('%s, finished_at %s', status, coalesce(finished_at::text, 'missing'))
          FROM pipeline WHERE (finished_at IS NOT NULL) <> (status = ANY (:terminal_pipeline))
    """,
    "a pipeline's status follows from its jobs": f"""
        SELECT pipeline.urn, format('%s, its jobs say %s', pipeline.status, derived.status)
          FROM pipeline
          JOIN (SELECT job.pipeline_id, {DERIVED_STATUS} AS status
                  FROM job WHERE job.job_function <> :start GROUP BY job.pipeline_id) AS derived
            ON derived.pipeline_id = pipeline.id
         WHERE pipeline.status NOT IN ('created', 'paused', 'cancelled')
           AND pipeline.status <> derived.status
    """,
    "a run's state is the newest of its transitions": """
        SELECT run.run_id::text, format('%s %s, newest is %s %s', run.state_name, run.state_id,
                                        coalesce(newest.name, 'missing'), newest.state_id)
          FROM run LEFT JOIN LATERAL (
            SELECT * FROM prefect_transitions AS transition WHERE transition.run_id = run.run_id
             ORDER BY timestamp DESC, transition.state_id DESC LIMIT 1) AS newest ON true
         WHERE (run.state_id, run.state_type, run.state_name, run.state_timestamp)
               IS DISTINCT FROM (newest.state_id, newest.type, newest.name, newest.timestamp)
    """,
    "a variant has one current status of each annotation type that its pipelines owe": """
        SELECT format('score set %s', score_set_id),
               format('%s: %s variants without, %s with several, such as %s', annotation_type,
                      count(*) FILTER (WHERE statuses = 0), count(*) FILTER (WHERE statuses > 0),
                      min(variant_urn))
          FROM (SELECT owed.score_set_id, owed.annotation_type,
                       coalesce(variant.urn, variant.id::text) AS variant_urn,
                       count(status.id) AS statuses
                  FROM owed
                  JOIN variants AS variant ON variant.scoreset_id = owed.score_set_id
                  LEFT JOIN variant_annotation_status AS status
                    ON status.variant_id = variant.id AND status.current
                   AND status.annotation_type = owed.annotation_type
                 GROUP BY owed.score_set_id, owed.annotation_type, owed.kept_per_version,
                          variant.id, variant.urn
                HAVING count(status.id) = 0
                    OR count(status.id) > CASE WHEN owed.kept_per_version
                         THEN count(DISTINCT coalesce(status.version, '')) ELSE 1 END) AS wrong
         GROUP BY score_set_id, annotation_type
    """,
    "as many statuses are counted as there are": """
        SELECT format('score set %s', score_set_id),
               format('%s: %s, counted %s',
                      concat_ws(' ', annotation_type, version, status, reason), sum(there),
                      sum(counted))
          FROM (SELECT score_set_id, annotation_type, version, status, reason, id_block,
                       sum(there) AS there, sum(counted) AS counted
                  FROM (SELECT *, 1 AS there, 0 AS counted FROM recorded
                         UNION ALL
                        SELECT score_set_id, annotation_type, version, status, reason, id_block,
                               0, variants
                          FROM accounted JOIN account_counts USING (score_set_id)) AS both_sides
                 GROUP BY score_set_id, annotation_type, version, status, reason, id_block
                HAVING sum(there) <> sum(counted)) AS wrong
         GROUP BY score_set_id, annotation_type, version, status, reason
    """,
}


def broken(connection: Connection, since: datetime | None) -> list[Broken]:
    """The invariants that do not hold. All see the same moment if the transaction is one.

    With `since`, of pipelines that are open or ended since, and of runs that went on since.
    """
    owed = [
        (step.function, annotation_type, annotation_type in KEPT_PER_VERSION)
        for step in {step.function: step for p in PIPELINES.values() for step in p.steps}.values()
        for annotation_type in step.annotation_types
    ]
    parameters = {
        "since": since,
        "start": START_PIPELINE,
        "terminal_job": sorted(TERMINAL_JOB_STATUSES),
        "terminal_pipeline": sorted(TERMINAL_PIPELINE_STATUSES),
        "functions": [function for function, _, _ in owed],
        "annotation_types": [str(annotation_type) for _, annotation_type, _ in owed],
        "kept_per_version": [kept for _, _, kept in owed],
    }
    found = []
    reason = release_of(connection).reason("status")
    rows_of = _ROWS.format(reason=reason, block_size=BLOCK_SIZE)
    for invariant, query in INVARIANTS.items():
        rows = connection.execute(
            text(
                f"{rows_of} SELECT subject, found, count(*) OVER () AS rows"
                f" FROM ({query}) AS broken (subject, found) ORDER BY 1, 2 LIMIT {_EXAMPLES}"
            ),
            parameters,
        ).all()
        if rows:
            examples = tuple((row.subject, row.found) for row in rows)
            found.append(Broken(invariant, rows[0].rows, examples))
    return found
