"""The main job through its real doors: a request in the database, a Prefect worker, SQL."""

import json
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Row

from mavedb_audit.pipelines import PIPELINES
from tests.support import MaveDB, Submitted, brca1, wait_until

STEPS = [
    "create_variants_for_score_set",
    "map_variants_for_score_set",
    "submit_score_set_mappings_to_car",
    "link_gnomad_variants",
]
PLAN = PIPELINES["validate_map_annotate_score_set"]
ALL_STEPS = [step.key for step in PLAN.steps]
#: What `prefect flow-run retry` and the retry button of Prefect's UI send.
RETRY = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}


def _metrics(mavedb: MaveDB, submitted: Submitted) -> list[Row[Any]]:
    """What each attempt took, in the order of the plan and of the attempts."""
    return mavedb.rows(
        """
        SELECT planned.job_key, metrics.* FROM job_metrics AS metrics
          JOIN job_attempts AS attempt ON attempt.id = metrics.attempt_id
          JOIN planned_jobs AS planned USING (job_id)
         WHERE planned.pipeline_id = :id ORDER BY job_id, attempt.attempt
        """,
        id=submitted.pipeline_id,
    )


def test_every_variant_of_a_good_upload_is_accounted_for(mavedb: MaveDB) -> None:
    submitted = mavedb.submit(*brca1(400))
    assert mavedb.wait_for(submitted) == "succeeded"

    jobs = mavedb.jobs(submitted)
    assert list(jobs) == ["start_pipeline", *ALL_STEPS]
    assert {job.status for job in jobs.values()} == {"succeeded"}
    assert all(job.started_at <= job.finished_at for job in jobs.values())
    mavedb.assert_every_variant_is_accounted_for(submitted)
    account = mavedb.account(submitted)
    assert account["vrs_mapping", "success", None] > 350
    assert account["clingen_allele_id", "success", None] > 300
    assert account["gnomad_allele_frequency", "success", None] > 100
    assert account["gnomad_allele_frequency", "skipped", "not_found"] > 20

    score_set = mavedb.rows("SELECT * FROM scoresets WHERE id = :id", id=submitted.score_set_id)[0]
    assert (score_set.processing_state, score_set.mapping_state) == ("success", "incomplete")
    assert score_set.num_variants == 400
    assert score_set.processing_errors is None
    links = mavedb.value(
        """
        SELECT count(DISTINCT mapped.variant_id) FROM gnomad_variants_mapped_variants AS link
          JOIN mapped_variants AS mapped ON mapped.id = link.mapped_variant_id
          JOIN variants ON variants.id = mapped.variant_id WHERE scoreset_id = :id
        """,
        id=submitted.score_set_id,
    )
    assert links == account["gnomad_allele_frequency", "success", None]

    took = {row.job_key: row for row in _metrics(mavedb, submitted)}
    assert list(took) == ALL_STEPS
    assert all(row.cpu_seconds > 0 and row.peak_memory_bytes > 50e6 for row in took.values())
    assert {key: row.variants for key, row in took.items()} == {
        step.key: 400 if step.annotation_types else None for step in PLAN.steps
    }
    assert [took[key].http_requests for key in STEPS] == [
        {},
        {"VRS mapper": {"2xx": 1}},
        {"ClinGen Allele Registry": {"2xx": 1}},
        {"gnomAD": {"answered": 1}},
    ]
    assert took["populate_vep_for_score_set"].http_requests["Ensembl"]["2xx"] > 3
    alleles = mavedb.value(
        """
        SELECT count(DISTINCT clingen_allele_id) FROM mapped_variants AS mapped
          JOIN variants ON variants.id = variant_id WHERE scoreset_id = :id AND mapped.current
        """,
        id=submitted.score_set_id,
    )
    read = took["warm_clingen_cache"]
    assert read.cache_hits + read.cache_misses == alleles
    releases = [row for key, row in took.items() if key.startswith("refresh_clinvar_controls")]
    assert {(row.cache_hits, row.cache_misses) for row in releases} == {(alleles, 0)}


