"""Rows that MaveDB's earlier job system left open: closed, and asked for again."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from deployments.local.submission import insert_score_set
from mavedb_audit.invariants import broken
from mavedb_audit.trigger import request_pipeline
from tests.support_command import run_command

MAIN_JOB = "validate_map_annotate_score_set"
FILES = {
    "scores_file_key": "1/1/2026-11-24-1-scores.csv",
    "counts_file_key": None,
    "score_columns_metadata": {"score": {"description": "it's; $(rm) `x`"}},
    "count_columns_metadata": {},
}


def score_set(connection: Connection, urn: str) -> tuple[int, int]:
    return insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="ABC",
        sequence="ATGGCT",
        sequence_type="dna",
        user="curator",
    )


def old_pipeline(
    connection: Connection, name: str, status: str, jobs: dict[str, tuple[str, Any]], user: int
) -> str:
    """A pipeline of the earlier system: each job by its function, its status and parameters."""
    pipeline_id, urn = connection.execute(
        text(
            """
            INSERT INTO pipelines (urn, name, status, correlation_id, created_by_user_id,
                                   created_at)
            VALUES ('urn:mavedb:pipeline-' || gen_random_uuid(), :name, :status, 'abc', :user,
                    now() - interval '2 days')
            RETURNING id, urn
            """
        ),
        {"name": name, "status": status, "user": user},
    ).one()
    for function, (job_status, params) in jobs.items():
        old_job(connection, function, job_status, params, pipeline_id)
    return str(urn)


def old_job(
    connection: Connection, function: str, status: str, params: Any, pipeline_id: int | None = None
) -> None:
    connection.execute(
        text(
            """
            INSERT INTO job_runs (urn, job_type, job_function, job_params, status, pipeline_id,
                                  max_retries, retry_count, priority, error_message)
            VALUES ('urn:mavedb:job-' || gen_random_uuid(), 'cron_job', :function, :params,
                    :status, :pipeline_id, 3, 0, 0, 'lost')
            """
        ),
        {
            "function": function,
            "status": status,
            "params": json.dumps(params),
            "pipeline_id": pipeline_id,
        },
    )


def take_over(database: str, *arguments: str) -> list[dict[str, Any]]:
    done = run_command(
        "take-over", "--as", "ada", "--output", "json", *arguments, DATABASE_URL=database
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


Jobs = Callable[[int], dict[str, tuple[str, Any]]]


@pytest.mark.parametrize(
    ("name", "jobs", "in_its_place"),
    [
        (MAIN_JOB, ("running", "pending"), MAIN_JOB),
        (MAIN_JOB, ("succeeded", "running"), "map_annotate_score_set"),
        (MAIN_JOB, ("succeeded", "succeeded"), "annotate_score_set"),
        ("map_annotate_score_set", (None, "queued"), "map_annotate_score_set"),
    ],
)
def test_what_is_left_of_an_open_pipeline_is_asked_for_again(
    engine: Engine,
    domain_database: str,
    name: str,
    jobs: tuple[str | None, str],
    in_its_place: str,
) -> None:
    with engine.begin() as connection:
        score_set_id, user_id = score_set(connection, "tmp:1")
        scope = {"correlation_id": "abc", "score_set_id": score_set_id, "updater_id": user_id}
        created, mapped = jobs
        planned: dict[str, tuple[str, Any]] = {
            "start_pipeline": ("succeeded", {}),
            "map_variants_for_score_set": (mapped, scope),
            "link_gnomad_variants": ("pending", scope),
        }
        if created:
            planned["create_variants_for_score_set"] = (created, scope | FILES)
        old = old_pipeline(connection, name, "running", planned, user_id)

    (shown,) = take_over(domain_database)
    assert rows(engine, "SELECT status FROM pipelines") == [("running",)]
    (done,) = take_over(domain_database, "--yes")

    assert (done["urn"], done["score_set_urn"]) == (old, "tmp:1")
    assert done["open_jobs"] == shown["open_jobs"] > 0
    new = done["asked_again"]
    assert rows(
        engine, "SELECT urn, name, status, created_by_user_id FROM pipelines ORDER BY id"
    ) == [
        (old, name, "cancelled", user_id),
        (new, in_its_place, "created", user_id),
    ]
    ended = """
        SELECT DISTINCT job_runs.status, job_runs.finished_at IS NULL
          FROM job_runs JOIN pipelines ON pipelines.id = pipeline_id
         WHERE pipelines.status = 'cancelled'
    """
    assert set(rows(engine, ended)) <= {("succeeded", True), ("cancelled", False)}
    assert rows(engine, "SELECT count(*) FROM pipeline_requests") == [(1,)]
    if in_its_place == MAIN_JOB:
        (given,) = rows(
            engine,
            "SELECT job_params FROM job_runs JOIN planned_jobs ON job_id = id"
            " WHERE job_function = 'create_variants_for_score_set'",
        )
        assert given[0] == scope | FILES
    assert take_over(domain_database, "--yes") == []


def test_what_cannot_be_asked_for_again_is_closed_and_says_why(
    engine: Engine, domain_database: str
) -> None:
    with engine.begin() as connection:
        score_set_id, user_id = score_set(connection, "tmp:1")
        scope = {"score_set_id": score_set_id, "updater_id": user_id}
        for _ in range(2):
            old_pipeline(
                connection, "annotate_score_set", "created", {"a": ("queued", scope)}, user_id
            )
        old_pipeline(connection, "reticulate_splines", "paused", {"b": ("pending", scope)}, user_id)
        old_pipeline(connection, MAIN_JOB, "running", {"c": ("running", scope)}, user_id)
        old_pipeline(
            connection, MAIN_JOB, "running", {"d": ("running", {"score_set_id": 99})}, user_id
        )
        old_pipeline(connection, MAIN_JOB, "failed", {"e": ("failed", None)}, user_id)
        old_job(connection, "refresh_materialized_views", "running", None)
        ours = request_pipeline(connection, "annotate_score_set", scope, user_id, "x")

    done = take_over(domain_database, "--yes")

    assert [(each["name"], each["asked_again"], each["message"]) for each in done] == [
        ("annotate_score_set", None, "a newer pipeline of its score set takes its place"),
        ("annotate_score_set", None, "a newer pipeline of its score set takes its place"),
        ("reticulate_splines", None, done[2]["message"]),
        (MAIN_JOB, None, done[3]["message"]),
        (MAIN_JOB, None, "it is of no score set that is there"),
        ("refresh_materialized_views", None, "a job outside of a pipeline"),
    ]
    assert "There is no pipeline 'reticulate_splines'" in done[2]["message"]
    assert "needs the parameters scores_file_key" in done[3]["message"]
    open_rows = "SELECT urn FROM pipelines WHERE status IN ('created', 'running', 'paused')"
    assert rows(engine, open_rows) == [(ours.pipeline_urn,)]
    said = rows(
        engine,
        "SELECT DISTINCT status, error_message, failure_category FROM job_runs"
        " WHERE NOT EXISTS (SELECT FROM planned_jobs WHERE job_id = job_runs.id)",
    )
    closed = "lost Closed by ada when MaveDB's jobs moved to Prefect; it was still open."
    assert set(said) == {("cancelled", closed, "cancelled"), ("failed", "lost", None)}


def test_rows_of_the_earlier_system_break_no_invariant_and_can_be_read(
    engine: Engine, domain_database: str
) -> None:
    with engine.begin() as connection:
        score_set_id, user_id = score_set(connection, "urn:mavedb:00000001-a-1")
        old_pipeline(connection, MAIN_JOB, "running", {"x": ("running", {})}, user_id)
        connection.execute(
            text(
                """
                WITH variant AS (
                    INSERT INTO variants (urn, data, scoreset_id, creation_date,
                                          modification_date)
                    VALUES ('urn:mavedb:00000001-a-1#1', '{}', :id, CURRENT_DATE, CURRENT_DATE)
                    RETURNING id)
                INSERT INTO variant_annotation_status (variant_id, annotation_type, version,
                                                       status, failure_category, error_message)
                SELECT id, 'clinvar_control', '01_2026', 'skipped',
                       'missing_clingen_allele_id', 'None' FROM variant
                """
            ),
            {"id": score_set_id},
        )
    with engine.connect() as connection:
        assert broken(connection, since=None) == []
    for command in ("why", "history", "status"):
        urn = "urn:mavedb:00000001-a-1#1" if command == "why" else "urn:mavedb:00000001-a-1"
        if command == "history":
            urn = str(rows(engine, "SELECT urn FROM pipelines")[0][0])
        done = run_command(command, urn, DATABASE_URL=domain_database)
        assert done.returncode == 0, done.stderr
        assert done.stdout
