"""Pipelines of jobs that do nothing: their plans, and the process that runs their flows."""

import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, text

from deployments.local import processes
from deployments.local.processes import Part
from deployments.local.stack import PROJECT, Stack
from mavedb_audit.hooks import pipeline_urn_of

_FLOWS = "deployments.local.bench.noop_flows"


def plan_noops(connection: Connection, flow_run_ids: Sequence[UUID], jobs: int) -> None:
    """One pipeline of so many jobs for each flow run; `noop_key` gives the jobs' keys."""
    connection.execute(
        text(
            """
            WITH pipeline AS (
                INSERT INTO pipelines (urn, name, status)
                SELECT urn, 'benchmark', 'running' FROM unnest(CAST(:urns AS text[])) AS urn
                RETURNING id
            ), job AS (
                INSERT INTO job_runs (urn, job_type, job_function, job_params, status, pipeline_id,
                                      priority, max_retries, retry_count)
                SELECT 'urn:mavedb:job-' || gen_random_uuid(), 'data_management', 'noop', '{}',
                       'pending', pipeline.id, 0, 3, 0
                  FROM pipeline CROSS JOIN generate_series(1, :jobs)
                RETURNING id, pipeline_id
            )
            INSERT INTO planned_jobs (job_id, pipeline_id, job_key)
            SELECT id, pipeline_id,
                   'noop-' || row_number() OVER (PARTITION BY pipeline_id ORDER BY id)
              FROM job
            """
        ),
        {"urns": [pipeline_urn_of(id_, None) for id_ in flow_run_ids], "jobs": jobs},
    )


def noop_key(number: int) -> str:
    """The key of a pipeline's job, counted from 0."""
    return f"noop-{number + 1}"


def start_flows(stack: Stack, what: str, answers: Path, *numbers: int) -> Part:
    """Start noop_flows.py with the stack's settings, as a worker runs flows."""
    return processes.start(
        stack.state,
        f"bench-{what}",
        [sys.executable, "-m", _FLOWS, what, answers, *[str(number) for number in numbers]],
        {**stack.env, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR"},
        folder=PROJECT,
    )
