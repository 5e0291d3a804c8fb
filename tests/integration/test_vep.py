"""VEP's client against the simulated Ensembl, over HTTP, in good and bad times."""

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from deployments.local.simulators.ensembl import RELEASE, create_app
from deployments.local.simulators.ensembl_variants import Variation, entries, read, recode
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.ensembl import FAILURES_IN_A_ROW, Manners
from tasks.clients.vep import REFUSALS_LOOKED_INTO, Answers, consequences
from tasks.clients.vep_answers import (
    Absent,
    Consequence,
    Malformed,
    NotAnswered,
    Refused,
    Source,
    query_of,
)
from tests.support_servers import Simulator, served

#: As fast as the simulator bears it.
MANNERS = Manners(requests_per_second=1_000, vep_timeout=10.0, retry_delays=(0.01, 0.01, 0.01))
ONE_AT_A_TIME = replace(MANNERS, concurrent_requests=1)
TRIES = 1 + len(MANNERS.retry_delays)
BLACKLISTED: dict[str, Any] = {"kind": "status", "status": 403, "body": "IP blacklisted"}


class Ensembl(Simulator):
    """A simulated server, and the client that asks it."""

    def ask(self, notations: Collection[str], manners: Manners = MANNERS, **more: Any) -> Answers:
        return consequences(self.url, notations, manners, **more)

    def refusal(self, notations: Collection[str], manners: Manners = MANNERS) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            self.ask(notations, manners)
        return caught.value

    def posts(self, path: str = "/vep/") -> int:
        return self.requests("POST", path)


@contextmanager
def serving(**options: Any) -> Iterator[Ensembl]:
    with served(create_app(**options)) as simulator:
        yield Ensembl(simulator.url, simulator.http)


@pytest.fixture(scope="module")
def server() -> Iterator[Ensembl]:
    with serving(requests_a_second=1_000) as running:
        yield running


@pytest.fixture
def ensembl(server: Ensembl) -> Iterator[Ensembl]:
    yield server
    server.reset()


def readable(count: int, accession: str = "NM_000314.8") -> list[str]:
    """So many notations that VEP can read."""
    candidates = (f"{accession}:c.{number}A>G" for number in itertools.count(4))
    return list(itertools.islice(filter(is_readable, candidates), count))


def unreadable(count: int, wanted: Callable[[str], bool] = lambda _: True) -> list[str]:
    """So many notations that VEP leaves out, and that are `wanted`."""
    candidates = (f"NM_000546.6:c.{number}A>G" for number in itertools.count(4))
    left_out = (n for n in candidates if not is_readable(n) and wanted(n))
    return list(itertools.islice(left_out, count))


def is_readable(notation: str) -> bool:
    return not isinstance(read(notation), str)


def mismatched(notation: str) -> bool:
    return "does not match reference allele" in str(read(notation))


def kinds(answers: Answers, notations: Collection[str]) -> set[type]:
    return {type(answers.outcomes[notation]) for notation in notations}


def test_each_notation_gets_its_own_transcripts_consequence(ensembl: Ensembl) -> None:
    refseq, of_ensembl = readable(450), readable(250, "ENST00000357654.9")
    # The echo of a notation lacks its blanks.
    spaced = {refseq[0]: refseq[0].replace(":", ": ")}
    asked = [spaced.get(notation, notation) for notation in [*refseq, *of_ensembl, *refseq]]

    answers = ensembl.ask(asked)

    assert answers.release == str(RELEASE)
    assert answers.gave_up is None
    assert set(answers.outcomes) == set(asked)
    # 450 take three requests for RefSeq's transcripts, 250 take two for Ensembl's.
    assert ensembl.posts() == 3 + 2
    for notation in [*refseq, *of_ensembl]:
        outcome = answers.outcomes[spaced.get(notation, notation)]
        assert isinstance(outcome, Consequence)
        variation = read(notation)
        assert isinstance(variation, Variation)
        own = {
            term
            for entry in entries(variation, refseq=notation.startswith("NM_"))
            for transcript in entry["transcript_consequences"]
            if query_of(f"{transcript['transcript_id']}:").transcript
            == query_of(notation).transcript
            for term in transcript["consequence_terms"]
        }
        assert outcome.term in own
        assert outcome.source is Source.TRANSCRIPT
    assert any(
        o.term == "missense_variant"
        for o in answers.outcomes.values()
        if isinstance(o, Consequence)
    )


