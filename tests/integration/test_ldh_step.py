"""Submitting to ClinGen's Linked Data Hub, through the real worker, against the simulated hub.

Of 330 variants 3 have nothing to send; they go out in batches of 97, 100, 100 and 30.
"""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set
from mavedb_audit.trigger import request_pipeline
from tests.support import MaveDB, Submitted, wait_until
from tests.support_servers import Simulator

STEP = "submit_score_set_mappings_to_ldh"


@pytest.fixture
def hub(stack: Stack) -> Iterator[Simulator]:
    """The stack's own simulator."""
    with httpx.Client(base_url=stack.simulator_urls["genboree"]) as http:
        simulator = Simulator(stack.simulator_urls["genboree"], http)
        simulator.reset()
        yield simulator
        simulator.reset()


@pytest.fixture
def published(mavedb: MaveDB) -> Submitted:
    """A published score set of 330 variants; the first three of them have nothing to send."""
    urn = f"urn:mavedb:{uuid4().int % 10**8:08d}-a-1"
    with mavedb.engine.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn=urn,
            title="A scan",
            target_name="BRCA1",
            sequence="ATGGCT",
            sequence_type="dna",
            user="curator",
        )
    mavedb.execute(
        """
        UPDATE scoresets SET private = false, published_date = CURRENT_DATE WHERE id = :id
        """,
        id=score_set_id,
    )
    mavedb.execute(
        """
        WITH variant AS (
            INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
            SELECT :urn || '#' || n, jsonb_build_object('score_data',
                   jsonb_build_object('score', n)), :id, CURRENT_DATE, CURRENT_DATE
              FROM generate_series(1, 330) AS n ORDER BY n
            RETURNING id, CAST(split_part(urn, '#', 2) AS integer) AS n
        )
        INSERT INTO mapped_variants (variant_id, current, pre_mapped, post_mapped, vrs_version,
                                     mapping_api_version)
        SELECT id, true, '{"type": "Allele", "id": "before"}',
               CASE n
                 WHEN 1 THEN NULL
                 WHEN 2 THEN '{"type": "CisPhasedBlock", "members": [{}, {}]}'
                 WHEN 3 THEN '{"type": "Allele", "expressions": []}'
                 ELSE jsonb_build_object('type', 'Allele', 'expressions', jsonb_build_array(
                      jsonb_build_object('syntax', 'hgvs.c',
                                         'value', 'NM_007294.4:c.' || n || 'A>G')))
               END, '2', '2025.2.0'
          FROM variant
        """,
        urn=urn,
        id=score_set_id,
    )
    return Submitted(score_set_id, urn, user_id, 0, "")


UNSENT = {
    ("ldh_submission", "skipped", "not_mapped"): 1,
    ("ldh_submission", "skipped", "multi_variant"): 1,
    ("ldh_submission", "skipped", "no_hgvs"): 1,
}
QUEUED = ("ldh_submission", "success", None)
BATCH_FAILED = ("ldh_submission", "failed", "ldh_batch_failed")
NOT_REACHED = ("ldh_submission", "failed", "step_failed")


def test_a_batch_that_fails_fails_its_own_variants_and_they_can_be_sent_again(
    mavedb: MaveDB, hub: Simulator, published: Submitted
) -> None:
    hub.fail("slow", match="submissions", times=1)  # the first batch, as usual
    hub.fail("status", status=503, match="submissions", times=1)
    first = mavedb.request("publish_score_set", published)
    assert mavedb.wait_for(first) == "succeeded"
    assert mavedb.account(published) == {**UNSENT, QUEUED: 227, BATCH_FAILED: 100}
    job = mavedb.jobs(first)[STEP]
    counts = job.metadata["result"]["data"]["ldh_submission"]
    assert counts == {"success": 227, "failed": 100, "skipped": 3}
    said = mavedb.rows(
        """
        SELECT DISTINCT job_run_id, error_message FROM variant_annotation_status
          JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND current AND failure_category = 'ldh_batch_failed'
        """,
        id=published.score_set_id,
    )
    assert [row.job_run_id for row in said] == [job.id]
    assert "service_unavailable: ClinGen Linked Data Hub: HTTP 503" in said[0].error_message
    receipts = mavedb.rows(
        """
        SELECT success_data, count(*), count(*) FILTER (WHERE job_run_id = :job_id) AS of_the_job
          FROM variant_annotation_status AS status JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND current AND status.status = 'success' GROUP BY 1
        """,
        id=published.score_set_id,
        job_id=job.id,
    )
    assert sorted(row.count for row in receipts) == [30, 97, 100]
    assert all(row.of_the_job == row.count for row in receipts)
    assert {row.success_data["state"] for row in receipts} == {"queued"}
    assert len({row.success_data["message_ids"][0] for row in receipts}) == 3

    with mavedb.engine.begin() as connection:
        planned = request_pipeline(
            connection,
            STEP,
            {"score_set_id": published.score_set_id, "only_failed_variants": True},
            None,
            None,
        )
    again = replace(published, pipeline_id=planned.pipeline_id, pipeline_urn=planned.pipeline_urn)
    assert mavedb.wait_for(again) == "succeeded"
    assert mavedb.account(published) == {**UNSENT, QUEUED: 327}
    assert hub.requests("PUT") == 5
    urn = f"{published.score_set_urn}#150"
    entity = f"/ldh/MaveDBMapping/id/{quote(urn, safe='')}"
    wait_until(lambda: hub.http.get(entity).status_code == 200)
    data = hub.http.get(entity).json()["data"]
    assert data["entContent"]["score"] == 150
    assert data["entContent"]["score_set_description"] == "A scan"
    assert data["entContent"]["pre_mapped"] == {"type": "Allele", "id": "before"}
    assert data["ldFor"]["Variant"][0]["entId"] == "NM_007294.4:c.150A>G"
    page = f"https://mavedb.org/score-sets/{quote(published.score_set_urn, safe='')}"
    assert data["entIri"] == f"{page}?variant={quote(urn, safe='')}"


