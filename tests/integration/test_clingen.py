"""The Allele Registry's client against the simulated registry, over HTTP, in good and bad times."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine

from deployments.local.simulators import gnomad as gnomad_table
from deployments.local.simulators.clingen import create_app
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.clingen import Account, Outcome, Registered, Rejected, register, signed
from tasks.clients.gnomad import GnomadRecord, fetch
from tests.support_servers import LATE, Simulator, patience, served

ACCOUNT = Account("curator", "hunter2-secret")
LIMIT = 100
MERGED_INTO = "CA025094"


def seed(allele_id: str, hgvs: Sequence[str], **more: Any) -> dict[str, Any]:
    """An allele in the registry's shape; its HGVS are not all spelled as they are asked for."""
    return {
        "@id": f"http://reg.genome.network/allele/{allele_id}",
        "type": "nucleotide",
        "externalRecords": {"ClinVarAlleles": [{"alleleId": 430421}]},
        "genomicAlleles": [{"hgvs": list(hgvs), "referenceGenome": "GRCh38"}],
    } | more


SEEDS = [
    seed("CA503883", ["NC_000001.11:g.946538G>A", "ENST00000327044.6:c.1667C>T"]),
    seed("CA025094", ["NC_000017.11:g.43124027A>G"]),
    seed(
        "CA000777",
        ["NC_000002.12:g.777A>G"],
        activeUris=[f"http://reg.genome.network/allele/{MERGED_INTO}"],
    ),
]

#: In an order where an answer tied to the wrong line would show.
MIXED: dict[str, Outcome] = {
    "NC_000001.11:g.946538G>A": Registered("CA503883"),
    "BAD_1:c.1A>G": Rejected("HgvsParsingError: Cannot parse the HGVS. (BAD_1:c.1A>G)"),
    "ENST00000327044.6:c.1667C>T": Registered("CA503883"),
    "ENST00000387314.1:n.1G>C": Rejected(
        "InternalServerError: Unknown reference: ENST00000387314.1 (ENST00000387314.1:n.1G>C)"
    ),
    "": Rejected("Not sent: the HGVS is blank."),
    "NC_000017.11:g.43124027A>G": Registered("CA025094"),
    "NM_1.1:c.1A>G\nNM_1.1:c.2A>G": Rejected(
        "Not sent: the HGVS holds a line break (NM_1.1:c.1A>G NM_1.1:c.2A>G)"
    ),
    "NC_000017.11:g.43124027delAinsG": Registered("CA025094"),
    "SQ_9.1:c.1A>G": Rejected(
        "UnknownReferenceSequence: The reference sequence named SQ_9.1 is not known."
        " (SQ_9.1:c.1A>G)"
    ),
    "NC_000002.12:g.777A>G": Registered(MERGED_INTO),
}


@dataclass(frozen=True)
class Registry(Simulator):
    """A simulated registry; `told` is what it told of registrations."""

    told: list[tuple[str, str]]

    def register(
        self, hgvs: Sequence[str], account: Account = ACCOUNT, **options: Any
    ) -> dict[str, Outcome]:
        usual = {"batch_size": 50, "connect_timeout": 5.0, "read_timeout": 20.0}
        return register(self.url, account, hgvs, **(usual | options))

    def refusal(self, hgvs: Sequence[str], **options: Any) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            self.register(hgvs, **options)
        return caught.value


@pytest.fixture(scope="module")
def server() -> Iterator[Registry]:
    told: list[tuple[str, str]] = []
    app = create_app(
        ACCOUNT.name, ACCOUNT.password, SEEDS, max_records=LIMIT, on_register=told.extend
    )
    with served(app) as simulator:
        yield Registry(simulator.url, simulator.http, told)


@pytest.fixture
def registry(server: Registry) -> Iterator[Registry]:
    yield server
    server.reset()
    server.told.clear()


def coding(count: int) -> list[str]:
    return [f"NM_000314.8:c.{n}A>G" for n in range(1, count + 1)]


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_every_hgvs_gets_its_own_outcome(registry: Registry, batch_size: int) -> None:
    assert registry.register(list(MIXED), batch_size=batch_size) == MIXED


def test_batches_add_up_and_report_how_far_they_are(registry: Registry) -> None:
    done: list[int] = []
    hgvs = [*coding(65), "", *coding(10)]

    outcomes = registry.register(hgvs, batch_size=35, on_batch=done.append)

    assert set(outcomes) == {*coding(65), ""}
    assert done == [36, 66]
    assert outcomes == registry.register(hgvs), "registering again must give the same ids"
    told = dict(registry.told)
    assert told == {h: o.allele_id for h, o in outcomes.items() if isinstance(o, Registered)}


