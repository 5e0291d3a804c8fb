"""Pipelines and their jobs: planned in the request, opened and settled by the flow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from mavedb_audit.database import AnyConnection
from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.pipelines import PIPELINES, START_PIPELINE, JobType, Pipeline, Step
from mavedb_audit.recorder.closing import derive_pipeline_status, lock_pipeline
from mavedb_audit.recorder.resetting import Selection, reset_jobs
from mavedb_audit.release import release_of
from mavedb_audit.scopes import limit_to_failed
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES, PipelineStatus
from mavedb_audit.texts import json_text


@dataclass(frozen=True)
class PlannedPipeline:
    """The rows that a plan was inserted as."""

    pipeline_id: int
    pipeline_urn: str


@dataclass(frozen=True)
class OpenedJob:
    """A job of an opened pipeline: what its task is called with, and what it waits for."""

    key: str
    function: str
    params: Mapping[str, Any]
    step: Step


def plan_pipeline(
    connection: AnyConnection,
    name: str,
    params: Mapping[str, Any],
    *,
    user_id: int | None,
    correlation_id: str | None,
    urn: str | None = None,
) -> PlannedPipeline:
    """Insert the pipeline `name`, one pending job a step, and their dependencies.

    With `only_failed_variants` in `params` it is limited to the variants that have failed in any
    annotation that it owes.
    Raises RequestError for an unknown pipeline, a parameter that its steps need and `params`
    lacks or that makes no sense, a score set that does not exist, or a limit that leaves nothing
    to do. With a `urn` that is there already, nothing is inserted and that pipeline is returned.
    """
    plan = PIPELINES.get(name)
    if plan is None:
        raise RequestError(f"There is no pipeline {name!r}; there are: {', '.join(PIPELINES)}")
    params = {"correlation_id": correlation_id, **params}
    jobs = [(step, job_params(plan, step, params)) for step in plan.steps]
    for step, given in jobs:
        step.version_of(given)  # which refuses a source that there cannot be
    score_set_id = params.get("score_set_id")
    if "score_set_id" in plan.params:
        _require_score_set(connection, score_set_id)

    urn = urn or f"urn:mavedb:pipeline-{uuid4()}"
    pipeline_id = connection.execute(
        text(
            """
            INSERT INTO pipelines (urn, name, description, status, correlation_id,
                                   created_by_user_id, mavedb_version)
            VALUES (:urn, :name, :description, 'created', :correlation_id, :user_id, :version)
            ON CONFLICT (urn) DO NOTHING RETURNING id
            """
        ),
        {
            "urn": urn,
            "name": plan.name,
            "description": plan.description,
            "correlation_id": correlation_id,
            "user_id": user_id,
            "version": version("mavedb-audit"),
        },
    ).scalar_one_or_none()
    if pipeline_id is None:
        return find_pipeline(connection, urn)

    priority = ", priority" if release_of(connection).has_priority else ""
    rows: list[tuple[str, str, JobType, dict[str, Any]]] = [
        (START_PIPELINE, START_PIPELINE, JobType.PIPELINE_MANAGEMENT, {}),
        *((step.key, step.function, step.job_type, given) for step, given in jobs),
    ]
    connection.execute(
        text(
            f"""
            WITH planned AS (
                SELECT * FROM unnest(
                    CAST(:urns AS text[]), CAST(:keys AS text[]), CAST(:functions AS text[]),
                    CAST(:types AS text[]), CAST(:params AS jsonb[])
                ) WITH ORDINALITY AS planned (urn, key, function, type, params, position)
            ), job AS (
                INSERT INTO job_runs (urn, job_type, job_function, job_params, status, pipeline_id,
                                      max_retries, retry_count, correlation_id, mavedb_version
                                      {priority})
                SELECT urn, type, function, params, 'pending', :pipeline_id, 3, 0,
                       :correlation_id, :version {", 0" if priority else ""}
                  FROM planned ORDER BY position
                RETURNING id, urn
            )
            INSERT INTO planned_jobs (job_id, pipeline_id, job_key, score_set_id)
            SELECT job.id, :pipeline_id, planned.key,
                   CASE WHEN planned.key <> :start THEN CAST(:score_set_id AS integer) END
              FROM job JOIN planned USING (urn)
            """
        ),
        {
            "urns": [f"urn:mavedb:job-{uuid4()}" for _ in rows],
            "keys": [key for key, *_ in rows],
            "functions": [function for _, function, *_ in rows],
            "types": [str(job_type) for *_, job_type, _ in rows],
            "params": [json.dumps(given) for *_, given in rows],
            "pipeline_id": pipeline_id,
            "score_set_id": score_set_id,
            "start": START_PIPELINE,
            "correlation_id": correlation_id,
            "version": version("mavedb-audit"),
        },
    )
    edges = [
        (step.key, parent, step.dependency_type) for step in plan.steps for parent in step.after
    ]
    connection.execute(
        text(
            """
            INSERT INTO job_dependencies (id, depends_on_job_id, dependency_type)
            SELECT child.job_id, parent.job_id, edge.type
              FROM unnest(CAST(:children AS text[]), CAST(:parents AS text[]),
                          CAST(:types AS text[])) AS edge (child, parent, type)
              JOIN planned_jobs AS child
                ON child.pipeline_id = :pipeline_id AND child.job_key = edge.child
              JOIN planned_jobs AS parent
                ON parent.pipeline_id = :pipeline_id AND parent.job_key = edge.parent
            """
        ),
        {
            "children": [child for child, _, _ in edges],
            "parents": [parent for _, parent, _ in edges],
            "types": [str(dependency_type) for *_, dependency_type in edges],
            "pipeline_id": pipeline_id,
        },
    )
    if params.get("only_failed_variants"):
        _limit_to_failed(connection, plan, pipeline_id, jobs, score_set_id)
    return PlannedPipeline(pipeline_id, urn)


def _limit_to_failed(
    connection: AnyConnection,
    plan: Pipeline,
    pipeline_id: int,
    jobs: Sequence[tuple[Step, Mapping[str, Any]]],
    score_set_id: Any,
) -> None:
    whole = [step.key for step, _ in jobs if not step.limitable]
    if whole:
        raise RequestError(
            f"{plan.name} cannot be limited to failed variants, because {', '.join(whole)} works on"
            " whole score sets: ask for annotate_score_set, or for the whole pipeline"
        )
    owed = [
        (annotation_type, step.version_of(given))
        for step, given in jobs
        for annotation_type in step.annotation_types
    ]
    if not limit_to_failed(
        connection, pipeline_id=pipeline_id, score_set_id=score_set_id, owed=owed
    ):
        types = ", ".join(annotation_type for annotation_type, _ in owed)
        raise RequestError(
            f"No variant of the score set {score_set_id} has failed in any of {types}: there is"
            " nothing to run again. Variants that failed to map need map_annotate_score_set"
        )


def job_params(plan: Pipeline, step: Step, params: Mapping[str, Any]) -> dict[str, Any]:
    """The job's inputs: the plan's fixed values, and the pipeline's own for the open ones."""
    missing = [key for key, fixed in step.params.items() if fixed is None and key not in params]
    if missing:
        raise RequestError(
            f"The pipeline {plan.name} needs the parameters {', '.join(missing)}"
            f" (for its step {step.key})"
        )
    return {key: params[key] if fixed is None else fixed for key, fixed in step.params.items()}


