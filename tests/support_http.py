"""Our own HTTP server in the test's process, on a port of this machine, and who may ask it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from mavedb_audit.server import app
from mavedb_audit.tokens import Role, new_token
from tests.support_servers import served


@dataclass(frozen=True)
class AuditServer:
    """Where it is, and its clients: one that may read, one that may operate, one of a stranger."""

    url: str
    tokens_file: Path
    reader_token: str
    operator_token: str
    reader: httpx.Client
    operator: httpx.Client
    stranger: httpx.Client


def write_tokens(file: Path) -> tuple[str, str]:
    """Write the lines of two tokens: `rita` may read, `otto` operate. Gives the tokens."""
    reader_token, reader_line = new_token("rita", Role.READ)
    operator_token, operator_line = new_token("otto", Role.OPERATE)
    file.write_text(f"# who may ask\n{reader_line}\n\n{operator_line}\n")
    return reader_token, operator_token


@contextmanager
def audit_served(
    tokens_file: Path, reader_token: str, operator_token: str
) -> Iterator[AuditServer]:
    """The server under the settings of this process."""
    with (
        served(app()) as server,
        httpx.Client(base_url=server.url, headers=bearer(reader_token)) as reader,
        httpx.Client(base_url=server.url, headers=bearer(operator_token), timeout=60) as operator,
        httpx.Client(base_url=server.url) as stranger,
    ):
        yield AuditServer(
            server.url, tokens_file, reader_token, operator_token, reader, operator, stranger
        )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
