"""Measures what the main pipeline costs, on a local deployment with nothing else at work."""

import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import Engine, create_engine, text

from deployments.local import processes, stack
from deployments.local.bench import many as many_score_sets
from deployments.local.bench.figures import MeasurementError
from deployments.local.bench.pipelines import request, upload_score_set, wait_for_success
from deployments.local.stack import Stack
from deployments.local.submission import PIPELINE
from deployments.simulation.costs import Measured, Pair, Parts, Run
from deployments.simulation.report import is_run
from mavedb_audit.pipelines import PIPELINES, REFRESH_PUBLISHED

_FEW = 40
_MANY = 12_000
#: Beside each other, as the benchmark has many more of them.
_AT_ONCE = 10
_VARIANTS_AT_ONCE = 2_000
#: Prefect's server and its database are at work for so long after a deployment's first pipeline.
_SETTLING_SECONDS = 30.0
_IDLE_SECONDS = 60.0
#: Prefect's server records what a flow told it when the flow has ended.
_AFTERWARDS_SECONDS = 3.0
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05

#: The processes of a local deployment whose work counts as that of each part.
_PROCESSES = {
    "worker": ("worker",),
    "database": ("postgres",),
    "prefect": ("prefect", "audit"),
    "services": ("simulators", "valkey"),
}

_OF_PIPELINE = text(
    """
    SELECT min(attempt.started_at) - min(pipeline.created_at) AS started,
           max(attempt.finished_at) - min(attempt.started_at) AS took,
           coalesce(sum((SELECT sum(CAST(outcome.value AS integer))
                           FROM jsonb_each(http_requests) AS service
                          CROSS JOIN jsonb_each_text(service.value) AS outcome)), 0) AS requests
      FROM pipelines AS pipeline JOIN job_runs AS job ON job.pipeline_id = pipeline.id
      JOIN job_attempts AS attempt ON attempt.job_id = job.id
      JOIN job_metrics ON job_metrics.attempt_id = attempt.id
     WHERE pipeline.id = :pipeline_id
    """
)


def measure(state: Path, runs: Mapping[str, float]) -> Measured:
    """Start a deployment in the folder `state`, run each step alone on few variants and on many,
    and the main pipeline, alone and ten at once. Takes a quarter of an hour. `runs` are kept beside
    what is measured."""
    with stack.running(state) as running, _engine(running.database_url) as engine:
        return _measure(running, engine, runs)


@contextmanager
def _engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    yield engine
    engine.dispose()


def _measure(running: Stack, engine: Engine, runs: Mapping[str, float]) -> Measured:
    _pause_schedules(running)
    # The first pipeline finds no release of ClinVar, and is not counted.
    first = upload_score_set(running, engine, 0, _FEW)
    wait_for_success(running, engine, PIPELINE, request(engine, PIPELINE, first))
    idle = _idle(running)

    def ran(name: str, score_set: Mapping[str, Any]) -> tuple[Run, timedelta]:
        return _ran(running, engine, name, score_set)

    empty, start = ran(REFRESH_PUBLISHED.function, first)
    functions = dict.fromkeys(step.function for step in PIPELINES[PIPELINE].steps)
    alone = [upload_score_set(running, engine, seed, n) for seed, n in ((1, _FEW), (2, _MANY))]
    steps = {
        function: Pair(few=ran(function, alone[0])[0], many=ran(function, alone[1])[0])
        for function in functions
    }
    few, many = (
        ran(PIPELINE, upload_score_set(running, engine, seed, n))
        for seed, n in ((3, _FEW), (4, _MANY))
    )
    at_once = many_score_sets.at_once(running, engine, _AT_ONCE, _VARIANTS_AT_ONCE)
    measured_now = {figure.figure: figure.ours for figure in at_once if is_run(figure.figure)}
    measured_now[f"one score set of {_MANY:,} variants alone"] = (
        many[0].seconds + many[1].total_seconds()
    )
    return Measured(
        cores=os.cpu_count() or 1,
        few=_FEW,
        many=_MANY,
        start_seconds=statistics.median(
            after.total_seconds() for after in (start, few[1], many[1])
        ),
        idle=idle,
        empty=empty,
        whole=Pair(few=few[0], many=many[0]),
        steps=steps,
        runs={**runs, **measured_now},
    )


def _pause_schedules(running: Stack) -> None:
    """Upkeep, which starts a process every five minutes, would be taken for the work of whichever
    pipeline it ran beside."""
    with httpx.Client(base_url=f"{running.prefect_api_url}/", trust_env=False) as api:
        for deployment in api.post("deployments/filter", json={}).raise_for_status().json():
            if deployment["schedules"]:
                path = f"deployments/{deployment['id']}/pause_deployment"
                api.post(path).raise_for_status()


def _ran(
    running: Stack,
    engine: Engine,
    name: str,
    score_set: Mapping[str, Any],
) -> tuple[Run, timedelta]:
    """What the pipeline took from its request until its process has ended; and the time until its
    first step began."""
    before, began = _cpu_seconds(running), time.monotonic()
    flows = _flows(running)
    pipeline_id = request(engine, name, score_set)
    wait_for_success(running, engine, name, pipeline_id)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _flows(running) > flows:
        if time.monotonic() > deadline:
            raise MeasurementError(f"The process of {name} did not end")
        time.sleep(_POLL_SECONDS)
    time.sleep(_AFTERWARDS_SECONDS)
    after, seconds = _cpu_seconds(running), time.monotonic() - began
    with engine.connect() as connection:
        row = connection.execute(_OF_PIPELINE, {"pipeline_id": pipeline_id}).one()
    cpu = {part: round(after[part] - before[part], 3) for part in _PROCESSES}
    run = Run(
        seconds=round(row.took.total_seconds(), 3),
        requests=row.requests,
        watched_seconds=round(seconds, 3),
        cpu=Parts(**cpu),
    )
    return run, row.started


def _idle(running: Stack) -> Parts:
    """The share of a core that each part takes while nothing runs."""
    time.sleep(_SETTLING_SECONDS)
    before = _cpu_seconds(running)
    time.sleep(_IDLE_SECONDS)
    after = _cpu_seconds(running)
    return Parts(
        **{part: round((after[part] - before[part]) / _IDLE_SECONDS, 4) for part in _PROCESSES}
    )


def _cpu_seconds(running: Stack) -> dict[str, float]:
    """Of each part's processes, with those that they have started and that may have ended since."""
    return {
        part: sum(_cpu_of(process) for name in names for process in _tree(running, name))
        for part, names in _PROCESSES.items()
    }


def _cpu_of(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:  # it has just ended: whoever started it tells of it now
        return 0.0


def _flows(running: Stack) -> int:
    """How many processes the worker has."""
    return len(_tree(running, "worker"))


def _tree(running: Stack, name: str) -> list[psutil.Process]:
    pid = processes.pid_of(running.state, name)
    if pid is None:
        raise MeasurementError(f"{name} has ended")
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
