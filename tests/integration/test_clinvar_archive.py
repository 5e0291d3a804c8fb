"""The archive's client against the simulated archive, over HTTP, in good and bad times."""

import gzip
import io
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from deployments.local.simulators.clinvar import create_app
from deployments.local.simulators.clinvar_releases import release_text
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients.clinvar_archive import Archive, Release
from tests.support_servers import Simulator, served

TODAY = datetime.now(UTC).date()
#: A file of several pieces, which no packing makes smaller.
CONTENT = gzip.compress(random.Random(1).randbytes(3_000_000))
OLD, NEW, NOT_THERE = Release(2019, 6), Release(TODAY.year, 1), Release(2018, 6)


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    files = {(release.year, release.month): CONTENT for release in (OLD, NEW)}
    with served(create_app(files)) as server:
        yield server


@pytest.fixture
def simulator(server: Simulator) -> Iterator[Simulator]:
    yield server
    server.reset()


def archive(simulator: Simulator, read_timeout: float = 20) -> Archive:
    return Archive(f"{simulator.url}/archive", connect_timeout=5, read_timeout=read_timeout)


def download(simulator: Simulator, release: Release, **options: Any) -> tuple[bytes, list[int]]:
    """The file, and the bytes that there were each time it told of them."""
    told: list[int] = []
    file = io.BytesIO()
    archive(simulator, **options).download(release, file, lambda done, _total: told.append(done))
    return file.getvalue(), told


def refusal(simulator: Simulator, release: Release = NEW, **options: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        download(simulator, release, **options)
    assert len(str(caught.value)) < 1_000
    return caught.value


@pytest.mark.parametrize(("release", "requests"), [(NEW, 1), (OLD, 2)], ids=["new", "old"])
def test_a_release_is_found_where_it_lies(
    simulator: Simulator, release: Release, requests: int
) -> None:
    content, told = download(simulator, release)
    assert content == CONTENT
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    assert simulator.requests("GET") == requests


def test_only_a_404_in_both_places_means_that_there_is_no_release(simulator: Simulator) -> None:
    error = refusal(simulator, NOT_THERE)
    assert (error.category, error.status_code) == (FailureCategory.DATA_ERROR, 404)
    assert "/archive/variant_summary_2018-06.txt.gz and " in str(error)
    assert "/archive/2018/variant_summary_2018-06.txt.gz" in str(error)

    simulator.reset()
    simulator.fail("status", status=503, match="archive/variant_summary")
    assert refusal(simulator, OLD).category is FailureCategory.SERVICE_UNAVAILABLE
    assert simulator.requests("GET") == 1


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (403, FailureCategory.SERVICE_UNAVAILABLE),
        (429, FailureCategory.API_RATE_LIMITED),
        (500, FailureCategory.SERVICE_UNAVAILABLE),
        (504, FailureCategory.TIMEOUT),
    ],
)
def test_a_refusal_is_worth_another_try_later(
    simulator: Simulator, status: int, category: FailureCategory
) -> None:
    simulator.fail("status", status=status, headers={"Retry-After": "7"})
    error = refusal(simulator)
    assert error.category is category
    assert category in RETRYABLE
    assert error.retry_after_seconds == 7
    assert simulator.requests("GET") == 1


def test_a_broken_connection_is_taken_up_where_it_ended(simulator: Simulator) -> None:
    simulator.fail("reset", times=2)
    content, told = download(simulator, NEW)
    assert content == CONTENT
    assert told == sorted(told), "it never began anew"
    assert simulator.requests("GET") == 3


def test_a_file_that_was_replaced_meanwhile_is_begun_anew(simulator: Simulator) -> None:
    simulator.fail("reset", times=1)
    simulator.fail("changed")
    content, told = download(simulator, NEW)
    assert content != CONTENT
    assert gzip.decompress(content) == gzip.decompress(CONTENT)
    assert told != sorted(told)


def test_connections_that_keep_breaking_are_given_up(simulator: Simulator) -> None:
    simulator.fail("reset")
    assert refusal(simulator).category is FailureCategory.NETWORK_ERROR
    assert simulator.requests("GET") == 4


def test_a_page_instead_of_a_file_is_an_outage(simulator: Simulator) -> None:
    simulator.fail("malformed", body="<html><title>Be right back</title></html>")
    error = refusal(simulator)
    assert error.category is FailureCategory.SERVICE_UNAVAILABLE
    assert "Be right back" in str(error)


def test_another_part_than_was_asked_for_is_refused(simulator: Simulator) -> None:
    simulator.fail("reset", times=1)
    simulator.fail("status", status=206, headers={"Content-Range": "bytes 0-9/10"}, body="x" * 10)
    error = refusal(simulator)
    assert error.category is FailureCategory.NETWORK_ERROR
    assert "another part" in str(error)


def test_the_time_limit_is_for_a_piece_and_not_for_the_file(simulator: Simulator) -> None:
    simulator.fail("drip", times=1)  # takes 4 seconds
    assert download(simulator, NEW, read_timeout=3)[0] == CONTENT
    assert simulator.requests("GET") == 1
    simulator.fail("slow", seconds=2)
    assert refusal(simulator, read_timeout=0.1).category is FailureCategory.TIMEOUT


def test_the_archive_refuses_nameless_agents(simulator: Simulator) -> None:
    url = f"{simulator.url}/archive/variant_summary_{NEW}.txt.gz"
    assert httpx.get(url).status_code == 503
    assert httpx.get(url, headers={"User-Agent": "MaveDB"}).status_code == 200


def test_the_newest_release_is_the_last_that_is_there(simulator: Simulator) -> None:
    assert archive(simulator).newest(TODAY) == NEW
    assert archive(simulator).newest(date(2020, 2, 29)) == OLD
    assert simulator.requests("GET") == 0
    with pytest.raises(ServiceError, match="CLINVAR_ARCHIVE_URL") as caught:
        archive(simulator).newest(date(2018, 1, 1))
    assert caught.value.category is FailureCategory.CONFIGURATION_ERROR
    simulator.fail("status", status=503)
    with pytest.raises(ServiceError) as caught:
        archive(simulator).newest(TODAY)
    assert caught.value.category is FailureCategory.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("url", ["ftp.ncbi.nlm.nih.gov", "http://host:port", "ftp://host/archive"])
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises((ConfigurationError, ServiceError)) as caught:
        Archive(url, 1, 1).download(NEW, io.BytesIO(), lambda _done, _total: None)
    assert caught.value.category is FailureCategory.CONFIGURATION_ERROR


def test_the_made_up_archive_has_every_past_month_and_not_this_one() -> None:
    with served(create_app()) as simulator:
        newest = archive(simulator).newest(TODAY)
        assert (newest.year * 12 + newest.month) == TODAY.year * 12 + TODAY.month - 1
        first, _ = download(simulator, Release(2015, 2))
        assert gzip.decompress(first).decode() == release_text(2015, 2)
        refusal(simulator, Release(2015, 1))
        refusal(simulator, Release(TODAY.year, TODAY.month))
