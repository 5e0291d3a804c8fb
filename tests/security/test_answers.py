"""Services that send us elsewhere, send too much, or never come to an end."""

import gzip
import itertools
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mavedb_audit.errors import StepError
from mavedb_audit.failures import RETRYABLE, FailureCategory
from tasks.clients import bounds, clinvar_archive, http, vrs_mapper
from tasks.clinvar import variant_summary
from tests.security.hostile import ACCOUNT, CLIENTS, Answering, failure_of, hostile

Send = Callable[[bytes], object]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CLINVAR_COLUMNS = (
    b"#AlleleID\tGeneSymbol\tClinicalSignificance\tAssembly\tReviewStatus\tVariationID"
)
CLOUD_SECRETS = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"


def redirect(status: int, location: str) -> Answering:
    def answer(send: Send, _over: threading.Event) -> None:
        send(
            f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\n"
            "Content-Length: 2\r\nConnection: close\r\n\r\n{}".encode()
        )

    return answer


def no_answer(_send: Send, _over: threading.Event) -> None:
    pass


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [302, 307])
def test_nobody_is_sent_to_another_host(client: str, status: int) -> None:
    with (
        hostile(no_answer) as elsewhere,
        hostile(redirect(status, f"{elsewhere.url}/?steal")) as service,
    ):
        error = failure_of(client, service.url)
        assert elsewhere.requests == []
    assert error.category not in RETRYABLE
    assert ACCOUNT.password not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("location", [CLOUD_SECRETS, "file:///etc/passwd", "http://[", "//::1:/"])
def test_nobody_is_sent_to_a_private_address(
    client: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever is asked that is not the service itself goes through this proxy, and is seen.
    with hostile(no_answer) as proxy, hostile(redirect(302, location)) as service:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        failure_of(client, service.url)
        assert proxy.requests == []


def test_the_pages_of_a_result_stay_on_the_host_that_was_set() -> None:
    job = '{"jobId": "1", "jobStatus": "FINISHED", "results": []}'

    with hostile(no_answer) as elsewhere:

        def answer(send: Send, _over: threading.Event) -> None:
            page = len(service.requests)
            link = f"Link: <{elsewhere.url}/more?{page}>; rel=next\r\n" if page < 9 else ""
            send(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(job)}\r\n"
                f"{link}Connection: close\r\n\r\n{job}".encode()
            )

        with hostile(answer) as service:
            CLIENTS["uniprot"](service.url, 30)
            assert "GET /more?8 HTTP/1.1" in "".join(service.requests)
        assert elsewhere.requests == []


def dripping(head: bytes, drip: bytes) -> Answering:
    """One byte at a time, each well within the time that a service may be silent."""

    def answer(send: Send, over: threading.Event) -> None:
        send(head)
        for byte in itertools.cycle(drip):
            send(bytes([byte]))
            if over.wait(0.1):
                return

    return answer