def test_about_three_in_a_hundred_are_rejected_by_name(registry: Registry) -> None:
    protein = [f"NP_000305.3:p.Met{n}Val" for n in range(1, 2_001)]
    outcomes = registry.register([*coding(2_000), *protein], batch_size=LIMIT)

    rejections = [o.message for o in outcomes.values() if isinstance(o, Rejected)]
    assert 0.02 < len(rejections) / len(outcomes) < 0.04
    for error_type in ("IncorrectReferenceAllele", "UnknownReferenceSequence"):
        assert any(message.startswith(f"{error_type}: ") for message in rejections)
    for hgvs, outcome in outcomes.items():
        if isinstance(outcome, Registered):
            assert outcome.allele_id.startswith("PA" if ":p." in hgvs else "CA")
    padded = [o for o in outcomes.values() if isinstance(o, Registered) and o.allele_id[2] == "0"]
    assert padded, "ids with leading zeros exist and must be kept as they are"


def test_a_batch_that_is_too_large_is_halved(registry: Registry) -> None:
    outcomes = registry.register(coding(250), batch_size=250)

    assert set(outcomes) == set(coding(250))
    # 250 and 125 are refused; the rest goes out in batches of 63.
    assert registry.requests("PUT") == 2 + 4


def test_one_hgvs_that_is_too_large_ends_the_halving(registry: Registry) -> None:
    registry.fail("too_large")

    error = registry.refusal(coding(5))

    assert error.category is FailureCategory.DATA_ERROR
    assert "NM_000314.8:c.1A>G" in str(error)


UNAVAILABLE = FailureCategory.SERVICE_UNAVAILABLE
SIGN_IN = FailureCategory.AUTHENTICATION_FAILED
PACKED = {"Content-Encoding": "gzip"}
HTML = "<html><head><title>502 Bad Gateway</title></head><body>&nbsp;</body></html>"


@pytest.mark.parametrize(
    ("fault", "category", "said"),
    [
        ({"kind": "read_only"}, UNAVAILABLE, "SystemInReadOnlyMode"),
        ({"kind": "terminated"}, UNAVAILABLE, "11 answers for 20 HGVS"),
        ({"kind": "short"}, UNAVAILABLE, "19 answers for 20 HGVS"),
        ({"kind": "internal_error"}, UNAVAILABLE, "InternalServerError"),
        ({"kind": "wrong_account"}, SIGN_IN, "GENBOREE_ACCOUNT_NAME and GENBOREE_ACCOUNT_PASS"),
        ({"kind": "status", "status": 502, "body": HTML}, UNAVAILABLE, "502 Bad Gateway"),
        ({"kind": "status", "status": 504, "body": HTML}, FailureCategory.TIMEOUT, "504"),
        ({"kind": "status", "status": 404}, FailureCategory.CONFIGURATION_ERROR, "CAR_SUBMISSION"),
        ({"kind": "malformed"}, UNAVAILABLE, "something else than JSON"),
        ({"kind": "malformed", "body": "[1, 2]"}, UNAVAILABLE, "something else than JSON"),
        ({"kind": "malformed", "body": "[]"}, UNAVAILABLE, "something else than JSON"),
        ({"kind": "truncate"}, UNAVAILABLE, "something else than JSON"),
        ({"kind": "status", "status": 200, "headers": PACKED}, UNAVAILABLE, "cannot be unpacked"),
        ({"kind": "reset"}, FailureCategory.NETWORK_ERROR, "broke"),
        (LATE, FailureCategory.TIMEOUT, "in time"),
    ],
)
def test_a_batch_that_fails_says_why_and_can_be_sent_again(
    registry: Registry, fault: dict[str, Any], category: FailureCategory, said: str
) -> None:
    registry.fail(**fault, times=1)

    error = registry.refusal(coding(20), read_timeout=patience(fault))

    assert error.category is category
    assert said in str(error)
    assert str(error).startswith("ClinGen Allele Registry: ")
    assert set(registry.register(coding(20))) == set(coding(20))


def test_a_rate_limit_says_how_long_to_wait(registry: Registry) -> None:
    registry.fail("status", status=429, headers={"Retry-After": "17"})

    error = registry.refusal(coding(1))

    assert error.category is FailureCategory.API_RATE_LIMITED
    assert error.category in RETRYABLE
    assert error.retry_after_seconds == 17


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (Account("curator", "guess"), "Wrong password"),
        (Account("nobody", "hunter2-secret"), "no user with given login"),
    ],
)
def test_a_wrong_account_is_not_retried(registry: Registry, account: Account, said: str) -> None:
    error = registry.refusal(coding(1), account=account)

    assert error.category is FailureCategory.AUTHENTICATION_FAILED
    assert error.category not in RETRYABLE
    assert said in str(error)
    assert registry.requests("PUT") == 1


def test_the_token_is_over_the_url_as_it_is_sent(registry: Registry) -> None:
    shouted = registry.url.replace("http://127.0.0.1", "HTTP://LOCALHOST") + "/"

    outcomes = register(
        shouted, ACCOUNT, coding(3), batch_size=2, connect_timeout=5, read_timeout=20
    )

    assert set(outcomes) == set(coding(3))


