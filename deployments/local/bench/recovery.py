"""How soon a killed flow process's work goes on, beside Prefect's own notice of its death."""

import os
import signal
import time
from datetime import UTC, datetime

import httpx
from sqlalchemy import Engine, Row, text

from deployments.local.bench.figures import Figure, MeasurementError, Pair, each_below, figure_of
from deployments.local.bench.pipelines import request, upload_score_set
from deployments.local.stack import Stack
from deployments.local.submission import PIPELINE

_MOST_SECONDS = 10.0
_VARIANTS = 20
_SEED = 1
#: The mapper holds each pipeline for longer than it takes to kill them all.
_HELD_SECONDS = 600
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 120.0


def after_kills(stack: Stack, engine: Engine, kills: int) -> Figure:
    """The seconds from `kill -9` of a flow process in its mapping step until the step's attempt is
    closed and its flow is to be tried again, and until Prefect has the flow run as crashed.

    So many pipelines wait for the mapper. They are killed one after the other.
    """
    with httpx.Client(base_url=stack.mapper_url, trust_env=False) as mapper:
        held = {"kind": "slow", "seconds": _HELD_SECONDS, "times": kills}
        mapper.post("/simulator/faults", json=held).raise_for_status()
    score_sets = [upload_score_set(stack, engine, _SEED, _VARIANTS) for _ in range(kills)]
    pipeline_ids = [request(engine, PIPELINE, score_set) for score_set in score_sets]
    attempts = [_mapping_attempt(engine, pipeline_id) for pipeline_id in pipeline_ids]
    return figure_of(
        "recovery from kill -9 of a flow",
        "s",
        [_kill(engine, attempt) for attempt in attempts],
        each_below(_MOST_SECONDS, "s"),
    )


def _mapping_attempt(engine: Engine, pipeline_id: int) -> Row[tuple[int, int, int]]:
    """The ids of the pipeline, of its mapping step's attempt and of the attempt's process, once it
    has begun: it waits for the mapper, or for a slot there."""
    return _first_row(
        engine,
        """
        SELECT job.pipeline_id, attempt.id, attempt.process_id
          FROM job_runs AS job JOIN job_attempts AS attempt ON attempt.job_id = job.id
         WHERE job.pipeline_id = :id AND job.job_function = 'map_variants_for_score_set'
           AND attempt.outcome IS NULL
        """,
        pipeline_id,
    )


def _kill(engine: Engine, attempt: Row[tuple[int, int, int]]) -> Pair:
    pipeline_id, attempt_id, process_id = attempt
    killed_at, began = datetime.now(UTC), time.monotonic()
    os.kill(process_id, signal.SIGKILL)
    _first_row(
        engine, "SELECT FROM job_attempts WHERE id = :id AND outcome IS NOT NULL", attempt_id
    )
    closed = time.monotonic() - began
    crashed = _first_row(
        engine,
        """
        SELECT state.timestamp FROM prefect_transitions AS state JOIN prefect_runs USING (run_id)
         WHERE pipeline_id = :id AND kind = 'flow' AND state.type = 'CRASHED'
         ORDER BY state.timestamp
        """,
        pipeline_id,
    )
    return Pair(closed, (crashed.timestamp - killed_at).total_seconds())


def _first_row(engine: Engine, sql: str, id_: int) -> Row[tuple[int, int, int]]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while (row := connection.execute(text(sql), {"id": id_}).first()) is None:
            if time.monotonic() > deadline:
                raise MeasurementError(f"Nothing found within {_PATIENCE_SECONDS:g} s of: {sql}")
            time.sleep(_POLL_SECONDS)
    return row
