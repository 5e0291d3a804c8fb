"""Who asks over HTTP, and whether they may: the dependencies of the routes.

A program sends its token as `Authorization: Bearer TOKEN`. A browser gives it once, in the form at
/sign-in, and has from then on a signed session in a cookie, never the token. Nobody else is let in:
without any configured token all requests are answered 401.

MaveDB, which mounts `mavedb_audit.api`, puts dependencies of its own in their place.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from itsdangerous import BadSignature, URLSafeTimedSerializer

from mavedb_audit.settings import settings
from mavedb_audit.tokens import Role, StoredToken, User, stored_token, stored_tokens

SESSION_COOKIE = "mavedb_audit_session"
#: Where a write that a browser's cookie authorizes must repeat its session's CSRF token: in this
#: header, or in this field of a form.
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"

_SESSION_SECONDS = 12 * 60 * 60
_NOBODY_MAY = (
    "No tokens are configured, so nobody may ask. Make one with `mavedb-audit token NAME --role"
    " read`, and put the line that it prints into the file of AUDIT_API_TOKENS_FILE"
)
_WHO = "Give a token: Authorization: Bearer TOKEN. `mavedb-audit token NAME` makes one"

_bearer = HTTPBearer(
    scheme_name="token",
    description="A token that `mavedb-audit token NAME --role read|operate` made.",
    auto_error=False,
)
_cookie = APIKeyCookie(
    name=SESSION_COOKIE,
    scheme_name="session",
    description=f"A browser that signed in. Writes need the header {CSRF_HEADER}, too.",
    auto_error=False,
)


@dataclass(frozen=True)
class Caller:
    """Who asks. `csrf_token` is their session's, for forms; None for who sent a bearer token."""

    user: User
    csrf_token: str | None


def caller(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    session: Annotated[str | None, Security(_cookie)],
) -> Caller:
    """Who asks. Raises 401 for nobody that is known."""
    if bearer is not None:
        stored = stored_token(bearer.credentials)
        found = None if stored is None else Caller(stored.user, None)
    else:
        found = None if session is None else _of_session(session)
    if found is None:
        raise HTTPException(
            status_code=401,
            detail=_WHO if stored_tokens() else _NOBODY_MAY,
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found


def reader(found: Annotated[Caller, Depends(caller)]) -> User:
    """Who may look at everything."""
    return _require(found.user, Role.READ)


async def operator(request: Request, found: Annotated[Caller, Depends(caller)]) -> User:
    """Who may change something. A browser's request must come from our own pages."""
    user = _require(found.user, Role.OPERATE)
    if found.csrf_token is not None:
        require_same_origin(request)
        given = await _given_csrf_token(request)
        if not secrets.compare_digest(given.encode(), found.csrf_token.encode()):
            raise HTTPException(
                status_code=403,
                detail=f"The header {CSRF_HEADER}, or a form's {CSRF_FIELD}, is missing or of"
                " another session: load the page again",
            )
    return user


def require_same_origin(request: Request) -> None:
    """Raises 403 unless the browser says that one of our own pages sent the request."""
    site = request.headers.get("sec-fetch-site")
    host = request.headers.get("host")
    is_ours = (
        site == "same-origin"
        if site is not None
        else request.headers.get("origin") in (f"http://{host}", f"https://{host}")
    )
    if not is_ours:
        raise HTTPException(
            status_code=403, detail="This request comes from another site than the page's own"
        )


def sign_in(request: Request, response: Response, token: str) -> bool:
    """Set a session's cookie on the response, unless the token is none that is configured."""
    stored = stored_token(token)
    if stored is None:
        return False
    response.set_cookie(
        SESSION_COOKIE,
        _signer().dumps({"token": _name_of(stored), "csrf": secrets.token_urlsafe(32)}),
        max_age=_SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return True


def sign_out(response: Response) -> None:
    """Take the session's cookie away. It stays valid where it was copied, until it is too old."""
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")


def _of_session(cookie: str) -> Caller | None:
    """Who signed in, while the token of then is configured still; None for no session of ours."""
    try:
        session = _signer().loads(cookie, max_age=_SESSION_SECONDS)
    except BadSignature:
        return None
    for stored in stored_tokens():
        if _name_of(stored) == session["token"]:
            return Caller(stored.user, session["csrf"])
    return None


def _signer() -> URLSafeTimedSerializer:
    digests = "".join(sorted(stored.digest for stored in stored_tokens()))
    return URLSafeTimedSerializer(
        settings().audit_session_key or digests,
        salt="mavedb-audit session",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _name_of(stored: StoredToken) -> str:
    """What a session calls the token by which it began. It tells nothing of the token."""
    return hashlib.sha256(f"session of {stored.digest}".encode()).hexdigest()[:16]


async def _given_csrf_token(request: Request) -> str:
    given = request.headers.get(CSRF_HEADER)
    if given is None and "form" in request.headers.get("content-type", ""):
        given = str((await request.form()).get(CSRF_FIELD, ""))
    return given or ""


def _require(user: User, role: Role) -> User:
    if not user.role.includes(role):
        raise HTTPException(
            status_code=403,
            detail=f"{user.name} has the role {user.role}, and this needs the role {role}",
        )
    return user