def test_a_place_on_a_chromosome_has_the_worst_of_all_transcripts(ensembl: Ensembl) -> None:
    notations = [f"NC_000017.11:g.{43_000_000 + number}del" for number in range(100)]

    answers = ensembl.ask(notations)

    found = [answers.outcomes[notation] for notation in notations]
    assert all(isinstance(o, Consequence) and o.source is Source.MOST_SEVERE for o in found)
    terms = {o.term for o in found if isinstance(o, Consequence)}
    assert terms >= {"intergenic_variant", "regulatory_region_variant", "frameshift_variant"}


def test_no_change_is_answered_here(ensembl: Ensembl) -> None:
    answers = ensembl.ask(["NM_000314.8:c.5=", "NC_000017.11:g.43000000="])

    assert set(answers.outcomes.values()) == {Consequence("no_change", Source.REFERENCE_IDENTICAL)}
    assert answers.release == str(RELEASE)
    assert ensembl.posts() == 0


def test_what_vep_leaves_out_is_recoded(ensembl: Ensembl) -> None:
    recoded = unreadable(60, lambda n: recode(n) is not None and is_readable(_place(n)))
    lost = unreadable(5, mismatched)

    answers = ensembl.ask([*readable(150), *recoded, *lost])

    assert ensembl.posts("/variant_recoder/") >= 2, "50 a request at most"
    assert kinds(answers, recoded) == {Consequence}
    for notation in recoded:
        outcome = answers.outcomes[notation]
        assert isinstance(outcome, Consequence)
        assert outcome.recoded_as == (_place(notation),)
    assert kinds(answers, lost) == {Absent}


def _place(notation: str) -> str:
    alleles = recode(notation) or {}
    return next(
        str(place)
        for allele in alleles.values()
        if isinstance(allele, dict)
        for place in allele["hgvsg"]
        if place.startswith("NC_")
    )


@pytest.mark.parametrize(
    ("kind", "outcome", "says"),
    [
        ("error_entry", Refused, "Switched on in the simulator."),
        ("input_only", Absent, "VEP skipped it."),
        ("garbled", Malformed, "transcript_consequences"),
        ("stray", Malformed, "an entry of no notation that was asked"),
    ],
)
def test_an_odd_entry_is_its_own_notations_alone(
    ensembl: Ensembl, kind: str, outcome: type, says: str
) -> None:
    notations = readable(200)
    hit = notations[150]
    ensembl.fail(kind, body=hit)

    answers = ensembl.ask(notations)

    assert kinds(answers, [hit]) == {outcome}
    assert says in str(answers.outcomes[hit])
    assert kinds(answers, set(notations) - {hit}) == {Consequence}


def test_one_that_fails_its_whole_batch_is_found(ensembl: Ensembl) -> None:
    good = readable(195)
    unknown = unreadable(2, lambda n: not mismatched(n) and recode(n) is None)
    bad = [*unreadable(3, mismatched), *unknown]
    ensembl.fail("first_bad")

    answers = ensembl.ask([*bad, *good])

    assert kinds(answers, good) == {Consequence}
    for notation in bad:
        refused = answers.outcomes[notation]
        assert isinstance(refused, Refused)
        assert notation in refused.message
        assert refused.category is (
            FailureCategory.REFERENCE_MISMATCH
            if mismatched(notation)
            else FailureCategory.INVALID_HGVS
        )
    assert ensembl.posts() < 30, "not each one alone"