def _require_score_set(connection: AnyConnection, score_set_id: Any) -> None:
    if score_set_id is None:
        raise RequestError("score_set_id is missing: it names the score set to work on")
    if isinstance(score_set_id, int) and not isinstance(score_set_id, bool):
        found = connection.execute(
            text("SELECT true FROM scoresets WHERE id = :id"), {"id": score_set_id}
        ).scalar_one_or_none()
        if found:
            return
    raise RequestError(f"There is no score set with the id {score_set_id!r}")


def find_pipeline(connection: AnyConnection, urn: str) -> PlannedPipeline:
    """Raises NotFoundError where no pipeline has that URN."""
    pipeline_id = connection.execute(
        text("SELECT id FROM pipelines WHERE urn = :urn"), {"urn": urn}
    ).scalar_one_or_none()
    if pipeline_id is None:
        raise NotFoundError(f"There is no pipeline {urn}")
    return PlannedPipeline(pipeline_id, urn)


def open_pipeline(
    connection: Connection, name: str, pipeline: PlannedPipeline, flow_run_id: UUID
) -> list[OpenedJob]:
    """Set the pipeline running under this flow run. Returns its jobs in the plan's order.

    A pipeline that had ended is being retried: its jobs that did not succeed become pending again.
    A paused one stays paused, and no step of it may begin.
    Raises RequestError when it is not a pipeline of that name.
    """
    lock_pipeline(connection, pipeline.pipeline_id)
    planned_name, status = connection.execute(
        text("SELECT name, status FROM pipelines WHERE id = :id"), {"id": pipeline.pipeline_id}
    ).one()
    if planned_name != name:
        raise RequestError(
            f"{pipeline.pipeline_urn} is a pipeline {planned_name}, and this flow runs {name}"
        )
    plan = PIPELINES[name]
    connection.execute(
        text(
            """
            INSERT INTO prefect_runs (run_id, kind, name, pipeline_id)
            VALUES (:flow_run_id, 'flow', :name, :pipeline_id)
            ON CONFLICT (run_id) DO UPDATE SET pipeline_id = excluded.pipeline_id
            """
        ),
        {"flow_run_id": flow_run_id, "name": name, "pipeline_id": pipeline.pipeline_id},
    )
    if status in TERMINAL_PIPELINE_STATUSES:
        reset_jobs(connection, pipeline.pipeline_id, Selection.UNSUCCESSFUL)
    connection.execute(
        text(
            """
            UPDATE pipelines
               SET status = CASE WHEN status = 'paused' THEN status ELSE 'running' END,
                   finished_at = NULL, started_at = coalesce(started_at, now())
             WHERE id = :id
            """
        ),
        {"id": pipeline.pipeline_id},
    )
    connection.execute(
        text(
            f"""
            UPDATE job_runs SET status = 'succeeded', started_at = now(), finished_at = now(),
                                progress_current = 100, progress_total = 100
                                {release_of(connection).touched}
             WHERE pipeline_id = :id AND job_function = :start AND status <> 'succeeded'
            """
        ),
        {"id": pipeline.pipeline_id, "start": START_PIPELINE},
    )
    planned = connection.execute(
        text(
            """
            SELECT planned.job_key, job.job_params
              FROM planned_jobs AS planned JOIN job_runs AS job ON job.id = planned.job_id
             WHERE planned.pipeline_id = :id
            """
        ),
        {"id": pipeline.pipeline_id},
    )
    params_of = {row.job_key: row.job_params for row in planned}
    return [
        OpenedJob(step.key, step.function, params_of[step.key], step)
        for step in plan.steps
        if step.key in params_of
    ]