def test_a_step_that_ends_half_way_says_what_was_sent_and_what_was_not(
    mavedb: MaveDB, hub: Simulator, published: Submitted
) -> None:
    hub.fail("slow", match="submissions", times=2)  # two batches, as usual
    hub.fail("malformed_jwt", match="submissions")
    submitted = mavedb.request(STEP, published)
    assert mavedb.wait_for(submitted) == "failed"
    job = mavedb.jobs(submitted)[STEP]
    assert (job.failure_category, job.retry_count) == ("authentication_failed", 0)
    assert mavedb.account(published) == {**UNSENT, QUEUED: 197, NOT_REACHED: 130}

    hub.reset()
    again = mavedb.request(STEP, published)
    assert mavedb.wait_for(again) == "succeeded"
    assert mavedb.account(published) == {**UNSENT, QUEUED: 327}


def test_a_hub_that_is_down_is_left_alone_after_three_batches(
    mavedb: MaveDB, hub: Simulator, published: Submitted
) -> None:
    hub.fail("status", status=503, match="submissions")
    submitted = mavedb.request(STEP, published)
    assert mavedb.wait_for(submitted) == "failed"
    job = mavedb.jobs(submitted)[STEP]
    assert (job.failure_category, job.retry_count) == ("service_unavailable", 2)
    assert hub.requests("PUT") == 3 * 3
    assert mavedb.account(published) == {**UNSENT, BATCH_FAILED: 297, NOT_REACHED: 30}

    hub.reset()
    hub.fail("empty_object", match="submissions")
    refused = mavedb.request(STEP, published)
    assert mavedb.wait_for(refused) == "failed"
    job = mavedb.jobs(refused)[STEP]
    assert (job.failure_category, job.retry_count) == ("validation_error", 0)
    assert hub.requests("PUT") == 3


def test_nothing_is_sent_of_a_private_score_set_nor_without_the_settings(
    mavedb: MaveDB, hub: Simulator, published: Submitted
) -> None:
    homeless = mavedb.run_in_prefect(STEP, published, env={"CLIN_GEN_TENANT": ""})
    switched_off = mavedb.run_in_prefect(
        STEP, published, env={"CLIN_GEN_SUBMISSION_ENABLED": "false"}
    )
    assert mavedb.wait_for(homeless) == "failed"
    job = mavedb.jobs(homeless)[STEP]
    assert job.failure_category == "configuration_error"
    assert "CLIN_GEN_TENANT is not set" in job.error_message
    assert mavedb.wait_for(switched_off) == "partial"
    assert mavedb.jobs(switched_off)[STEP].status == "skipped"
    reasons = {key[2] for key in mavedb.account(published)}
    assert reasons in ({"step_failed"}, {"step_skipped"}), "of whichever ended last"

    mavedb.execute("UPDATE scoresets SET private = true WHERE id = :id", id=published.score_set_id)
    private = mavedb.request(STEP, published)
    assert mavedb.wait_for(private) == "succeeded"
    assert mavedb.account(published) == {("ldh_submission", "skipped", "not_published"): 330}
    assert (hub.requests("POST"), hub.requests("PUT")) == (0, 0)
