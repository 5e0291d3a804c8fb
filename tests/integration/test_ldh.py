"""ClinGen's Linked Data Hub: the client against the simulated hub, over HTTP."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from deployments.local.simulators.genboree import create_app
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients import ldh
from tasks.clients.clingen import Account
from tasks.clients.ldh import BatchFailed, MappedVariant, Queued
from tests.support_servers import LATE, Simulator, patience, served

ACCOUNT = Account("curator", "hunter2-secret")
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
    genboree: Simulator,
    *batches: list[MappedVariant],
    account: Account = ACCOUNT,
    read_timeout: float = 60,
) -> list[Queued | BatchFailed]:
    with ldh.connection(
        genboree.url, "dev-clingen", account, connect_timeout=5, read_timeout=read_timeout
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
PACKED = {"Content-Encoding": "gzip"}
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
        ({"kind": "malformed", "body": '{"data": {"msgIds": []}}'}, UNAVAILABLE, "than a receipt"),
        ({"kind": "truncate"}, UNAVAILABLE, "something else than a receipt"),
        ({"kind": "status", "status": 200, "headers": PACKED}, UNAVAILABLE, "cannot be unpacked"),
        ({"kind": "status", "status": 502, "body": HTML}, UNAVAILABLE, "502 Bad Gateway"),
        ({"kind": "status", "status": 429}, FailureCategory.API_RATE_LIMITED, "429"),
        ({"kind": "reset"}, FailureCategory.NETWORK_ERROR, "broke"),
        (LATE, FailureCategory.TIMEOUT, "in time"),
    ],
)
def test_a_batch_that_fails_leaves_the_next_one_alone(
    genboree: Simulator, fault: dict[str, Any], category: FailureCategory, said: str
) -> None:
    genboree.fail(**fault, match="submissions", times=1)
    failed, queued = submit(genboree, variants(2), variants(1), read_timeout=patience(fault))
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
