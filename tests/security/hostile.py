"""Servers that mean no good, each written to the socket byte by byte, and every client of ours."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from mavedb_audit.errors import ServiceError
from tasks.clients import clingen, clingen_alleles, ldh, uniprot, vep, vrs_mapper
from tasks.clients.clingen import Account
from tasks.clients.clinvar_archive import Archive, Release
from tasks.clients.ensembl import Manners
from tasks.clients.ldh import MappedVariant

ACCOUNT = Account("curator", "hunter2-password")
_VARIANT = MappedVariant("urn:mavedb:00000001-a-1#1", "", "NM_1.1:c.1A>G", 1.0, "", None, {}, "1")


@dataclass
class Hostile:
    """A server at `url` that has seen these `requests`, each with its head."""

    url: str
    requests: list[str] = field(default_factory=list)


#: Writes an answer, piece by piece; raises OSError once nobody reads it any more.
Answering = Callable[[Callable[[bytes], object], threading.Event], None]


@contextmanager
def hostile(answer: Answering) -> Iterator[Hostile]:
    """Serve whatever `answer` writes to each request, on a connection of its own."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen.requests.append(self.request.recv(65536).decode(errors="replace"))
            try:
                answer(self.request.sendall, over)
            except OSError:
                return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        seen = Hostile(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            server.shutdown()
            thread.join()


def _register(url: str, silent: float) -> None:
    clingen.register(
        url, ACCOUNT, ["NM_1.1:c.1A>G"], batch_size=9, connect_timeout=5, read_timeout=silent
    )


def _look_up(url: str, silent: float) -> None:
    clingen_alleles.fetch(
        url,
        ["CA1"],
        batch_size=9,
        concurrency=1,
        retry_delays=[],
        connect_timeout=5,
        read_timeout=silent,
    )


def _submit(url: str, silent: float) -> None:
    with ldh.connection(url, "t", ACCOUNT, connect_timeout=5, read_timeout=silent) as hub:
        outcome = hub.submit([_VARIANT])
    if isinstance(outcome, ldh.BatchFailed):
        raise outcome.error


def _map(url: str, silent: float) -> None:
    with vrs_mapper.map_score_set(
        url, "tmp:1", 1, connect_timeout=5, base_timeout=silent, timeout_per_variant=0
    ):
        pass


def _identify(url: str, silent: float) -> None:
    query = uniprot.query("NP_009225.1")
    assert query is not None
    with uniprot.connection(url, connect_timeout=5, read_timeout=silent) as client:
        uniprot.collect(client, {query: None}, patience_seconds=0)


def _predict(url: str, silent: float) -> None:
    manners = Manners(vep_timeout=silent, recoder_timeout=silent, retry_delays=())
    vep.consequences(url, ["NM_1.1:c.1A>G"], manners)


def _download(url: str, silent: float) -> None:
    Archive(url, 5, silent).download(Release(2026, 1), BytesIO(), lambda *_: None)


#: Each takes a service's address, and for how many seconds it may be silent.
CLIENTS = {
    "clingen": _register,
    "clingen look-up": _look_up,
    "linked data hub": _submit,
    "mapper": _map,
    "uniprot": _identify,
    "ensembl": _predict,
    "clinvar": _download,
}


def failure_of(client: str, url: str, *, silent: float = 30.0) -> ServiceError:
    """What the client raises when it is told that its service is there."""
    try:
        CLIENTS[client](url, silent)
    except ServiceError as error:
        return error
    raise AssertionError(f"{client} took the answer of {url}")
