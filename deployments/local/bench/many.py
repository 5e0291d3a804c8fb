"""Many score sets at once, beside the time of each alone."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from sqlalchemy import Engine, text

from deployments.local.bench.figures import Figure, Pair, figure_of, ratio_at_most
from deployments.local.bench.pipelines import (
    request,
    run_pipelines,
    upload_score_set,
    wait_for_success,
)
from deployments.local.stack import WORK_POOL, Stack, start_worker
from deployments.local.submission import PIPELINE

_MOST = 1.3
_OBSTACLE = (
    "beside each other they leave no core idle, so the time is that of their CPU, which one alone"
    " does not fill: it takes as long as its steps wait for each other"
)
#: The first of them finds no release of ClinVar, and is not counted.
_ALONE = 4
FLOWS_A_WORKER = 2
_FIRST_SEED = 1000
_PATIENCE_SECONDS = 3600.0

_TOOK = text(
    """
    SELECT extract(epoch FROM finished_at - started_at) FROM pipelines WHERE id = ANY (:ids)
    """
)


def at_once(stack: Stack, engine: Engine, score_sets: int, variants: int) -> list[Figure]:
    """So many uploads at once, with one worker and with two, of two flows each at a time.

    Beside it the sum of what each takes alone, divided by the cores: alone each has all of them to
    itself. Its alleles are in no cache.
    """
    seeds = iter(range(_FIRST_SEED, _FIRST_SEED + _ALONE + 2 * score_sets))
    uploads = [upload_score_set(stack, engine, seed, variants) for seed in seeds]
    run_pipelines(stack, engine, [PIPELINE], uploads.pop())
    alone = statistics.median(
        _run_all(stack, engine, [uploads.pop()])[0] for _ in range(_ALONE - 1)
    )
    in_a_row = score_sets * alone / (os.cpu_count() or 1)
    _set_limit(stack, FLOWS_A_WORKER)
    one, _ = _run_all(stack, engine, uploads[:score_sets])
    start_worker(stack, "bench-worker", "bench")
    _set_limit(stack, 2 * FLOWS_A_WORKER)
    two, slowest = _run_all(stack, engine, uploads[score_sets:])
    _set_limit(stack, None)
    named = f"{score_sets} score sets of {variants:,} variants at once"
    return [
        figure_of(f"one score set of {variants:,} variants alone", "s", [Pair(alone, alone)], None),
        figure_of(f"{named}, 1 worker", "s", [Pair(one, in_a_row)], None),
        figure_of(
            f"{named}, 2 workers", "s", [Pair(two, in_a_row)], ratio_at_most(_MOST, _OBSTACLE)
        ),
        figure_of("slowest of them, from its start", "s", [Pair(slowest, alone)], None),
    ]


def _run_all(
    stack: Stack, engine: Engine, score_sets: Sequence[Mapping[str, Any]]
) -> tuple[float, float]:
    """The seconds from the first request until all have succeeded, and of the slowest from its
    flow's start."""
    began = time.monotonic()
    ids = [request(engine, PIPELINE, score_set) for score_set in score_sets]
    for pipeline_id in ids:
        wait_for_success(stack, engine, PIPELINE, pipeline_id, within_seconds=_PATIENCE_SECONDS)
    seconds = time.monotonic() - began
    with engine.connect() as connection:
        took = connection.execute(_TOOK, {"ids": ids}).scalars().all()
    return seconds, max(float(each) for each in took)


def _set_limit(stack: Stack, flows: int | None) -> None:
    httpx.patch(
        f"{stack.prefect_api_url}/work_pools/{WORK_POOL}",
        json={"concurrency_limit": flows},
        trust_env=False,
    ).raise_for_status()
