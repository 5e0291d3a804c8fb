"""What happened to a pipeline, for whoever looks into a broken promise."""

from collections.abc import Iterable, Sequence

from tests.chaos.driver import Struck
from tests.chaos.invariants import Violation
from tests.support import MaveDB

_MOST_PIPELINES = 5

_PIPELINES = """
    SELECT DISTINCT pipeline.id, pipeline.urn, pipeline.name
      FROM unnest(CAST(:subjects AS text[])) AS subject
      JOIN pipelines AS pipeline ON true
      JOIN planned_jobs AS planned ON planned.pipeline_id = pipeline.id
      JOIN job_runs AS job ON job.id = planned.job_id
      LEFT JOIN scoresets ON scoresets.id = planned.score_set_id
      LEFT JOIN prefect_runs AS run
        ON run.pipeline_id = pipeline.id OR run.job_id = job.id
     WHERE subject = pipeline.urn OR subject = run.run_id::text OR subject LIKE job.urn || '%'
        OR subject = 'score set ' || scoresets.id OR subject LIKE scoresets.urn || '%'
     ORDER BY pipeline.id
"""

_EVENTS = """
    WITH job AS (
        SELECT * FROM job_runs WHERE pipeline_id = :id
    ), attempt AS (
        SELECT job_attempts.*, job.job_function FROM job_attempts JOIN job ON job.id = job_id
    )
    SELECT at, event FROM (
        SELECT timestamp AS at, format('Prefect: %s is %s (%s, %s) %s', run.name, transition.name,
                                       source, transition.state_id, message) AS event
          FROM prefect_transitions AS transition JOIN prefect_runs AS run USING (run_id)
          LEFT JOIN job ON job.id = run.job_id
         WHERE run.pipeline_id = :id OR job.id IS NOT NULL
         UNION ALL
        SELECT started_at, format('attempt %s of %s begins in process %s, task run %s', attempt,
                                  job_function, process_id, task_run_id) FROM attempt
         UNION ALL
        SELECT finished_at, format('attempt %s of %s: %s %s', attempt, job_function, outcome,
                                   error_message)
          FROM attempt WHERE outcome IS NOT NULL
         UNION ALL
        SELECT finished_at, format('job %s (%s) is %s: %s', job_function, id, status, error_message)
          FROM job
         UNION ALL
        SELECT created_at, format('%s: %s, %s', actor, action, reason)
          FROM operator_actions WHERE pipeline_id = :id
         UNION ALL
        SELECT finished_at, 'the pipeline is ' || status FROM pipelines WHERE id = :id
    ) AS events ORDER BY at
"""


def of_concerned(
    mavedb: MaveDB, violations: Sequence[Violation], journal: Sequence[Struck]
) -> Iterable[str]:
    """Lines: the events of the first pipelines concerned, and what struck meanwhile."""
    struck = [(s.at, f"*** {s.name} {list(s.process_ids) or ''}") for s in journal]
    subjects = sorted({violation.subject for violation in violations})
    for pipeline in mavedb.rows(_PIPELINES, subjects=subjects)[:_MOST_PIPELINES]:
        yield f"--- {pipeline.urn}, {pipeline.name}"
        events = [(row.at, row.event) for row in mavedb.rows(_EVENTS, id=pipeline.id)]
        times = [at for at, _ in events if at is not None]
        meanwhile = [event for event in struck if min(times) <= event[0] <= max(times)]
        for at, event in sorted([*events, *meanwhile], key=lambda event: (event[0] is None, event)):
            yield f"  {at:%H:%M:%S.%f} {event}" if at else f"  not ended: {event}"
