"""Each invariant of the audit's rows notices what breaks it, in a transaction that is undone."""

from collections.abc import Mapping

import pytest
from sqlalchemy import text

from mavedb_audit.invariants import INVARIANTS, broken
from tests.support import MaveDB, Submitted, brca1

COUNTED = "as many statuses are counted as there are"

#: What somebody does by hand to a pipeline that had succeeded -> the invariants that it breaks.
DAMAGES: Mapping[str, tuple[str, set[str]]] = {
    "a job failed": (
        "UPDATE job_runs SET status = 'failed'"
        " WHERE pipeline_id = :id AND job_function = 'map_variants_for_score_set'",
        {
            "a job succeeded if an attempt of it did since it was scheduled",
            "a pipeline's status follows from its jobs",
        },
    ),
    "a job runs": (
        "UPDATE job_runs SET status = 'running', finished_at = NULL"
        " WHERE pipeline_id = :id AND job_function = 'map_variants_for_score_set'",
        {
            "no job is open in a pipeline that has ended",
            "a job succeeded if an attempt of it did since it was scheduled",
            "a running job has an open attempt, or its newest task run is running",
            "a pipeline's status follows from its jobs",
        },
    ),
    "a job has no end": (
        "UPDATE job_runs SET finished_at = NULL"
        " WHERE pipeline_id = :id AND job_function = 'map_variants_for_score_set'",
        {"a job has a time of its end exactly if it has ended"},
    ),
    "retries": (
        "UPDATE job_runs SET retry_count = 5"
        " WHERE pipeline_id = :id AND job_function = 'link_gnomad_variants'",
        {"a job's retry_count is the number of its attempts less one"},
    ),
    "an attempt is open": (
        "UPDATE job_attempts SET outcome = NULL, finished_at = NULL"
        " FROM job_runs WHERE job_runs.id = job_id AND pipeline_id = :id AND attempt = 2",
        {"only a running job has an open attempt, and one at most"},
    ),
    "an attempt is early": (
        "UPDATE job_attempts SET started_at = job_attempts.started_at - interval '1 hour'"
        " FROM job_runs WHERE job_runs.id = job_id AND pipeline_id = :id AND attempt = 2",
        {"no attempt begins before the one before it has ended"},
    ),
    "an attempt is lost": (
        "DELETE FROM job_attempts USING job_runs"
        " WHERE job_runs.id = job_id AND pipeline_id = :id AND attempt = 1"
        " AND job_function = 'map_variants_for_score_set'",
        {
            "attempts are numbered from 1 without a gap",
            "a job's retry_count is the number of its attempts less one",
            "no attempt begins before the one before it has ended",
        },
    ),
    "nobody saw the success": (
        "WITH gone AS (DELETE FROM job_attempts USING job_runs"
        " WHERE job_runs.id = job_id AND pipeline_id = :id"
        " AND job_function = 'link_gnomad_variants' RETURNING job_id)"
        " UPDATE prefect_runs SET job_id = NULL FROM gone WHERE prefect_runs.job_id = gone.job_id",
        {"a job that succeeded has an attempt that did, or Prefect says so"},
    ),
    "the pipeline is partial": (
        "UPDATE pipelines SET status = 'partial' WHERE id = :id",
        {"a pipeline's status follows from its jobs"},
    ),
    "the pipeline has no end": (
        "UPDATE pipelines SET finished_at = NULL WHERE id = :id",
        {"a pipeline has a time of its end exactly if it has ended"},
    ),
    "a run stands still": (
        "UPDATE prefect_runs SET state_name = 'Pending' WHERE pipeline_id = :id AND kind = 'flow'",
        {"a run's state is the newest of its transitions"},
    ),
    "a variant without a status": (
        "UPDATE variant_annotation_status SET current = false WHERE id ="
        " (SELECT max(status.id) FROM variant_annotation_status AS status"
        " JOIN job_runs ON job_runs.id = job_run_id WHERE pipeline_id = :id"
        " AND job_function = 'link_gnomad_variants')",
        {
            "a variant has one current status of each annotation type that its pipelines owe",
            COUNTED,
        },
    ),
    "a variant with two statuses of a version": (
        "INSERT INTO variant_annotation_status"
        " (variant_id, annotation_type, version, status, current)"
        " SELECT variant_id, annotation_type, version, 'skipped', true"
        " FROM variant_annotation_status JOIN job_runs ON job_runs.id = job_run_id"
        " WHERE pipeline_id = :id AND job_function = 'link_gnomad_variants' LIMIT 1",
        {
            "a variant has one current status of each annotation type that its pipelines owe",
            COUNTED,
        },
    ),
    "a variant with a status of another version": (
        "INSERT INTO variant_annotation_status"
        " (variant_id, annotation_type, version, status, current)"
        " SELECT variant_id, annotation_type, 'v2.1', 'skipped', true"
        " FROM variant_annotation_status JOIN job_runs ON job_runs.id = job_run_id"
        " WHERE pipeline_id = :id AND job_function = 'link_gnomad_variants' LIMIT 1",
        {COUNTED},
    ),
    "a count is too high": (
        "UPDATE account_counts SET variants = variants + 1, variant_ids = NULL"
        " FROM planned_jobs WHERE planned_jobs.score_set_id = account_counts.score_set_id"
        " AND pipeline_id = :id AND annotation_type = 'gnomad_allele_frequency'",
        {COUNTED},
    ),
    "a count is in another block": (
        "UPDATE account_counts SET id_block = id_block + 1000"
        " FROM planned_jobs WHERE planned_jobs.score_set_id = account_counts.score_set_id"
        " AND pipeline_id = :id AND annotation_type = 'gnomad_allele_frequency'",
        {COUNTED},
    ),
    "a count is lost": (
        "DELETE FROM account_counts USING planned_jobs"
        " WHERE planned_jobs.score_set_id = account_counts.score_set_id"
        " AND pipeline_id = :id AND annotation_type = 'gnomad_allele_frequency'",
        {COUNTED},
    ),
}


@pytest.fixture(scope="module")
def retried(mavedb: MaveDB) -> Submitted:
    """A pipeline that succeeded, its mapping at the second attempt."""
    with mavedb.fault(mavedb.stack.mapper_url, "status", status=500, times=1):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def test_each_invariant_has_its_damage() -> None:
    assert set(INVARIANTS) == set().union(*(breaks for _, breaks in DAMAGES.values()))


@pytest.mark.parametrize(("damage", "invariants"), DAMAGES.values(), ids=DAMAGES)
def test_a_row_that_does_not_follow_is_noticed(
    mavedb: MaveDB, retried: Submitted, damage: str, invariants: set[str]
) -> None:
    with mavedb.engine.connect() as connection:
        since = connection.execute(
            text("SELECT created_at FROM pipelines WHERE id = :id"), {"id": retried.pipeline_id}
        ).scalar_one()
        assert broken(connection, since) == []
        assert connection.execute(text(damage), {"id": retried.pipeline_id}).rowcount > 0
        found = broken(connection, since)
    assert {each.invariant for each in found} == invariants