def test_a_batch_of_nothing_but_bad_ones_has_each_ones_reason(ensembl: Ensembl) -> None:
    bad = unreadable(40, lambda n: recode(n) is None)

    answers = ensembl.ask(bad)

    assert kinds(answers, bad) == {Refused}
    assert all(notation in str(answers.outcomes[notation]) for notation in bad)
    assert ensembl.posts() <= len(bad)


def test_so_many_bad_ones_that_asking_each_alone_would_never_end(ensembl: Ensembl) -> None:
    bad = unreadable(600)

    answers = ensembl.ask(bad)

    assert kinds(answers, bad) <= {Refused, Consequence, Absent}
    assert any("sent together" in str(outcome) for outcome in answers.outcomes.values())
    assert ensembl.posts() < REFUSALS_LOOKED_INTO + 20


def test_a_request_that_takes_too_long_is_made_smaller(ensembl: Ensembl) -> None:
    notations = readable(300)
    ensembl.fail("too_slow")

    answers = ensembl.ask(notations)

    assert kinds(answers, notations) == {Consequence}
    # 200 and 100 take too long, and so do 100 twice; 50 do not.
    assert ensembl.posts() == 2 + 2 + 2 + 4


def test_a_smaller_limit_than_it_was_is_met() -> None:
    notations = readable(200)
    with serving(most_notations=60, requests_a_second=1_000) as stricter:
        assert kinds(stricter.ask(notations), notations) == {Consequence}


HTML = "<html><head><title>503 Service Unavailable</title></head><body>&nbsp;</body></html>"
UNAVAILABLE = FailureCategory.SERVICE_UNAVAILABLE
PACKED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("fault", "category", "says"),
    [
        ({"kind": "status", "status": 503, "body": HTML}, UNAVAILABLE, "503 Service Unavailable"),
        ({"kind": "status", "status": 500}, UNAVAILABLE, "HTTP 500"),
        ({"kind": "malformed"}, UNAVAILABLE, "not a JSON array"),
        ({"kind": "malformed", "body": '{"a": 1}'}, UNAVAILABLE, "not a JSON array"),
        ({"kind": "truncate"}, UNAVAILABLE, "unusable"),
        ({"kind": "status", "status": 200, "headers": PACKED}, UNAVAILABLE, "cannot be unpacked"),
        ({"kind": "reset"}, FailureCategory.NETWORK_ERROR, "broke"),
    ],
)
def test_a_batch_that_fails_is_tried_again_and_then_fails_alone(
    ensembl: Ensembl, fault: dict[str, Any], category: FailureCategory, says: str
) -> None:
    notations = readable(300)
    ensembl.fail(**fault, match="/vep/", times=TRIES - 1)
    assert kinds(ensembl.ask(notations, ONE_AT_A_TIME), notations) == {Consequence}

    ensembl.fail(**fault, match="/vep/", times=TRIES)
    answers = ensembl.ask(notations, ONE_AT_A_TIME)

    failed = {n for n, outcome in answers.outcomes.items() if isinstance(outcome, NotAnswered)}
    assert len(failed) == 200
    assert kinds(answers, set(notations) - failed) == {Consequence}
    assert answers.gave_up is None
    outcome = answers.outcomes[failed.pop()]
    assert isinstance(outcome, NotAnswered)
    assert outcome.error.category is category
    assert says in str(outcome.error)


def test_a_service_that_is_down_is_left_alone(ensembl: Ensembl) -> None:
    ensembl.fail("status", status=503, body=HTML, match="/vep/")

    error = ensembl.refusal(readable(4_000))

    assert error.category is FailureCategory.SERVICE_UNAVAILABLE
    assert "503 Service Unavailable" in str(error)
    assert FAILURES_IN_A_ROW <= ensembl.posts() <= FAILURES_IN_A_ROW + MANNERS.concurrent_requests
    ensembl.fail("status", status=503, body=HTML)
    ensembl.refusal(readable(4_000))
    assert ensembl.requests("GET", "/info/software") == 1 + TRIES