def test_the_audit_agrees_with_prefect(mavedb: MaveDB) -> None:
    submitted = mavedb.submit(*brca1(20))
    mavedb.wait_for(submitted)
    assert mavedb.flow_run(submitted)["state_type"] == "COMPLETED"
    in_prefect = {
        run["name"]: run
        for run in wait_until(
            lambda: [
                run
                for run in [mavedb.task_runs(submitted)]
                if len(run) == len(ALL_STEPS) and all(r["state_type"] == "COMPLETED" for r in run)
            ]
        )[0]
    }
    assert set(in_prefect) == set(ALL_STEPS)
    recorded = mavedb.rows(
        """
        SELECT run.name, run.run_id, run.state_id, run.state_type, job.status, job.urn
          FROM prefect_runs AS run JOIN job_runs AS job ON job.id = run.job_id
         WHERE job.pipeline_id = :id
        """,
        id=submitted.pipeline_id,
    )
    assert {row.name: (str(row.run_id), row.state_type) for row in recorded} == {
        name: (run["id"], run["state_type"]) for name, run in in_prefect.items()
    }
    assert {row.name: str(row.state_id) for row in recorded} == {
        name: run["state_id"] for name, run in in_prefect.items()
    }
    witnessed = mavedb.rows(
        """
        SELECT type FROM prefect_transitions
         WHERE run_id = :run_id AND type IN ('RUNNING', 'COMPLETED') ORDER BY timestamp
        """,
        run_id=mavedb.flow_run(submitted)["id"],
    )
    assert [row.type for row in witnessed] == ["RUNNING", "COMPLETED"]


def test_an_upload_that_breaks_a_rule_changes_nothing_and_says_where(mavedb: MaveDB) -> None:
    good = mavedb.submit(*brca1(30))
    mavedb.wait_for(good)
    before = mavedb.account(good)

    lines = brca1(30)[0].splitlines()
    lines[3] = lines[3].replace("p.", "p.Xyz", 1)
    bad = mavedb.submit("\n".join(lines), urn=good.score_set_urn)
    assert mavedb.wait_for(bad) == "failed"

    jobs = mavedb.jobs(bad)
    assert [jobs[key].status for key in STEPS] == ["failed", "skipped", "skipped", "skipped"]
    failed = jobs["create_variants_for_score_set"]
    assert failed.failure_category == "validation_error"
    assert "line 4, column hgvs_pro" in failed.error_message
    assert failed.error_traceback is None
    assert jobs["link_gnomad_variants"].error_message == (
        "Not run, because create_variants_for_score_set failed."
    )
    score_set = mavedb.rows("SELECT * FROM scoresets WHERE id = :id", id=bad.score_set_id)[0]
    assert (score_set.processing_state, score_set.mapping_state) == ("failed", "not_attempted")
    assert score_set.processing_errors["exception"].startswith("The update failed, and the var")
    assert len(score_set.processing_errors["detail"]) == 1
    assert score_set.num_variants == 30
    assert mavedb.account(bad) == before
    assert mavedb.flow_run(bad)["state_type"] == "FAILED"
    assert mavedb.value("SELECT count(*) FROM job_attempts WHERE job_id = :id", id=failed.id) == 1


@pytest.mark.parametrize(
    ("scores", "lose_files", "category", "says"),
    [
        ("hgvs_pro,score\np.Met1Ala,0\xe9\n".encode("latin-1"), False, "validation_error", "UTF-8"),
        (b"hgvs_pro,score\np.Met1Ala,0.5\n", True, "data_error", "is not in the store"),
    ],
    ids=["not UTF-8", "not there"],
)
def test_a_file_that_cannot_be_read_is_named(
    mavedb: MaveDB, scores: bytes, lose_files: bool, category: str, says: str
) -> None:
    submitted = mavedb.submit(scores, lose_files=lose_files)
    assert mavedb.wait_for(submitted) == "failed"
    job = mavedb.jobs(submitted)["create_variants_for_score_set"]
    assert job.failure_category == category
    assert "-scores.csv" in job.error_message
    assert says in job.error_message
    errors = mavedb.value(
        "SELECT processing_errors FROM scoresets WHERE id = :id", id=submitted.score_set_id
    )
    assert errors["exception"] == job.error_message


def test_a_service_that_stays_down_fails_its_step_and_every_variant_says_so(
    mavedb: MaveDB,
) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=503):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "failed"
    jobs = mavedb.jobs(submitted)
    assert [jobs[key].status for key in STEPS] == ["succeeded", "succeeded", "failed", "skipped"]
    failed = jobs["submit_score_set_mappings_to_car"]
    assert failed.failure_category == "service_unavailable"
    assert failed.retry_count == 2
    assert [
        row.http_requests for row in _metrics(mavedb, submitted) if row.job_key == failed.job_key
    ] == [{"ClinGen Allele Registry": {"5xx": 1}}] * 3
    mavedb.assert_every_variant_is_accounted_for(submitted)
    account = mavedb.account(submitted)
    assert account["clingen_allele_id", "failed", "step_failed"] == 20
    assert account["gnomad_allele_frequency", "skipped", "dependency_failure"] == 20
    message = mavedb.value(
        """
        SELECT DISTINCT error_message FROM variant_annotation_status
         WHERE job_run_id = :id AND current
        """,
        id=failed.id,
    )
    assert "[submit_score_set_mappings_to_car]" in message
    assert "503" in message
    not_ready = {run["name"]: run["state_name"] for run in mavedb.task_runs(submitted)}
    assert not_ready["link_gnomad_variants"] == "NotReady"
    recorded = mavedb.rows(
        "SELECT state_name FROM prefect_runs WHERE job_id = :id",
        id=jobs["link_gnomad_variants"].id,
    )
    assert [row.state_name for row in recorded] == ["NotReady"]


