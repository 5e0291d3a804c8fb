"""Record what Prefect's runs went through, each state once, from whatever source it comes."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from mavedb_audit.recorder.moves import Move, follow
from mavedb_audit.states import Run, RunKind, Transition
from mavedb_audit.texts import storable

#: Flows before tasks: a task run finds its job through its flow run's pipeline.
_UPSERT_RUNS = """
    INSERT INTO prefect_runs (run_id, kind, flow_run_id, name, pipeline_id, job_id)
    SELECT run.run_id, :kind, run.flow_run_id, run.name,
           coalesce(pipeline.id, request.pipeline_id, flow_run.pipeline_id), planned.job_id
      FROM unnest(CAST(:run_ids AS uuid[]), CAST(:flow_run_ids AS uuid[]), CAST(:names AS text[]),
                  CAST(:pipeline_urns AS text[]), CAST(:job_keys AS text[]))
           AS run (run_id, flow_run_id, name, pipeline_urn, job_key)
      LEFT JOIN pipelines AS pipeline ON pipeline.urn = run.pipeline_urn
      LEFT JOIN pipeline_requests AS request ON request.flow_run_id = run.run_id
      LEFT JOIN prefect_runs AS flow_run ON flow_run.run_id = run.flow_run_id
      LEFT JOIN planned_jobs AS planned
        ON planned.pipeline_id = flow_run.pipeline_id AND planned.job_key = run.job_key
     ORDER BY run.run_id
    ON CONFLICT (run_id) DO UPDATE
       SET name = excluded.name,
           pipeline_id = coalesce(prefect_runs.pipeline_id, excluded.pipeline_id),
           job_id = coalesce(prefect_runs.job_id, excluded.job_id)
     WHERE (prefect_runs.pipeline_id IS NULL AND excluded.pipeline_id IS NOT NULL)
        OR (prefect_runs.job_id IS NULL AND excluded.job_id IS NOT NULL)
    RETURNING run_id
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
        RETURNING state_id, run_id, type, name, timestamp, run_count, message
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
    RETURNING run.run_id, run.kind, run.pipeline_id, run.job_id, newest.type, newest.name,
              newest.timestamp, newest.message
"""

#: What runs are in that were recorded before it was known to whom they belong.
_NEWEST_STATES = """
    SELECT run.run_id, run.kind, run.pipeline_id, run.job_id, newest.type, newest.name,
           newest.timestamp, newest.message
      FROM prefect_runs AS run
      JOIN prefect_transitions AS newest ON newest.state_id = run.state_id
     WHERE run.run_id = ANY (:ids)
"""


def record(connection: Connection, transitions: Iterable[Transition]) -> None:
    """Record the transitions that are new, and move runs, jobs and pipelines along with them.

    Late and repeated deliveries change nothing: a state is keyed by its own id, and a run moves
    only forward in time.
    """
    follow(connection, record_runs(connection, transitions))


def record_runs(connection: Connection, transitions: Iterable[Transition]) -> list[Move]:
    """Record the transitions that are new, and move runs along with them.

    Returns what jobs and pipelines are to follow, where the caller does not know better.
    """
    batch = sorted(
        {transition.state_id: transition for transition in transitions}.values(),
        key=lambda transition: transition.run.run_id,
    )
    if not batch:
        return []
    runs = {transition.run.run_id: transition.run for transition in batch}
    bound = {
        run_id
        for kind in RunKind
        for run_id in bind_runs(
            connection, kind, [run for run in runs.values() if run.kind is kind]
        )
    }
    moved = connection.execute(
        text(_INSERT_TRANSITIONS),
        {
            "state_ids": [transition.state_id for transition in batch],
            "run_ids": [transition.run.run_id for transition in batch],
            "types": [transition.type for transition in batch],
            "names": [storable(transition.name)[:255] for transition in batch],
            "timestamps": [transition.timestamp for transition in batch],
            "run_counts": [transition.run_count for transition in batch],
            "messages": [
                storable(transition.message) if transition.message else None for transition in batch
            ],
            "sources": [str(transition.source) for transition in batch],
        },
    ).all()
    late = bound - {row.run_id for row in moved}
    if late:
        moved = [*moved, *connection.execute(text(_NEWEST_STATES), {"ids": list(late)})]
    categories = {t.run.run_id: t.category for t in batch if t.category is not None}
    moves = [
        Move(
            run_id=row.run_id,
            is_flow=row.kind == RunKind.FLOW,
            pipeline_id=row.pipeline_id,
            job_id=row.job_id,
            type=row.type,
            name=row.name,
            timestamp=row.timestamp,
            message=row.message or f"Prefect's state: {row.name}",
            category=categories.get(row.run_id),
        )
        for row in moved
        if row.pipeline_id is not None
    ]
    # Tasks before their flow: a task knows its end, of which its flow's end lets only infer.
    return sorted(moves, key=lambda move: (move.pipeline_id, move.is_flow, move.job_id or 0))


def bind_runs(connection: Connection, kind: RunKind, runs: Sequence[Run]) -> Sequence[UUID]:
    """Make the runs known, each bound to its pipeline or job as far as that is known now.

    Returns those that were not known before, or not bound.
    """
    if not runs:
        return []
    made_known = connection.execute(
        text(_UPSERT_RUNS),
        {
            "kind": str(kind),
            "run_ids": [run.run_id for run in runs],
            "flow_run_ids": [run.flow_run_id for run in runs],
            "names": [storable(run.name)[:500] for run in runs],
            "pipeline_urns": [run.pipeline_urn for run in runs],
            "job_keys": [run.job_key for run in runs],
        },
    )
    return made_known.scalars().all()


def bind_flow_run(connection: Connection, run: Run) -> int | None:
    """The pipeline of a flow run, which is made known with it."""
    bind_runs(connection, RunKind.FLOW, [run])
    pipeline_id: int | None = connection.execute(
        text("SELECT pipeline_id FROM prefect_runs WHERE run_id = :id"), {"id": run.run_id}
    ).scalar_one()
    return pipeline_id
