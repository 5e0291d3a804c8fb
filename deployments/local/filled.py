"""Tables as years of work leave them, for the benchmark and for the tests of plans.

A few statements insert them. Nothing here ran: each row only looks as if.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, text

from deployments.local.score_set import BRCA1_RING
from deployments.local.submission import insert_score_set
from mavedb_audit.account_counts import BLOCK_SIZE, MOST_LISTED
from mavedb_audit.pipelines import PIPELINES, START_PIPELINE, JobType
from mavedb_audit.reasons import Reason

#: What every pipeline here ran.
PLAN = PIPELINES["map_annotate_score_set"]
#: Each annotation of a variant: the job that writes it, its type and its version.
ANNOTATIONS = tuple(
    (step.key, annotation_type, step.version_of(step.params))
    for step in PLAN.steps
    for annotation_type in step.annotation_types
)
_BULKY = (
    "variants",
    "mapped_variants",
    "variant_annotation_status",
    "job_runs",
    "job_dependencies",
    "planned_jobs",
    "prefect_runs",
    "prefect_transitions",
)
#: One variant in so many has a status for this reason, in a place that repeats.
ONE_IN = {Reason.NOT_IN_SOURCE: 3, Reason.MALFORMED_RECORD: 97}
#: One variant in so many was annotated twice.
_ONE_ANNOTATED_TWICE_IN = 10
#: One pipeline in so many has failed, at its second step.
_ONE_FAILED_IN = 50
_SECOND_STEP = 2

_SCORE_SETS = """
    INSERT INTO scoresets (urn, title, short_description, abstract_text, method_text,
                           extra_metadata, dataset_columns, normalised, private, approved,
                           num_variants, processing_state, mapping_state, experiment_id, licence_id,
                           created_by_id, modified_by_id, creation_date, modification_date)
    SELECT urn || '-' || place, title || place, short_description, abstract_text, method_text,
           extra_metadata, dataset_columns, normalised, private, approved, size, 'success',
           'complete', experiment_id, licence_id, created_by_id, modified_by_id, creation_date,
           modification_date
      FROM scoresets
     CROSS JOIN unnest(CAST(:sizes AS integer[])) WITH ORDINALITY AS filled (size, place)
     WHERE scoresets.id = :first_id ORDER BY place
    RETURNING id
"""

_VARIANTS = """
    INSERT INTO variants (urn, data, scoreset_id, hgvs_nt, creation_date, modification_date)
    SELECT score_set.urn || '#' || number, '{}', score_set.id, 'c.' || number || 'A>G',
           current_date, current_date
      FROM scoresets AS score_set CROSS JOIN generate_series(1, score_set.num_variants) AS number
     WHERE score_set.id = ANY (:score_set_ids)
     ORDER BY score_set.id, number
"""

_MAPPED = """
    INSERT INTO mapped_variants (variant_id, current, clingen_allele_id)
    SELECT id, true, 'CA' || id FROM variants WHERE scoreset_id = ANY (:score_set_ids) ORDER BY id
"""

#: By the newest jobs of the score sets, where they had any; what was annotated twice, twice.
_STATUSES = """
    INSERT INTO variant_annotation_status
           (variant_id, annotation_type, version, status, failure_category, error_message, current,
            job_run_id, created_at, updated_at)
    SELECT variant.id, annotation.type, annotation.version, given.status, given.reason,
           given.reason || ' is why', is_current, job.id, coalesce(job.finished_at, now()),
           coalesce(job.finished_at, now())
      FROM unnest(CAST(:keys AS text[]), CAST(:types AS text[]), CAST(:versions AS text[]))
           WITH ORDINALITY AS annotation (key, type, version, place)
     CROSS JOIN (VALUES (false), (true)) AS time (is_current)
      JOIN variants AS variant
        ON variant.scoreset_id = ANY (:score_set_ids)
       AND (is_current OR variant.id % :one_annotated_twice_in = 0)
     CROSS JOIN LATERAL (
        SELECT CASE WHEN variant.id % :rare = 0 THEN 'failed'
                    WHEN variant.id % :common = 0 THEN 'skipped' ELSE 'success' END AS status,
               CASE WHEN variant.id % :rare = 0 THEN :rare_reason
                    WHEN variant.id % :common = 0 THEN :common_reason END AS reason) AS given
      LEFT JOIN (
        SELECT DISTINCT ON (score_set_id, job_key) score_set_id, job_key, job_runs.id, finished_at
          FROM planned_jobs JOIN job_runs ON job_runs.id = job_id
         ORDER BY score_set_id, job_key, job_runs.id DESC) AS job
        ON job.score_set_id = variant.scoreset_id AND job.job_key = annotation.key
     ORDER BY variant.scoreset_id, is_current, annotation.place, variant.id