def set_job_params(
    connection: Connection, pipeline_id: int, job_key: str, params: Mapping[str, Any]
) -> None:
    """Hand `params` on to another job of the pipeline, if it has one of that key.

    For a step's last transaction, whose fence keeps an attempt that was lost from writing.
    """
    lock_pipeline(connection, pipeline_id)
    connection.execute(
        text(
            """
            UPDATE job_runs AS job SET job_params = job.job_params || CAST(:params AS jsonb)
              FROM planned_jobs AS planned
             WHERE planned.job_id = job.id AND planned.pipeline_id = :pipeline_id
               AND planned.job_key = :job_key
            """
        ),
        {"pipeline_id": pipeline_id, "job_key": job_key, "params": json_text(params)},
    )


def settle_pipeline(connection: Connection, pipeline_id: int) -> tuple[PipelineStatus, list[str]]:
    """The pipeline's status after its tasks, and one line for each job that did not succeed."""
    lock_pipeline(connection, pipeline_id)
    derive_pipeline_status(connection, pipeline_id)
    status = connection.execute(
        text("SELECT status FROM pipelines WHERE id = :id"), {"id": pipeline_id}
    ).scalar_one()
    unsuccessful = connection.execute(
        text(
            """
            SELECT planned.job_key, job.status, job.error_message
              FROM planned_jobs AS planned JOIN job_runs AS job ON job.id = planned.job_id
             WHERE planned.pipeline_id = :id AND job.status <> 'succeeded'
             ORDER BY job.id
            """
        ),
        {"id": pipeline_id},
    )
    return PipelineStatus(status), [
        f"{row.job_key} {row.status}: {row.error_message}" for row in unsuccessful
    ]
