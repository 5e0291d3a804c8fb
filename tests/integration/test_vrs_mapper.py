"""The mapper's client against the simulated mapper, over HTTP, in good and in bad weather."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.local.simulators.mapper import create_app
from mavedb_audit.errors import ServiceError, StepError
from mavedb_audit.failures import FailureCategory
from tasks.clients.vrs_mapper import MappedScore, TargetReference, map_score_set
from tests.support_mapper_answers import (
    GENERATION_2025_1,
    GENERATION_A,
    GENERATION_B,
    GENERATION_C,
    GOOD,
    LAYERS,
    MAPPED,
    POST,
    PRE,
    URN,
    without,
)
from tests.support_servers import Simulator, served

# Nothing listens on the discard port: the domain database is down.
NO_DATABASE = "postgresql://nobody@127.0.0.1:9/none"


@dataclass(frozen=True)
class Mapper(Simulator):
    """A simulated mapper: `answers` is its folder of prepared answers."""

    answers: Path

    def prepare(self, answer: Any, urn: str = URN) -> None:
        (self.answers / f"{urn.replace(':', '_')}.json").write_text(json.dumps(answer))

    def map(self, urn: str = URN, **timeouts: float) -> tuple[Any, list[MappedScore]]:
        return call(self.url, urn, **timeouts)

    def refusal(self, **timeouts: float) -> StepError:
        with pytest.raises(StepError) as caught:
            self.map(URN, **timeouts)
        return caught.value


def call(url: str, urn: str = URN, **timeouts: float) -> tuple[Any, list[MappedScore]]:
    generous = {"connect_timeout": 5.0, "base_timeout": 20.0, "timeout_per_variant": 1.0}
    with map_score_set(url, urn, 2, **(generous | timeouts)) as result:
        return result, list(result.scores())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapper]:
    answers = tmp_path_factory.mktemp("answers")
    with served(create_app(NO_DATABASE, answers)) as simulator:
        yield Mapper(simulator.url, simulator.http, answers)


@pytest.fixture
def mapper(server: Mapper) -> Iterator[Mapper]:
    server.prepare(GENERATION_B)
    yield server
    server.reset()
    for answer in server.answers.iterdir():
        answer.unlink()


@pytest.mark.parametrize(
    ("answer", "version", "target", "symbol", "outcomes"),
    [
        (GENERATION_A, "2024.1.3", "", None, [None, None]),
        (GENERATION_2025_1, "2025.1.0", "BRCA1 v1.2", "BRCA1", [None, None]),
        (GENERATION_B, "2025.2.0", "BRCA1 v1.2", "BRCA1", [None, None]),
        (GENERATION_C, "2026.1.0", "BRCA1 v1.2", "BRCA1", ["mapped", "intronic"]),
    ],
    ids=["A", "B of 2025.1", "B", "C"],
)
def test_every_generation_gives_the_same_result(
    mapper: Mapper,
    answer: dict[str, Any],
    version: str,
    target: str,
    symbol: str | None,
    outcomes: list[str | None],
) -> None:
    mapper.prepare(answer)
    result, scores = mapper.map()
    assert result.mapped_date == date(2026, 2, 4)
    assert result.mapper_version == version
    method = {"hgnc_name_selection_method": "tx_selection"} if symbol else {}
    assert result.references == (
        TargetReference(
            target,
            symbol,
            {"protein": {"sequence_type": "protein", "sequence_id": "ga4gh:SQ.nUzI"}},
            {**method, "protein": MAPPED},
        ),
    )
    assert scores == [
        MappedScore(f"{URN}#1", PRE, POST, "2", None, outcomes[0]),
        MappedScore(f"{URN}#2", None, None, None, "Variant is intronic", outcomes[1]),
    ]
    # JSON is stored again: an int stays an int, and no Decimal gets in.
    assert json.loads(json.dumps(scores[0].post_mapped)) == POST


def test_one_request_by_post_and_never_a_second(mapper: Mapper) -> None:
    mapper.fail("status", status=500)
    mapper.refusal()
    assert (mapper.requests(), mapper.requests("POST", f"/api/v1/map/{URN}")) == (1, 1)


PACKED = {"status": 200, "headers": {"Content-Encoding": "gzip"}}
MAVEDB_DOWN = "Unable to acquire resource from MaveDB: 404 for URN"
NGINX = (
    "<html><head><title>504 Gateway Time-out</title></head><body><hr>nginx/1.25</body>"
    + "<!-- a padding of the browser's own page -->" * 20
    + "</html>"
)


@pytest.mark.parametrize(
    ("status", "body", "category", "words"),
    [
        (500, MAVEDB_DOWN, FailureCategory.SERVICE_UNAVAILABLE, "MAVEDB_BASE_URL"),
        (
            500,
            "BLAT command appears missing; check BLAT_BIN_PATH",
            FailureCategory.CONFIGURATION_ERROR,
            "DCD_MAPPING_URL",
        ),
        (
            500,
            "BLAT resource could not be acquired: reference genome",
            FailureCategory.CONFIGURATION_ERROR,
            "reference genome",
        ),
        (
            500,
            "Data lookup error occurred during transcript selection: UTA",
            FailureCategory.SERVICE_UNAVAILABLE,
            "transcript selection: UTA",
        ),
        (500, "Internal server error", FailureCategory.SERVICE_UNAVAILABLE, "Internal server"),
        (503, "starting", FailureCategory.SERVICE_UNAVAILABLE, "starting"),
        (404, "Not Found", FailureCategory.CONFIGURATION_ERROR, "DCD_MAPPING_URL"),
        (405, "Method Not Allowed", FailureCategory.CONFIGURATION_ERROR, "DCD_MAPPING_URL"),
        (422, "urn: field required", FailureCategory.SYSTEM_ERROR, "field required"),
        (401, "no key", FailureCategory.AUTHENTICATION_FAILED, "no key"),
        (502, NGINX, FailureCategory.CONFIGURATION_ERROR, "above 22 s"),
        (504, NGINX, FailureCategory.CONFIGURATION_ERROR, ": 504 Gateway Time-out. "),
    ],
)
def test_what_each_refused_call_means(
    mapper: Mapper, status: int, body: str, category: FailureCategory, words: str
) -> None:
    text = body if body.startswith("<") else json.dumps({"detail": body})
    mapper.fail("status", status=status, body=text)
    error = mapper.refusal()
    assert isinstance(error, ServiceError)
    assert error.status_code == status
    assert error.category is category
    assert words in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("120", 120, 120), ("Fri, 31 Dec 2100 23:59:59 GMT", 1e6, 1e10), ("soon", None, None)],
)
def test_retry_after_is_understood(
    mapper: Mapper, header: str, least: float | None, most: float | None
) -> None:
    mapper.fail("status", status=503, headers={"Retry-After": header})
    error = mapper.refusal()
    assert isinstance(error, ServiceError)
    if least is None or most is None:
        assert error.retry_after_seconds is None
    else:
        assert error.retry_after_seconds is not None
        assert least <= error.retry_after_seconds <= most


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "Mapping results were not returned from VRS mapping service."),
        ({}, "Mapping results were not returned from VRS mapping service."),
        (
            {"metadata": {"a": 1}, "error_message": "'No BLAT hit for ATG'"},
            "No BLAT hit for ATG",
        ),
        ({**GENERATION_B, "mapped_scores": None, "error_message": "gone"}, "gone"),
        (
            without(GENERATION_B, "reference_sequences"),
            "Reference metadata missing from mapping results.",
        ),
        (
            {**GENERATION_B, "reference_sequences": {}},
            "Reference metadata missing from mapping results.",
        ),
    ],
)
def test_a_score_set_that_cannot_be_mapped_gives_the_curator_the_mappers_words(
    mapper: Mapper, answer: Any, text: str
) -> None:
    # As `status`, because a prepared answer always has its scores.
    mapper.fail("status", status=200, body=json.dumps(answer))
    error = mapper.refusal()
    assert str(error) == text
    assert error.category is FailureCategory.VRS_MAPPING_FAILED


@pytest.mark.parametrize(
    ("answer", "category", "words"),
    [
        (
            # A mapper before 2024: VRS 1, and no word of which variant it is.
            {**GENERATION_B, "mapped_scores": [{"pre_mapped": {"_id": "ga4gh:VA.x"}}] * 2},
            FailureCategory.DATA_ERROR,
            "none of 2 mapped scores carries a mavedb_id",
        ),
        (
            {**GENERATION_B, "reference_sequences": [LAYERS]},
            FailureCategory.DATA_ERROR,
            "what it says of its targets",
        ),
        (
            {**GENERATION_B, "reference_sequences": {"BRCA1": "NP_009231.2"}},
            FailureCategory.DATA_ERROR,
            "what it says of its targets",
        ),
        ([1], FailureCategory.DATA_ERROR, "list instead of an object"),
        ({**GENERATION_B, "mapped_date_utc": "today"}, FailureCategory.DATA_ERROR, "'today'"),
    ],
)
def test_an_answer_of_another_shape_is_refused(
    mapper: Mapper, answer: Any, category: FailureCategory, words: str
) -> None:
    mapper.fail("status", status=200, body=json.dumps(answer))
    error = mapper.refusal()
    assert error.category is category
    assert words in str(error)


@pytest.mark.parametrize(
    ("kind", "more", "category", "words"),
    [
        ("reset", {}, FailureCategory.NETWORK_ERROR, "broke"),
        ("truncate", {}, FailureCategory.DATA_ERROR, "breaks off"),
        ("malformed", {}, FailureCategory.CONFIGURATION_ERROR, "web page"),
        ("status", PACKED, FailureCategory.DATA_ERROR, "its compression is broken"),
    ],
)
def test_a_broken_answer_stores_nothing(
    mapper: Mapper, kind: str, more: dict[str, Any], category: FailureCategory, words: str
) -> None:
    mapper.prepare({**GENERATION_B, "mapped_scores": [GOOD] * 1000})
    mapper.fail(kind, times=1, **more)
    error = mapper.refusal()
    assert error.category is category
    assert words in str(error)
    assert len(mapper.map()[1]) == 1000


def test_a_version_holds_nothing_that_the_database_does_not(mapper: Mapper) -> None:
    mapper.prepare(
        {
            **GENERATION_B,
            "dcd_mapping_version": "2025.2\x00",
            "mapped_scores": [{**GOOD, "vrs_version": "2.0\x00"}],
        }
    )
    result, (score,) = mapper.map()
    assert (result.mapper_version, score.vrs_version) == ("2025.2\ufffd", "2.0\ufffd")


@pytest.mark.parametrize(
    "odd",
    [
        *(None, 7, "text", [GOOD], {"score": 1}, {"mavedb_id": None}, {"mavedb_id": 7}),
        *({**GOOD, "pre_mapped": "text"}, {**GOOD, "post_mapped": [POST]}),
        *({**GOOD, "vrs_version": 2}, {**GOOD, "error_message": ["text"]}),
    ],
)
def test_one_record_that_cannot_be_read_costs_its_variant_only(mapper: Mapper, odd: Any) -> None:
    good = [{**GOOD, "mavedb_id": f"{URN}#{n}"} for n in range(2, 201)]
    mapper.prepare({**GENERATION_B, "mapped_scores": [*good[:99], odd, *good[99:]]})

    _, scores = mapper.map()

    assert [s.variant_urn for s in scores if s.post_mapped] == [s["mavedb_id"] for s in good]
    (broken,) = [score for score in scores if not score.post_mapped]
    if broken.is_malformed:
        assert broken.variant_urn == f"{URN}#1"
        assert "Its " in str(broken.error_message)
    else:
        assert broken == MappedScore(None, None, None, None, None, None)


def test_the_budget_grows_with_the_variants(mapper: Mapper) -> None:
    mapper.fail("status", status=500, match="another score set")
    mapper.fail("slow", seconds=0.8, match=URN)
    error = mapper.refusal(base_timeout=0.1, timeout_per_variant=0.05)
    assert error.category is FailureCategory.TIMEOUT
    assert "MAPPER_BASE_TIMEOUT_SECONDS" in str(error)
    mapper.map(base_timeout=0.1, timeout_per_variant=5.0)


def test_no_mapper_at_all() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        port = bound.getsockname()[1]
        with pytest.raises(ServiceError) as caught:
            call(f"http://127.0.0.1:{port}")
    assert caught.value.category is FailureCategory.NETWORK_ERROR
    assert f"127.0.0.1:{port}" in str(caught.value)


@pytest.mark.parametrize("url", ["dcd-mapping:8000", "http://dcd-mapping:eight"])
def test_a_wrong_base_url_is_a_matter_of_settings(url: str) -> None:
    with pytest.raises(ServiceError) as caught:
        call(url)
    assert caught.value.category is FailureCategory.CONFIGURATION_ERROR


def test_the_simulator_without_its_database_answers_as_the_mapper_without_mavedb(
    mapper: Mapper,
) -> None:
    with pytest.raises(ServiceError) as caught:
        mapper.map("urn:mavedb:00000001-a-1")
    assert caught.value.category is FailureCategory.SERVICE_UNAVAILABLE
    assert "Unable to acquire resource from MaveDB" in str(caught.value)


def test_the_mappers_own_faults(mapper: Mapper) -> None:
    many = [{**GOOD, "mavedb_id": f"{URN}#{n}"} for n in range(1, 10)]
    mapper.prepare({**GENERATION_B, "mapped_scores": many})
    for kind in ("generation_a", "generation_c", "drop_variants", "all_failed"):
        mapper.fail(kind, times=1)
    for kind in ("unknown_variant", "unknown_target"):
        mapper.fail(kind, times=1)
    assert mapper.map()[0].references[0].target_name == ""
    _, scores = mapper.map()
    assert {score.outcome for score in scores} == {"mapped"}
    assert len(mapper.map()[1]) == 6
    assert all(s.error_message and not s.post_mapped for s in mapper.map()[1])
    assert mapper.map()[1][-1].variant_urn == f"{URN}#999999999"
    assert len(mapper.map()[0].references) == 2
    for kind in ("set_error", "no_references", "empty", "null"):
        mapper.fail(kind, times=1)
        assert mapper.refusal().category is FailureCategory.VRS_MAPPING_FAILED
    assert len(mapper.map()[1]) == 9


def test_a_misspelt_fault_is_refused(mapper: Mapper) -> None:
    for fault in ({"kind": "slwo"}, {"kind": "slow", "second": 3}):
        assert httpx.post(f"{mapper.url}/simulator/faults", json=fault).status_code == 422