"""

_COUNTS = f"""
    INSERT INTO account_counts
           (score_set_id, annotation_type, version, status, reason, id_block, variants, variant_ids,
            newest_at)
    SELECT variant.scoreset_id, annotation_type, version, status, failure_category,
           variant.id / {BLOCK_SIZE}, count(*),
           CASE WHEN count(*) <= {MOST_LISTED} THEN array_agg(variant.id ORDER BY variant.id) END,
           max(created_at)
      FROM variants AS variant JOIN variant_annotation_status AS status ON variant_id = variant.id
     WHERE variant.scoreset_id = ANY (:score_set_ids) AND current
     GROUP BY variant.scoreset_id, annotation_type, version, status, failure_category,
              variant.id / {BLOCK_SIZE}
"""

#: The newest began an hour ago, and each a while before the next.
_PIPELINES = """
    CREATE TEMPORARY TABLE filled_pipelines ON COMMIT DROP AS
    SELECT nextval(pg_get_serial_sequence('pipelines', 'id'))::integer AS id,
           uuidv7() AS flow_run_id, uuidv7() AS state_id,
           (CAST(:score_set_ids AS integer[]))[
               1 + number % cardinality(CAST(:score_set_ids AS integer[]))] AS score_set_id,
           now() - interval '1 hour' - (:pipelines - number) * :minutes * interval '1 minute'
             AS began,
           CASE WHEN :is_open THEN 'running'
                WHEN number % :one_failed_in = 0 THEN 'failed' ELSE 'succeeded' END AS status
      FROM generate_series(1, :pipelines) AS number
"""

_JOBS = """
    CREATE TEMPORARY TABLE filled_jobs ON COMMIT DROP AS
    SELECT nextval(pg_get_serial_sequence('job_runs', 'id'))::integer AS id,
           pipeline.id AS pipeline_id, pipeline.flow_run_id, pipeline.score_set_id, step.key,
           step.function, step.type, step.params, step.place, uuidv7() AS run_id,
           uuidv7() AS state_id,
           pipeline.began + step.place * interval '10 seconds' AS began,
           CASE WHEN step.place > :second_step AND pipeline.status <> 'succeeded'
                  THEN CASE pipeline.status WHEN 'failed' THEN 'skipped' ELSE 'pending' END
                WHEN step.place = :second_step THEN pipeline.status
                ELSE 'succeeded' END AS status
      FROM filled_pipelines AS pipeline
     CROSS JOIN unnest(CAST(:keys AS text[]), CAST(:functions AS text[]), CAST(:types AS text[]),
                       CAST(:params AS jsonb[]))
                WITH ORDINALITY AS step (key, function, type, params, place)
     ORDER BY pipeline.id, step.place
