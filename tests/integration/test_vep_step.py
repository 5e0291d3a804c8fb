"""VEP's consequences of a score set's variants, through the real worker and PostgreSQL."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from deployments.local.simulators.ensembl import RELEASE
from mavedb_audit.trigger import request_pipeline
from tests.support import MaveDB, Submitted, brca1

STEP = "populate_vep_for_score_set"
VARIANTS = 230
VEP = """
    SELECT status.variant_id, status.status, failure_category AS reason, status.error_message,
           version, success_data, status.job_run_id, vep_functional_consequence AS term,
           vep_access_date, vep_access_date = CURRENT_DATE AS is_of_today
      FROM variant_annotation_status AS status
      JOIN variants AS variant ON variant.id = status.variant_id
      LEFT JOIN mapped_variants AS mapped ON mapped.variant_id = variant.id AND mapped.current
     WHERE scoreset_id = :id AND status.current
       AND annotation_type = 'vep_functional_consequence'
"""
#: As if VEP had been asked in an earlier year; it gave something that no VEP gives.
AGE = """
    UPDATE mapped_variants SET vep_access_date = '2025-01-04', vep_functional_consequence = 'old'
     WHERE variant_id IN (SELECT id FROM variants WHERE scoreset_id = :id)
       AND vep_functional_consequence IS NOT NULL
"""


@pytest.fixture(scope="module")
def url(mavedb: MaveDB) -> str:
    return mavedb.stack.simulator_urls["ensembl"]


@pytest.fixture(scope="module")
def asked(mavedb: MaveDB) -> Submitted:
    """A score set that the main job was run on."""
    submitted = mavedb.submit(*brca1(VARIANTS))
    assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def current(mavedb: MaveDB, submitted: Submitted) -> dict[int, Any]:
    """The one current row of each variant."""
    rows = mavedb.rows(VEP, id=submitted.score_set_id)
    by_variant = {row.variant_id: row for row in rows}
    assert len(rows) == len(by_variant) == VARIANTS
    return by_variant


def again(mavedb: MaveDB, submitted: Submitted, **limit: bool) -> tuple[str, Any]:
    """Run the step alone. Gives the pipeline's status and the step's job."""
    parameters = {"score_set_id": submitted.score_set_id, **limit}
    with mavedb.engine.begin() as connection:
        planned = request_pipeline(connection, STEP, parameters, submitted.user_id, None)
    pipeline = replace(
        submitted, pipeline_id=planned.pipeline_id, pipeline_urn=planned.pipeline_urn
    )
    status = mavedb.wait_for(pipeline)
    return status, mavedb.jobs(pipeline)[STEP]


def test_each_variant_has_its_consequence_or_a_reason(mavedb: MaveDB, asked: Submitted) -> None:
    rows = current(mavedb, asked)

    found = Counter((row.status, row.reason) for row in rows.values())
    assert found["success", None] > 150
    assert set(found) <= {
        ("success", None),
        *(("skipped", reason) for reason in ("not_mapped", "protein_level_allele")),
        *(("skipped", reason) for reason in ("multi_variant", "not_found")),
        *(("failed", reason) for reason in ("invalid_hgvs", "reference_mismatch")),
    }
    assert found["skipped", "not_found"] > 0
    assert {row.version for row in rows.values()} == {str(RELEASE)}
    for row in rows.values():
        if row.status == "success":
            assert row.term == row.success_data["vep_functional_consequence"]
            assert row.is_of_today
        else:
            assert row.term is None
            assert row.vep_access_date is None
            assert row.error_message
    sources = Counter(r.success_data["source"] for r in rows.values() if r.status == "success")
    assert sources["transcript"] > 100
    assert all(
        row.success_data["transcript_id"] == "NM_007294.4"
        for row in rows.values()
        if row.status == "success" and row.success_data["source"] == "transcript"
    )
    assert len({row.term for row in rows.values()}) > 4


def test_odd_answers_are_their_variants_alone_and_are_run_again_alone(
    mavedb: MaveDB, asked: Submitted, url: str
) -> None:
    before = current(mavedb, asked)
    mavedb.execute(AGE, id=asked.score_set_id)

    # Of the first request every second one is refused, of the others every second one skipped.
    with (
        mavedb.fault(url, "error_entry", match="/vep/", times=1),
        mavedb.fault(url, "input_only", match="/vep/"),
    ):
        assert again(mavedb, asked)[0] == "succeeded"
    odd = current(mavedb, asked)
    failed = {v: row for v, row in odd.items() if row.status == "failed"}
    absent = {v: row for v, row in odd.items() if "VEP skipped it" in (row.error_message or "")}
    well = {v: row for v, row in odd.items() if row.status == "success"}
    assert len(failed) > 50
    assert len(absent) > 5
    assert len(well) > 50
    assert {row.reason for row in failed.values()} == {"invalid_hgvs"}
    assert all("Switched on in the simulator." in row.error_message for row in failed.values())
    assert {(row.status, row.reason) for row in absent.values()} == {("skipped", "not_found")}
    # What VEP gave earlier stays, with its day; what it gives now is of today.
    assert {row.term for row in [*failed.values(), *absent.values()]} == {"old"}
    stays = "What it gave on 2025-01-04 stays: old."
    assert all(row.error_message.endswith(stays) for row in absent.values())
    assert all(row.is_of_today and row.term == before[v].term for v, row in well.items())

    with mavedb.fault(url, "release", body="117"):
        status, job = again(mavedb, asked, only_failed_variants=True)
    assert status == "succeeded"
    mended = current(mavedb, asked)
    assert {v for v, row in mended.items() if row.job_run_id == job.id} == set(failed)
    assert all(mended[v].term == before[v].term and mended[v].version == "117" for v in failed)


def test_a_service_that_is_down_fails_the_step_and_a_refusal_halfway_keeps_what_there_is(
    mavedb: MaveDB, asked: Submitted, url: str
) -> None:
    mavedb.execute(AGE, id=asked.score_set_id)
    with mavedb.fault(url, "status", status=503, match="/vep/"):
        status, job = again(mavedb, asked)
    assert (status, job.status) == ("failed", "failed")
    assert job.failure_category == "service_unavailable"
    assert job.retry_count == 2
    assert "Ensembl: HTTP 503" in job.error_message
    down = current(mavedb, asked)
    # Nobody knows of which release its answers would have been.
    assert {(row.status, row.reason, row.version) for row in down.values()} == {
        ("failed", "step_failed", None)
    }
    assert {row.term for row in down.values()} == {"old", None}

    # The recoder is asked once VEP has answered, and refuses for the whole server.
    with mavedb.fault(url, "status", status=403, body="IP blacklisted", match="/variant_recoder/"):
        status, job = again(mavedb, asked)
    assert (status, job.status, job.failure_category) == ("failed", "failed", "quota_exceeded")
    assert job.retry_count == 0
    rows = current(mavedb, asked)
    found = Counter((row.status, row.reason) for row in rows.values())
    assert found["success", None] > 150
    assert found["failed", "ensembl_api_error"] > 0
    assert {row.version for row in rows.values()} == {str(RELEASE)}
    assert all(row.is_of_today for row in rows.values() if row.status == "success")