SLOW = {
    "headers": dripping(b"HTTP/1.1 200 OK\r\nX-Endless: ", b"a"),
    "body": dripping(OK + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunk's size": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "body without an end": dripping(OK + b"\r\n", b" "),
    "packed": dripping(
        OK + b"Content-Encoding: gzip\r\nContent-Length: 100000\r\n\r\n\x1f\x8b\x08\x08" + bytes(6),
        b"a",
    ),
}


#: One that waits in a thread, one in an event loop, and one that reads piece by piece.
KINDS_OF_CLIENT = ("clingen", "clingen look-up", "mapper")


@pytest.mark.parametrize(
    ("client", "part"),
    [*itertools.product(KINDS_OF_CLIENT, SLOW), *((client, "body") for client in CLIENTS)],
)
def test_an_answer_that_trickles_in_ends_at_its_deadline(
    client: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clinvar_archive, "_LONGEST_SECONDS", 1.0)  # hours
    began = time.monotonic()
    with hostile(SLOW[part]) as service:
        error = failure_of(client, service.url, silent=0.5)
    assert time.monotonic() - began < 10
    assert error.category is FailureCategory.TIMEOUT
    assert "not complete after 1 s" in str(error)


def endless(encoding: str, pieces: list[bytes]) -> Answering:
    """The pieces, then the last of them again and again."""

    def answer(send: Send, over: threading.Event) -> None:
        send(OK + f"Content-Encoding: {encoding}\r\nConnection: close\r\n\r\n".encode())
        for piece in pieces:
            send(piece)
        while not over.is_set():
            send(pieces[-1])

    return answer


def bomb() -> list[bytes]:
    """The beginning of a gzip stream, and what may be repeated: 64 MB of blanks in 64 kB each."""
    packer = zlib.compressobj(9, wbits=31)
    head = packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    return [head, packer.compress(b" " * 64_000_000) + packer.flush(zlib.Z_FULL_FLUSH)]


BOMBS = {"plain": endless("identity", [b" " * 1_000_000]), "gzip": endless("gzip", bomb())}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("kind", BOMBS)
def test_an_answer_without_an_end_is_not_read_to_it(
    client: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (clinvar_archive, vrs_mapper):  # they write gigabytes to the disk
        monkeypatch.setattr(module, "_MOST_BYTES", bounds.MOST_ANSWER_BYTES)
    with hostile(BOMBS[kind]) as service:
        error = failure_of(client, service.url)
    assert error.category is FailureCategory.DATA_ERROR
    assert f"more than the {bounds.MOST_ANSWER_BYTES:,} bytes that are taken" in str(error)


def test_a_bomb_takes_little_more_memory_than_an_answer_may() -> None:
    most_bytes = 10_000_000
    # The whole bomb in one answer: 640 MB.
    body = gzip.compress(b" " * 640_000_000, compresslevel=1)
    with (
        hostile(lambda send, _over: send(OK + b"Content-Encoding: gzip\r\n\r\n" + body)) as service,
        http.Client("bomb", most_bytes=most_bytes) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(bounds.AnswerTooLargeError):
                client.get(service.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # What 64 kB may unpack to comes on top, twice while it is handed on.
    assert peak < most_bytes + 2 * 68_000_000


def test_a_packing_that_nobody_asked_for_is_not_unpacked() -> None:
    with hostile(endless("br", [b"\x0b\x00\x80"])) as service:
        error = failure_of("clingen", service.url)
        assert "accept-encoding: gzip, deflate" in service.requests[0].lower()
    assert "'br', which nobody asked for" in str(error)


def test_a_client_works_on_after_an_answer_was_cut_off() -> None:
    answers = itertools.chain(
        [SLOW["body"]],
        itertools.repeat(lambda send, _over: send(OK + b"Content-Length: 2\r\n\r\n{}")),
    )
    with (
        hostile(lambda send, over: next(answers)(send, over)) as service,
        http.Client("cut", timeout=httpx.Timeout(5), longest_seconds=0.5) as client,
    ):
        with pytest.raises(bounds.AnswerTooSlowError):
            client.get(service.url)
        assert client.get(service.url).json() == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n" + b"\tA" * 5_000_000, "a line has 4,194,304 bytes or more"),
        (b"\n" + b"\t1\t2\n" * 2_000_000, "it goes on, and at most 8,388,608 are read"),
        (b"\tA" * 5_000_000, "a line has 100,000 bytes or more"),
    ],
    ids=["line", "file", "header"],
)
def test_a_release_that_would_fill_the_memory_is_not_unpacked(
    content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_summary, "_MOST_UNPACKED_BYTES", 8 * 1024**2)  # gigabytes
    file = tmp_path / "variant_summary.txt.gz"
    file.write_bytes(gzip.compress(CLINVAR_COLUMNS + content, compresslevel=1))
    with pytest.raises(StepError, match=said) as caught:
        variant_summary.read_summary(file, "2026-01")
    assert caught.value.category is FailureCategory.DATA_ERROR