"""

#: A task took nine seconds.
_ENDED = "CASE WHEN status IN ('succeeded', 'failed') THEN began + interval '9 seconds' END"
_STATE = "CASE status WHEN 'succeeded' THEN 'COMPLETED' ELSE upper(status) END"

_OF_PIPELINES = (
    """
    INSERT INTO pipelines (id, urn, name, description, status, correlation_id, created_at,
                           started_at, finished_at)
    SELECT id, 'urn:mavedb:pipeline-' || flow_run_id, :name, :description, status,
           'filled-' || id, began, began,
           CASE WHEN status <> 'running' THEN began + interval '5 minutes' END
      FROM filled_pipelines
    """,
    f"""
    INSERT INTO job_runs (id, urn, job_type, job_function, job_params, status, pipeline_id,
                          priority, max_retries, retry_count, scheduled_at, created_at, started_at,
                          finished_at, correlation_id, error_message, failure_category)
    SELECT id, 'urn:mavedb:job-' || run_id, type, function,
           params || jsonb_build_object('score_set_id', score_set_id,
                                        'correlation_id', 'filled-' || pipeline_id),
           status, pipeline_id, 0, 3, 0, began, began,
           CASE WHEN status NOT IN ('pending', 'skipped') THEN began END,
           CASE WHEN status = 'skipped' THEN began ELSE {_ENDED} END, 'filled-' || pipeline_id,
           CASE WHEN status = 'failed' THEN 'ClinGen is down' END,
           CASE WHEN status = 'failed' THEN 'service_unavailable' END
      FROM filled_jobs
    """,
    """
    INSERT INTO planned_jobs (job_id, pipeline_id, job_key, score_set_id)
    SELECT id, pipeline_id, key, CASE WHEN place > 1 THEN score_set_id END FROM filled_jobs
    """,
    """
    INSERT INTO job_dependencies (id, depends_on_job_id, dependency_type)
    SELECT child.id, parent.id, 'success_required'
      FROM unnest(CAST(:children AS text[]), CAST(:parents AS text[])) AS edge (child, parent)
      JOIN filled_jobs AS child ON child.key = edge.child
      JOIN filled_jobs AS parent
        ON parent.pipeline_id = child.pipeline_id AND parent.key = edge.parent
    """,
    f"""
    INSERT INTO job_attempts (job_id, attempt, flow_run_id, task_run_id, run_count, host,
                              process_id, started_at, finished_at, outcome, error_message,
                              failure_category)
    SELECT id, 1, flow_run_id, run_id, 1, 'worker', 4711, began, {_ENDED},
           CASE WHEN status <> 'running' THEN status END,
           CASE WHEN status = 'failed' THEN 'ClinGen is down' END,
           CASE WHEN status = 'failed' THEN 'service_unavailable' END
      FROM filled_jobs WHERE place > 1 AND status IN ('succeeded', 'failed', 'running')
     ORDER BY began
    """,
    """
    INSERT INTO job_metrics (attempt_id, wall_seconds, cpu_seconds, peak_memory_bytes,
                             http_requests, cache_hits, cache_misses, variants)
    SELECT attempt.id, 9, 1, 150000000, '{"mavedb-clingen-allele-registry": {"2xx": 7}}', 5, 5, 100
      FROM job_attempts AS attempt JOIN filled_jobs AS job ON job.id = attempt.job_id
     WHERE outcome IS NOT NULL
    """,
    f"""
    INSERT INTO prefect_runs (run_id, kind, flow_run_id, name, pipeline_id, job_id, state_id,
                              state_type, state_name, state_timestamp, run_count, first_seen_at,
                              settled_at)
    SELECT run_id, kind, flow_run_id, name, pipeline_id, job_id, state_id, state,
           initcap(state), state_timestamp, 1, began,
           CASE WHEN state <> 'RUNNING' THEN state_timestamp + interval '1 minute' END
      FROM (
        SELECT flow_run_id AS run_id, 'flow' AS kind, NULL::uuid AS flow_run_id, :name AS name,
               id AS pipeline_id, NULL::integer AS job_id, state_id, {_STATE} AS state,
               CASE WHEN status = 'running' THEN began ELSE began + interval '5 minutes' END
                 AS state_timestamp, began
          FROM filled_pipelines
         UNION ALL
        SELECT run_id, 'task', flow_run_id, key, pipeline_id, id, state_id, {_STATE},
               coalesce({_ENDED}, began), began
          FROM filled_jobs WHERE place > 1 AND status IN ('succeeded', 'failed', 'running')
      ) AS run ORDER BY began
    """,
    """
    INSERT INTO prefect_transitions (state_id, run_id, type, name, timestamp, run_count, message,
                                     source, recorded_at)
    SELECT coalesce(entered.state_id, uuidv7()), run_id, upper(entered.name), entered.name,
           entered.at, 1, NULL, 'mirror', entered.at + interval '100 milliseconds'
      FROM (SELECT * FROM prefect_runs
             WHERE pipeline_id IN (SELECT id FROM filled_pipelines)) AS run
     CROSS JOIN LATERAL (
        VALUES (NULL::uuid, 'Scheduled', first_seen_at - interval '2 seconds', kind = 'flow'),
               (NULL, 'Pending', first_seen_at - interval '1 second', true),
               (NULL, 'Running', first_seen_at, state_type <> 'RUNNING'),
               (run.state_id, run.state_name, state_timestamp, true)
      ) AS entered (state_id, name, at, is_entered)
     WHERE is_entered
     ORDER BY entered.at
    """,
    """
    INSERT INTO pipeline_requests (pipeline_id, requested_at, dispatched_at, flow_run_id,
                                   dispatch_count, next_dispatch_at)
    SELECT id, began, began, flow_run_id, 1, began FROM filled_pipelines
    """,
    """
    INSERT INTO operator_actions (pipeline_id, action, actor, reason, created_at)
    SELECT id, 'recover', 'recovery', 'The process ended while it ran', began
      FROM filled_pipelines WHERE status = 'failed'
    """,
)


def insert_score_sets(connection: Connection, urn: str, sizes: Sequence[int]) -> list[int]:
    """Score sets of so many variants, and their variants. Returns their ids.

    The first is called URN-1 and its first variant URN-1#1.
    """
    first_id, _ = insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="BRCA1",
        sequence=BRCA1_RING,
        sequence_type="dna",
        user="filled",
    )
    ids = connection.execute(text(_SCORE_SETS), {"first_id": first_id, "sizes": list(sizes)})
    score_set_ids = list(ids.scalars())
    connection.execute(text(_VARIANTS), {"score_set_ids": score_set_ids})
    return score_set_ids


def insert_pipelines(
    connection: Connection,
    score_set_ids: Sequence[int],
    pipelines: int,
    *,
    minutes_between: float,
    is_open: bool = False,
) -> None:
    """So many pipelines of PLAN, one score set after the other, and all that Prefect told of them.

    They have ended, few of them without success. Those that are open are at their second job.
    """
    edges = [(step.key, parent) for step in PLAN.steps for parent in step.after]
    parameters = {
        "score_set_ids": list(score_set_ids),
        "pipelines": pipelines,
        "minutes": minutes_between,
        "is_open": is_open,
        "one_failed_in": _ONE_FAILED_IN,
        "second_step": _SECOND_STEP,
        "name": PLAN.name,
        "description": PLAN.description,
        "keys": [START_PIPELINE, *(step.key for step in PLAN.steps)],
        "functions": [START_PIPELINE, *(step.function for step in PLAN.steps)],
        "types": [JobType.PIPELINE_MANAGEMENT, *(step.job_type for step in PLAN.steps)],
        "params": ["{}", *(json.dumps(step.params) for step in PLAN.steps)],
        "children": [child for child, _ in edges],
        "parents": [parent for _, parent in edges],
    }
    for statement in (
        _PIPELINES,
        _JOBS,
        "ANALYZE filled_pipelines, filled_jobs",
        *_OF_PIPELINES,
        "DROP TABLE filled_pipelines, filled_jobs",
    ):
        connection.execute(text(statement), parameters)


def insert_statuses(connection: Connection, score_set_ids: Sequence[int]) -> None:
    """Every variant of the score sets mapped, with every annotation, and the counts of them."""
    connection.execute(text(_MAPPED), {"score_set_ids": list(score_set_ids)})
    keys, types, versions = zip(*ANNOTATIONS, strict=True)
    connection.execute(
        text(_STATUSES),
        {
            "score_set_ids": list(score_set_ids),
            "keys": list(keys),
            "types": list(types),
            "versions": list(versions),
            "one_annotated_twice_in": _ONE_ANNOTATED_TWICE_IN,
            "common": ONE_IN[Reason.NOT_IN_SOURCE],
            "common_reason": Reason.NOT_IN_SOURCE,
            "rare": ONE_IN[Reason.MALFORMED_RECORD],
            "rare_reason": Reason.MALFORMED_RECORD,
        },
    )
    connection.execute(text("ANALYZE variants, variant_annotation_status"))
    connection.execute(text(_COUNTS), {"score_set_ids": list(score_set_ids)})


@contextmanager
def in_bulk(connection: Connection) -> Iterator[None]:
    """Fill fast until the transaction ends: with room to sort, without a look at every foreign key,
    and meanwhile without indexes but those of keys. Nobody else can use the tables until then."""
    connection.execute(text("SET LOCAL work_mem = '256MB'"))
    connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    indexes = connection.execute(
        text(
            """
            SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
              FROM pg_index
             WHERE indrelid = ANY (CAST(:tables AS regclass[]))
               AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
             ORDER BY 1
            """
        ),
        {"tables": list(_BULKY)},
    ).all()
    for index in indexes:
        connection.execute(text(f"DROP INDEX {index.name}"))
    yield
    for index in indexes:
        connection.execute(text(index.definition))