def test_a_leaf_that_fails_leaves_the_pipeline_partial(mavedb: MaveDB) -> None:
    mavedb.execute("ALTER TABLE gnomad_variants ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    try:
        submitted = mavedb.submit(*brca1(20, seed=99))
        assert mavedb.wait_for(submitted) == "partial"
    finally:
        mavedb.execute("ALTER TABLE gnomad_variants DROP CONSTRAINT full_up")
    jobs = mavedb.jobs(submitted)
    assert [jobs[key].status for key in STEPS] == ["succeeded"] * 3 + ["failed"]
    assert "full_up" in jobs["link_gnomad_variants"].error_message
    assert "link_gnomad_variants.py" in jobs["link_gnomad_variants"].error_traceback
    flow_run = mavedb.flow_run(submitted)
    assert (flow_run["state_type"], flow_run["state_name"]) == ("COMPLETED", "Partial")
    mavedb.assert_every_variant_is_accounted_for(submitted)

    flow_runs = mavedb.prefect("POST", f"flow_runs/{flow_run['id']}/set_state", RETRY)
    assert flow_runs["status"] == "ACCEPT"
    wait_until(
        lambda: (
            mavedb.value("SELECT status FROM pipelines WHERE id = :id", id=submitted.pipeline_id)
            == "succeeded"
        )
    )
    attempts = mavedb.rows(
        """
        SELECT job.job_function, count(*) AS attempts FROM job_attempts
          JOIN job_runs AS job ON job.id = job_id WHERE pipeline_id = :id GROUP BY 1
        """,
        id=submitted.pipeline_id,
    )
    assert {row.job_function: row.attempts for row in attempts} == {
        **Counter(step.function for step in PLAN.steps),
        "link_gnomad_variants": 2,
    }
    mavedb.assert_every_variant_is_accounted_for(submitted)
    assert ("gnomad_allele_frequency", "failed", "step_failed") not in mavedb.account(submitted)


def test_a_refused_account_is_not_tried_again(mavedb: MaveDB) -> None:
    refusal = json.dumps({"errorType": "AuthorizationError", "message": "Wrong password"})
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403, body=refusal):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "failed"
    job = mavedb.jobs(submitted)["submit_score_set_mappings_to_car"]
    assert (job.failure_category, job.retry_count) == ("authentication_failed", 0)
    assert "GENBOREE_ACCOUNT_NAME" in job.error_message


def test_a_score_set_that_the_mapper_refuses_fails_with_the_mappers_words(
    mavedb: MaveDB,
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "set_error", body="No BLAT hit"):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "failed"
    score_set = mavedb.rows("SELECT * FROM scoresets WHERE id = :id", id=submitted.score_set_id)[0]
    assert score_set.mapping_state == "failed"
    assert score_set.mapping_errors == {"error_message": "No BLAT hit"}
    assert mavedb.jobs(submitted)["map_variants_for_score_set"].failure_category == (
        "vrs_mapping_failed"
    )
    mavedb.assert_every_variant_is_accounted_for(submitted)


def test_two_pipelines_on_one_score_set_do_not_run_a_step_at_once(mavedb: MaveDB) -> None:
    first = mavedb.submit(*brca1(50))
    mavedb.wait_for(first)
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=2):
        again = [mavedb.request("map_annotate_score_set", first) for _ in range(2)]
        assert [mavedb.wait_for(submitted) for submitted in again] == ["succeeded"] * 2
    overlapping = mavedb.rows(
        """
        SELECT a.id FROM job_attempts AS a JOIN job_attempts AS b ON a.id < b.id
          JOIN job_runs AS job_a ON job_a.id = a.job_id
          JOIN job_runs AS job_b ON job_b.id = b.job_id
         WHERE job_a.pipeline_id = ANY (:pipelines) AND job_b.pipeline_id = ANY (:pipelines)
           AND job_a.job_function = 'map_variants_for_score_set'
           AND job_b.job_function = 'map_variants_for_score_set'
           AND (a.started_at, a.finished_at) OVERLAPS (b.started_at, b.finished_at)
        """,
        pipelines=[submitted.pipeline_id for submitted in again],
    )
    assert overlapping == []
    mavedb.assert_every_variant_is_accounted_for(first)
