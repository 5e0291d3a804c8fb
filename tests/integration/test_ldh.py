"""ClinGen's Linked Data Hub: the client against the simulated hub, the step in a real worker."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from deployments.local.simulators.genboree import create_app
from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from mavedb_audit.trigger import request_pipeline
from tasks.clients import ldh
from tasks.clients.clingen import Account
from tasks.clients.ldh import BatchFailed, MappedVariant, Queued
from tests.support import MaveDB, Submitted, mavedb_of, wait_until
from tests.support_simulators import Simulator, served

ACCOUNT = Account("curator", "hunter2-secret")
STEP = "submit_score_set_mappings_to_ldh"
UNAVAILABLE = FailureCategory.SERVICE_UNAVAILABLE
SIGN_IN = FailureCategory.AUTHENTICATION_FAILED


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    with served(create_app(ACCOUNT.name, ACCOUNT.password, visible_after_seconds=0)) as server:
        yield server


@pytest.fixture
def genboree(server: Simulator) -> Iterator[Simulator]:
    yield server
    server.reset()


def variants(count: int) -> list[MappedVariant]:
    return [
        MappedVariant(
            urn=f"urn:mavedb:00000001-a-1#{n}",
            page=f"https://mavedb.org/score-sets/1?variant={n}",
            hgvs=f"NM_007294.4:c.{n}A>G",
            score=n / 10,
            score_set_description="A scan",
            pre_mapped=None,
            post_mapped={"type": "Allele"},
            mapping_api_version="2025.2.0",
        )
        for n in range(1, count + 1)
    ]


def submit(
    genboree: Simulator, *batches: list[MappedVariant], account: Account = ACCOUNT
) -> list[Queued | BatchFailed]:
    with ldh.connection(
        genboree.url, "dev-clingen", account, connect_timeout=5, read_timeout=0.5
    ) as hub:
        return [hub.submit(batch) for batch in batches]


def failure_of(outcome: Queued | BatchFailed) -> ServiceError:
    assert isinstance(outcome, BatchFailed)
    return outcome.error


def test_batches_are_queued_under_one_token(genboree: Simulator) -> None:
    first, second = submit(genboree, variants(100), variants(3))
    assert isinstance(first, Queued)
    assert isinstance(second, Queued)
    assert first.message_ids != second.message_ids
    assert (genboree.requests("POST"), genboree.requests("PUT")) == (1, 2)

    shown = genboree.http.get(
        f"/ldh/MaveDBMapping/id/{quote('urn:mavedb:00000001-a-1#2', safe='')}"
    )
    data = shown.json()["data"]
    assert data["entContent"] == {
        "mavedb_id": "urn:mavedb:00000001-a-1#2",
        "score": 0.2,
        "score_set_description": "A scan",
        "pre_mapped": None,
        "post_mapped": {"type": "Allele"},
        "mapping_api_version": "2025.2.0",
    }
    assert data["entIri"] == "https://mavedb.org/score-sets/1?variant=2"
    assert data["ldFor"]["Variant"][0]["entId"] == "NM_007294.4:c.2A>G"


def test_a_token_that_is_about_to_expire_is_not_used() -> None:
    app = create_app(ACCOUNT.name, ACCOUNT.password, token_seconds=5)
    with served(app) as genboree:
        assert {type(o) for o in submit(genboree, variants(1), variants(1))} == {Queued}
        assert (genboree.requests("POST"), genboree.requests("PUT")) == (2, 2)


def test_a_refused_token_is_replaced_once(genboree: Simulator) -> None:
    genboree.fail("malformed_jwt", match="submissions", times=1)
    (outcome,) = submit(genboree, variants(1))
    assert isinstance(outcome, Queued)
    assert (genboree.requests("POST"), genboree.requests("PUT")) == (2, 2)

    genboree.fail("malformed_jwt", match="submissions")
    with pytest.raises(ServiceError, match="jwt malformed") as caught:
        submit(genboree, variants(1), variants(1))
    assert caught.value.category is SIGN_IN
    assert (genboree.requests("POST"), genboree.requests("PUT")) == (4, 4)


@pytest.mark.parametrize(
    "account", [Account("curator", "guess"), Account("nobody", ACCOUNT.password)]
)
def test_a_wrong_account_is_not_tried_again(genboree: Simulator, account: Account) -> None:
    with pytest.raises(ServiceError, match="GENBOREE_ACCOUNT_NAME") as caught:
        submit(genboree, variants(1), account=account)
    assert caught.value.category is SIGN_IN
    assert SIGN_IN not in RETRYABLE
    assert account.password not in str(caught.value)
    assert genboree.requests("PUT") == 0


INVALID_URL = '{"errCode":400,"errMsg":"INVALID URL - no","errName":"Bad Request"}'
HTML = "<html><head><title>502 Bad Gateway</title></head></html>"


@pytest.mark.parametrize(
    ("fault", "category", "said"),
    [
        ({"kind": "empty_object"}, FailureCategory.VALIDATION_ERROR, "an empty object"),
        (
            {"kind": "status", "status": 400, "body": INVALID_URL},
            FailureCategory.VALIDATION_ERROR,
            "INVALID URL - no",
        ),
        ({"kind": "no_receipt"}, UNAVAILABLE, "something else than a receipt"),
        ({"kind": "malformed"}, UNAVAILABLE, "something else than a receipt"),
        ({"kind": "malformed", "body": "[]"}, UNAVAILABLE, "something else than a receipt"),
        ({"kind": "truncate"}, UNAVAILABLE, "something else than a receipt"),
        ({"kind": "status", "status": 502, "body": HTML}, UNAVAILABLE, "502 Bad Gateway"),
        ({"kind": "status", "status": 429}, FailureCategory.API_RATE_LIMITED, "429"),
        ({"kind": "reset"}, FailureCategory.NETWORK_ERROR, "broke"),
        ({"kind": "slow", "seconds": 1}, FailureCategory.TIMEOUT, "in time"),
    ],
)
def test_a_batch_that_fails_leaves_the_next_one_alone(
    genboree: Simulator, fault: dict[str, Any], category: FailureCategory, said: str
) -> None:
    genboree.fail(**fault, match="submissions", times=1)
    failed, queued = submit(genboree, variants(2), variants(1))
    error = failure_of(failed)
    assert error.category is category
    assert said in str(error)
    assert isinstance(queued, Queued)


@pytest.mark.parametrize(
    "fault", [{"kind": "no_exp"}, {"kind": "status", "status": 503}, {"kind": "malformed"}]
)
def test_a_sign_in_that_fails_for_now_fails_its_batch(
    genboree: Simulator, fault: dict[str, Any]
) -> None:
    genboree.fail(**fault, match="/auth", times=1)
    failed, queued = submit(genboree, variants(1), variants(1))
    assert failure_of(failed).category is UNAVAILABLE
    assert isinstance(queued, Queued)


def test_a_wrong_address_is_the_settings_fault(genboree: Simulator) -> None:
    genboree.fail("status", status=404)
    with pytest.raises(ServiceError, match="Check GENBOREE_URL and CLIN_GEN_TENANT") as caught:
        submit(genboree, variants(1))
    assert caught.value.category is FailureCategory.CONFIGURATION_ERROR
    with (
        pytest.raises(ConfigurationError, match="GENBOREE_URL"),
        ldh.connection("http://host:port", "", ACCOUNT, connect_timeout=1, read_timeout=1),
    ):
        pass


def test_the_simulator_answers_as_the_hub_does() -> None:
    route = "/mq/brdg/pulsar/dev-clingen/ldh/submissions/maveDb"
    with served(
        create_app(ACCOUNT.name, ACCOUNT.password, token_seconds=-1, visible_after_seconds=60)
    ) as genboree:

        def message(answer: httpx.Response) -> tuple[int, str]:
            return answer.status_code, answer.json()["status"]["msg"]

        unsigned = genboree.http.put(route, json=[])
        assert message(unsigned) == (403, "Bad Auth Info - jwt malformed")
        credentials = {"type": "plain", "val": ACCOUNT.password}
        signed_in = genboree.http.post(f"/auth/usr/gb:{ACCOUNT.name}/auth", json=credentials)
        expired = {"Authorization": f"Bearer {signed_in.json()['data']['jwt']}"}
        refused = genboree.http.put(route, json=[], headers=expired)
        assert message(refused) == (403, "Bad Auth Info - jwt expired")
        forged = {"Authorization": f"Bearer {signed_in.json()['data']['jwt']}x"}
        assert message(genboree.http.put(route, json=[], headers=forged))[0] == 403
        status, said = message(genboree.http.get("/ldh/MaveDBMapping/id/urn%3Amavedb%3A1%231"))
        assert (status, said.startswith("Bad Entity - No 'MaveDBMapping' entity")) == (404, True)

    with served(create_app(ACCOUNT.name, ACCOUNT.password, visible_after_seconds=60)) as genboree:
        (too_many,) = submit(genboree, variants(101))
        assert "More than 100" in str(failure_of(too_many))
        (nothing,) = submit(genboree, [])
        assert "an empty object" in str(failure_of(nothing))
        (queued,) = submit(genboree, variants(1))
        assert isinstance(queued, Queued)
        entity = f"/ldh/MaveDBMapping/id/{quote(variants(1)[0].urn, safe='')}"
        assert genboree.http.get(entity).status_code == 404, "it is visible only later"


# The step. Of 330 variants 3 have nothing to send; they go out in batches of 97, 100, 100 and 30.


@pytest.fixture(scope="module")
def mavedb(stack: Stack) -> MaveDB:
    return mavedb_of(stack)


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
    wait_until(lambda: hub.http.get(entity).status_code == 200, within_seconds=20)
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