@pytest.mark.parametrize("status", [200, 504])
def test_a_failing_recoder_is_no_absence(ensembl: Ensembl, status: int) -> None:
    good, left_out = readable(150), unreadable(4)
    ensembl.fail("status", status=status, body=HTML, match="/variant_recoder/")

    answers = ensembl.ask([*good, *left_out])

    assert kinds(answers, good) == {Consequence}
    assert kinds(answers, left_out) == {NotAnswered}
    assert answers.gave_up is None


@pytest.mark.parametrize(
    ("fault", "category", "says"),
    [
        (BLACKLISTED, FailureCategory.QUOTA_EXCEEDED, "at least two hours"),
        (
            {"kind": "status", "status": 429, "headers": {"Retry-After": "1800.0"}},
            FailureCategory.API_RATE_LIMITED,
            "1,800 s",
        ),
        ({"kind": "status", "status": 404}, FailureCategory.CONFIGURATION_ERROR, "ENSEMBL_API_URL"),
        (
            {"kind": "status", "status": 400, "body": '{"error": " Cannot find key in your POST"}'},
            FailureCategory.CONFIGURATION_ERROR,
            "in your POST",
        ),
    ],
)
def test_a_refusal_of_all_that_we_ask_ends_the_asking(
    ensembl: Ensembl, fault: dict[str, Any], category: FailureCategory, says: str
) -> None:
    ensembl.fail(**fault, match="/vep/")

    error = ensembl.refusal(readable(1_000), ONE_AT_A_TIME)

    assert error.category is category
    assert says in str(error)
    assert ensembl.posts() == 1


def test_what_was_answered_before_a_refusal_is_kept(ensembl: Ensembl) -> None:
    notations = readable(600)

    def blacklist_after_the_first(done: int, _total: int, _message: str) -> None:
        if done == 200:
            ensembl.fail(**BLACKLISTED)

    answers = ensembl.ask(notations, ONE_AT_A_TIME, on_progress=blacklist_after_the_first)

    assert answers.gave_up is not None
    assert answers.gave_up.retry_after_seconds == 7_200
    assert answers.gave_up.category not in RETRYABLE, "not before two hours are over"
    answered = [o for o in answers.outcomes.values() if isinstance(o, Consequence)]
    assert len(answered) == 200
    assert kinds(answers, notations) == {Consequence, NotAnswered}
    assert answers.release == str(RELEASE)


def test_a_release_that_comes_meanwhile_counts_as_the_older_one(ensembl: Ensembl) -> None:
    ensembl.fail("release", body="115", times=1)
    assert ensembl.ask(readable(1)).release == "115"
    ensembl.fail("release", body="115", match="/info/software")
    assert ensembl.ask(readable(1)).release == "115"


def test_short_waits_that_it_asks_for_are_kept() -> None:
    notations = readable(40)
    with serving(most_notations=5, requests_a_second=5) as busy:
        answers = busy.ask(notations)
        assert kinds(answers, notations) == {Consequence}


def test_an_hours_last_request_is_the_last() -> None:
    with serving(requests_an_hour=3) as exhausted:
        answers = exhausted.ask(readable(900), ONE_AT_A_TIME)

        assert answers.gave_up is not None
        assert answers.gave_up.category is FailureCategory.API_RATE_LIMITED
        assert (answers.gave_up.retry_after_seconds or 0) > 60
        assert sum(isinstance(o, Consequence) for o in answers.outcomes.values()) == 400
        assert exhausted.posts() + exhausted.requests("GET", "/info/software") == 3


def test_no_server_and_no_url_are_told_apart() -> None:
    with pytest.raises(ServiceError) as caught:
        consequences("http://127.0.0.1:9", readable(1), MANNERS)
    assert caught.value.category is FailureCategory.NETWORK_ERROR
    with pytest.raises(ConfigurationError, match="ENSEMBL_API_URL"):
        consequences("http://host:port", readable(1), MANNERS)
