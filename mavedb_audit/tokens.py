"""The tokens that let somebody ask over HTTP: who has one, and what it allows.

Only the SHA-256 of a token is stored. A token holds 256 random bits, so nobody finds it by trying.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mavedb_audit.errors import ConfigurationError, RequestError
from mavedb_audit.settings import settings

_FORM = "NAME ROLE SHA256, with the role read or operate; `mavedb-audit token NAME` makes one"


class Role(StrEnum):
    """What somebody may do: look at everything, or also pause, cancel and run again."""

    READ = "read"
    OPERATE = "operate"

    def includes(self, other: "Role") -> bool:
        return self is other or self is Role.OPERATE


@dataclass(frozen=True)
class User:
    """Who asks. What they change is recorded under `name`."""

    name: str
    role: Role


@dataclass(frozen=True)
class StoredToken:
    """A token as it is configured: whose it is, and its SHA-256 in hexadecimal digits."""

    user: User
    digest: str


def new_token(name: str, role: Role) -> tuple[str, str]:
    """A token, to be given to its owner and kept nowhere, and the line that lets it in."""
    if not name or name.startswith("#") or any(c.isspace() or c == ";" for c in name):
        raise RequestError(
            f"{name!r} cannot name a token: use a name without spaces and semicolons, such as an"
            " account's"
        )
    token = secrets.token_urlsafe(32)
    return token, f"{name} {role} {digest_of(token)}"


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def stored_tokens() -> Sequence[StoredToken]:
    """All tokens that AUDIT_API_TOKENS_FILE and AUDIT_API_TOKENS name now.

    The file is read each time, so that a token is given and taken back without a restart.
    Raises ConfigurationError that names the variable and the line.
    """
    return list(_stored_tokens())


def stored_token(token: str) -> StoredToken | None:
    """The one that was configured for it. Takes as long for a wrong token as for a right one."""
    digest = digest_of(token)
    found = None
    for stored in stored_tokens():
        if secrets.compare_digest(stored.digest, digest):
            found = stored
    return found


def _stored_tokens() -> Iterator[StoredToken]:
    file = settings().audit_api_tokens_file
    if file:
        try:
            lines = Path(file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"AUDIT_API_TOKENS_FILE cannot be read: {error}") from None
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield _parse(line, f"AUDIT_API_TOKENS_FILE, line {number}")
    for number, entry in enumerate((settings().audit_api_tokens or "").split(";"), 1):
        if entry.strip():
            yield _parse(entry, f"AUDIT_API_TOKENS, entry {number}")


def _parse(line: str, where: str) -> StoredToken:
    """The message never holds the line: it may be a token that was written there by mistake."""
    match line.split():
        case [name, ("read" | "operate") as role, digest] if _is_digest(digest):
            return StoredToken(User(name, Role(role)), digest.lower())
    raise ConfigurationError(f"{where} is not {_FORM}")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text.lower())
