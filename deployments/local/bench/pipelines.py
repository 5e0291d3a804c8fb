"""Pipelines of score sets of a generated size, asked for as MaveDB does."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, text

from deployments.local import processes
from deployments.local.bench.figures import MeasurementError
from deployments.local.score_set import generate, synthetic_target
from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set, upload
from mavedb_audit.clinvar import ANNOTATED_RELEASES
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES, PipelineStatus
from mavedb_audit.trigger import request_pipeline

_VARIANTS_A_CODON = 40
_POLL_SECONDS = 0.05


def upload_score_set(stack: Stack, engine: Engine, seed: int, variants: int) -> Mapping[str, Any]:
    """A score set with its file. Returns all parameters that any of its pipelines takes."""
    target = synthetic_target(seed, 1 + variants // _VARIANTS_A_CODON)
    scores, _ = generate(seed, variants, target)
    urn = f"tmp:{uuid4()}"
    with engine.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn=urn,
            title=urn,
            target_name="bench",
            sequence=target,
            sequence_type="dna",
            user="bench",
        )
    store = stack.env["UPLOAD_STORE_URL"]
    scores_key, counts_key = upload(store, score_set_id, user_id, scores.encode(), None)
    year, month = ANNOTATED_RELEASES[-1]
    return {
        "score_set_id": score_set_id,
        "updater_id": user_id,
        "scores_file_key": scores_key,
        "counts_file_key": counts_key,
        "score_columns_metadata": {},
        "count_columns_metadata": {},
        "year": year,
        "month": month,
    }


def request(engine: Engine, name: str, score_set: Mapping[str, Any]) -> int:
    """Ask for the pipeline. Returns its id, once that is committed."""
    with engine.begin() as connection:
        return request_pipeline(connection, name, score_set, None, None).pipeline_id


def run_pipelines(
    stack: Stack, engine: Engine, names: Sequence[str], score_set: Mapping[str, Any]
) -> dict[str, int]:
    """Ask for the pipelines, all at once, and wait until each has succeeded. Returns their ids."""
    ids = {name: request(engine, name, score_set) for name in names}
    for name, pipeline_id in ids.items():
        wait_for_success(stack, engine, name, pipeline_id)
    return ids


def wait_for_success(
    stack: Stack, engine: Engine, name: str, pipeline_id: int, within_seconds: float = 900.0
) -> None:
    """Wait for the pipeline's end. Raises MeasurementError if that is not its success."""
    query = text("SELECT status FROM pipelines WHERE id = :id")
    deadline = time.monotonic() + within_seconds
    while True:
        with engine.connect() as connection:
            status: str = connection.execute(query, {"id": pipeline_id}).scalar_one()
        if status == PipelineStatus.SUCCEEDED:
            return
        if status in TERMINAL_PIPELINE_STATUSES:
            raise MeasurementError(f"{name} ended {status}, as the pipeline {pipeline_id}")
        processes.check_all_alive(stack.state)
        if time.monotonic() > deadline:
            raise MeasurementError(f"{name} did not end within {within_seconds:g} seconds")
        time.sleep(_POLL_SECONDS)