def test_account_and_token_reach_neither_log_nor_error(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry.register(coding(2))
    echo = f"no route for /alleles?file=hgvs&gbLogin={ACCOUNT.name}&gbToken=0a1b2c"
    registry.fail("status", status=502, body=echo)

    error = registry.refusal(coding(2))

    assert "gbToken=***" in caplog.text, "httpx logs the URL; else this test sees nothing"
    assert "gbToken=***" in str(error)
    for text in (caplog.text, str(error), repr(error)):
        assert ACCOUNT.name not in text
        assert ACCOUNT.password not in text
        assert "0a1b2c" not in text
        assert text.count("gbToken=") == text.count("gbToken=***")


def test_no_server_and_no_url_are_told_apart() -> None:
    timeouts = {"batch_size": 10, "connect_timeout": 2.0, "read_timeout": 2.0}
    with pytest.raises(ServiceError) as caught:
        register("http://127.0.0.1:9", ACCOUNT, coding(1), **timeouts)  # type: ignore[arg-type]
    assert caught.value.category is FailureCategory.NETWORK_ERROR
    with pytest.raises(ConfigurationError, match="CAR_SUBMISSION_ENDPOINT"):
        register("http://host:port", ACCOUNT, coding(1), **timeouts)  # type: ignore[arg-type]


def test_the_simulator_checks_tokens_as_the_registry_does(registry: Registry) -> None:
    url, now = f"{registry.url}/alleles?file=hgvs", int(time.time())

    def put(signed_url: str) -> tuple[int, str]:
        answer = httpx.put(signed_url, content="NC_000017.11:g.43124027A>G")
        content = answer.json()
        return answer.status_code, content["message"] if isinstance(content, dict) else "ok"

    assert put(signed(url, ACCOUNT, now - 43_000)) == (200, "ok")
    for wrong, status, message in [
        (url, 403, "You have no privileges to send HTTP PUT requests."),
        (f"{url}&gbLogin={ACCOUNT.name}", 400, "belong together"),
        (signed(url, ACCOUNT, now - 43_300), 403, "time window"),
        (signed(url, ACCOUNT, now + 43_300), 403, "time window"),
        (signed(url, ACCOUNT, now).replace("file=hgvs", "file=hgv%73"), 403, "Wrong password"),
    ]:
        answered_status, answered = put(wrong)
        assert answered_status == status
        assert message in answered


def test_the_simulator_can_be_asked_for_alleles(registry: Registry) -> None:
    hgvs = "NM_000314.8:c.10A>G"
    registered = registry.register([hgvs])[hgvs]
    assert isinstance(registered, Registered)
    with httpx.Client(base_url=registry.url) as client:

        def bulk(kind: str, lines: str) -> list[dict[str, Any]]:
            answer: list[dict[str, Any]] = client.post(
                f"/alleles?file={kind}", content=lines
            ).json()
            return answer

        allele = client.get(f"/allele/{registered.allele_id}").json()
        assert allele["@id"].endswith(f"/{registered.allele_id}")
        assert allele["genomicAlleles"][0]["referenceGenome"] == "GRCh38"
        transcript = next(t for t in allele["transcriptAlleles"] if t["hgvs"] == [hgvs])
        assert "MANE" in transcript
        protein = client.get(transcript["@id"].replace("http://reg.genome.network", "")).json()
        behind = protein["aminoAcidAlleles"][0]["matchingRegisteredTranscripts"]
        assert {"@id": allele["@id"]} in behind
        by_hgvs = client.get("/allele", params={"hgvs": "NM_000314.8(PTEN):c.10delAinsG"})
        assert by_hgvs.json() == allele
        assert bulk("id", f"{registered.allele_id}\nCA999999999\nCA25094\n") == [
            allele,
            client.get("/allele/CA999999999").json(),
            SEEDS[1],
        ]
        assert client.get("/allele/CA999999999").status_code == 404
        assert client.get("/allele/INVALID").status_code == 400
        unknown, blank = bulk("hgvs", "NM_000546.6:c.1002A>G\n\n")
        assert unknown["@id"] == "_:CA"
        assert blank["errorType"] == "HgvsParsingError"
        assert client.get("/alleles", params={"name": "gene"}).json() == []


def test_registered_alleles_and_simulated_gnomad_agree(registry: Registry, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gnomad.db'}"
    registry.register(coding(LIMIT))
    hgvs_of = {allele_id: hgvs for hgvs, allele_id in registry.told}
    with create_engine(url).begin() as connection:
        gnomad_table.create_table(connection, "v4.1")
        gnomad_table.fill(connection, "v4.1", hgvs_of, hgvs_of=hgvs_of)

    found = fetch(url, "v4.1", hgvs_of, timeout=20)

    alleles = httpx.post(f"{registry.url}/alleles?file=id", content="\n".join(hgvs_of)).json()
    linked = {
        record["id"]
        for allele in alleles
        for record in allele["externalRecords"].get("gnomAD_4", [])
    }
    identifiers = {record.identifier for record in found if isinstance(record, GnomadRecord)}
    assert len(linked) > LIMIT / 3
    assert linked <= identifiers
