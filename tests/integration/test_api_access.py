"""Who is let in over HTTP: by token, by a browser's session, from our own pages alone."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from mavedb_audit.access import CSRF_FIELD, CSRF_HEADER, SESSION_COOKIE
from mavedb_audit.settings import settings
from mavedb_audit.tokens import Role, new_token
from tests.support_command import run_command
from tests.support_http import AuditServer, bearer

SYSTEM = "/api/v1/system"
RERUN = "/api/v1/score-sets/urn:mavedb:none/rerun-failed"
UNKNOWN_SCORE_SET = 404


@contextmanager
def signed_in(server: AuditServer, token: str) -> Iterator[httpx.Client]:
    """A browser, which says where a request comes from and keeps its cookies."""
    with httpx.Client(base_url=server.url, headers={"Sec-Fetch-Site": "same-origin"}) as browser:
        answer = browser.post("/sign-in", data={"token": token, "to": "/system"})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/system"
        yield browser


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer é"},
        {"Authorization": "Basic cml0YTpyaXRh"},
        {"Cookie": f"{SESSION_COOKIE}=eyJ0b2tlbiI6IngifQ.x.x"},
    ],
)
def test_nobody_unknown_is_let_in(audit_server: AuditServer, headers: dict[str, str]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, path in (("GET", SYSTEM), ("POST", RERUN)):
        answer = audit_server.stranger.request(method, path, headers=encoded)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer" in answer.json()["detail"]


def test_a_digest_is_no_token(audit_server: AuditServer) -> None:
    line = audit_server.tokens_file.read_text().splitlines()[-1]
    digest = line.split()[-1]
    assert audit_server.stranger.get(SYSTEM, headers=bearer(digest)).status_code == 401


def test_without_any_token_configured_the_answer_says_how_to_make_one(
    audit_server: AuditServer,
) -> None:
    audit_server.tokens_file.write_text("")
    answer = audit_server.reader.get(SYSTEM)
    assert answer.status_code == 401
    assert "AUDIT_API_TOKENS_FILE" in answer.json()["detail"]


def test_who_may_read_may_not_operate(audit_server: AuditServer) -> None:
    assert audit_server.reader.get(SYSTEM).status_code == 200
    refused = audit_server.reader.post(RERUN)
    assert refused.status_code == 403
    assert refused.json() == {"detail": "rita has the role read, and this needs the role operate"}


def test_who_may_operate_may_read(audit_server: AuditServer) -> None:
    assert audit_server.operator.get(SYSTEM).status_code == 200


def test_a_token_is_given_and_taken_back_without_a_restart(audit_server: AuditServer) -> None:
    token, line = new_token("later", Role.READ)
    before = audit_server.tokens_file.read_text()
    assert audit_server.stranger.get(SYSTEM, headers=bearer(token)).status_code == 401
    audit_server.tokens_file.write_text(f"{before}{line}\n")
    assert audit_server.stranger.get(SYSTEM, headers=bearer(token)).status_code == 200
    audit_server.tokens_file.write_text(before)
    assert audit_server.stranger.get(SYSTEM, headers=bearer(token)).status_code == 401


def test_a_token_of_the_command_lets_in_by_the_line_that_it_prints(
    audit_server: AuditServer,
) -> None:
    made = run_command("token", "ada", "--role", "operate")
    assert made.returncode == 0
    line = made.stderr.partition("AUDIT_API_TOKENS_FILE: ")[2]
    assert line.startswith("ada operate ")
    audit_server.tokens_file.write_text(line)
    headers = bearer(made.stdout.strip())
    assert audit_server.stranger.get(SYSTEM, headers=headers).status_code == 200
    refused = run_command("token", "ada; eve")
    assert refused.returncode == 2
    assert refused.stdout == ""


def test_tokens_of_the_environment_are_as_good(
    audit_server: AuditServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, another = new_token("one", Role.READ), new_token("another", Role.OPERATE)
    monkeypatch.setenv("AUDIT_API_TOKENS", f"{one[1]}; {another[1]}")
    settings.cache_clear()
    for token, _ in (one, another):
        assert audit_server.stranger.get(SYSTEM, headers=bearer(token)).status_code == 200


def test_a_broken_file_lets_nobody_in_and_shows_nobody_what_it_holds(
    audit_server: AuditServer,
) -> None:
    audit_server.tokens_file.write_text("rita read not-a-digest\n")
    answer = audit_server.reader.get(SYSTEM)
    assert answer.status_code == 503
    assert "not-a-digest" not in answer.text
    assert str(audit_server.tokens_file) not in answer.text


def test_a_browser_gets_to_the_form_and_back(audit_server: AuditServer) -> None:
    page = {"Accept": "text/html"}
    answer = audit_server.stranger.get("/api/v1/system?by=me", headers=page)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?to=/api/v1/system%3Fby%3Dme"
    form = audit_server.stranger.get(answer.headers["location"], headers=page)
    assert form.status_code == 200
    assert 'value="/api/v1/system?by=me"' in form.text


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "//["]
)
def test_signing_in_leads_to_no_other_site(audit_server: AuditServer, elsewhere: str) -> None:
    answer = audit_server.stranger.post(
        "/sign-in",
        data={"token": audit_server.reader_token, "to": elsewhere},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.headers["location"] == "/"


def test_a_wrong_token_begins_no_session(audit_server: AuditServer) -> None:
    answer = audit_server.stranger.post(
        "/sign-in", data={"token": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_cookie_is_for_this_site_alone_and_never_the_token(audit_server: AuditServer) -> None:
    answer = audit_server.stranger.post(
        "/sign-in",
        data={"token": audit_server.operator_token},
        headers={"Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"},
    )
    cookie = answer.headers["set-cookie"]
    assert {"httponly", "samesite=strict", "secure", "path=/"} <= set(cookie.lower().split("; "))
    assert audit_server.operator_token not in cookie
    with signed_in(audit_server, audit_server.operator_token) as over_http:
        assert over_http.cookies[SESSION_COOKIE]


def test_a_session_reads_and_ends(audit_server: AuditServer) -> None:
    with signed_in(audit_server, audit_server.reader_token) as browser:
        assert browser.get(SYSTEM).status_code == 200
        assert browser.post("/sign-out").headers["location"] == "/sign-in"
        assert browser.get(SYSTEM).status_code == 401


def test_a_session_ends_with_its_token(audit_server: AuditServer) -> None:
    _, line = new_token("another", Role.READ)
    with signed_in(audit_server, audit_server.reader_token) as browser:
        audit_server.tokens_file.write_text(line)
        assert browser.get(SYSTEM).status_code == 401


def test_with_a_key_a_session_outlives_other_tokens(
    audit_server: AuditServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_SESSION_KEY", "a key that several servers share")
    settings.cache_clear()
    with signed_in(audit_server, audit_server.reader_token) as browser:
        _, line = new_token("another", Role.READ)
        lines = audit_server.tokens_file.read_text()
        audit_server.tokens_file.write_text(f"{lines}{line}\n")
        assert browser.get(SYSTEM).status_code == 200
        audit_server.tokens_file.write_text(line)
        assert browser.get(SYSTEM).status_code == 401


def test_a_session_is_over_after_half_a_day(
    audit_server: AuditServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with signed_in(audit_server, audit_server.reader_token) as browser:
        # Of a client that keeps cookies for ever.
        kept = {"Cookie": f"{SESSION_COOKIE}={browser.cookies[SESSION_COOKIE]}"}
    signed_in_at = time.time()
    assert audit_server.stranger.get(SYSTEM, headers=kept).status_code == 200
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: signed_in_at + 12 * 3600 + 5)
    assert audit_server.stranger.get(SYSTEM, headers=kept).status_code == 401


@pytest.fixture
def csrf_token(monkeypatch: pytest.MonkeyPatch) -> str:
    """What the pages of each session repeat."""
    monkeypatch.setattr("mavedb_audit.access.secrets.token_urlsafe", lambda _bytes: "of-a-session")
    return "of-a-session"


def test_a_session_operates_from_our_own_pages(audit_server: AuditServer, csrf_token: str) -> None:
    with signed_in(audit_server, audit_server.operator_token) as browser:
        header = browser.post(RERUN, headers={CSRF_HEADER: csrf_token})
        assert header.status_code == UNKNOWN_SCORE_SET
        browser.headers.pop("Sec-Fetch-Site")  # as older browsers
        own = {"Origin": audit_server.url, CSRF_HEADER: csrf_token}
        assert browser.post(RERUN, headers=own).status_code == UNKNOWN_SCORE_SET


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "another site"),
        ({"Sec-Fetch-Site": "same-site"}, "another site"),
        ({"Sec-Fetch-Site": None, "Origin": "https://evil.example"}, "another site"),
        ({"Sec-Fetch-Site": None, "Origin": "null"}, "another site"),
        ({"Sec-Fetch-Site": None, "Origin": "http://["}, "another site"),
        ({"Sec-Fetch-Site": None}, "another site"),
        ({CSRF_HEADER: None}, CSRF_FIELD),
        ({CSRF_HEADER: "of-another-session"}, CSRF_HEADER),
        ({CSRF_HEADER: "é"}, CSRF_HEADER),
    ],
)
def test_a_session_operates_from_nowhere_else(
    audit_server: AuditServer, csrf_token: str, headers: dict[str, str | None], why: str
) -> None:
    with signed_in(audit_server, audit_server.operator_token) as browser:
        sent = {"Sec-Fetch-Site": "same-origin", CSRF_HEADER: csrf_token} | headers
        browser.headers.pop("Sec-Fetch-Site")
        given = {name: v.encode("latin-1") for name, v in sent.items() if v is not None}
        answer = browser.post(RERUN, headers=given)
    assert answer.status_code == 403
    assert why in answer.json()["detail"]


def test_the_form_takes_no_token_from_another_site(audit_server: AuditServer) -> None:
    answer = audit_server.stranger.post(
        "/sign-in",
        data={"token": audit_server.reader_token},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_what_is_open_to_all_tells_nothing(audit_server: AuditServer) -> None:
    assert audit_server.stranger.get("/health").json() == "ok"
    for path in ("/docs", "/redoc"):
        assert audit_server.reader.get(path).status_code == 404


def test_every_answer_keeps_to_itself(audit_server: AuditServer) -> None:
    for answer in (
        audit_server.reader.get(SYSTEM),
        audit_server.stranger.get(SYSTEM),
        audit_server.stranger.get("/sign-in"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_a_request_keeps_its_correlation_id_or_gets_one(audit_server: AuditServer) -> None:
    def correlation_id(given: str) -> str:
        answer = audit_server.reader.get(SYSTEM, headers={"X-Correlation-ID": given})
        return answer.headers["x-correlation-id"]

    assert correlation_id("of.my-own:17") == "of.my-own:17"
    made = correlation_id("<script>" + "x" * 100)
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_a_large_body_is_refused(audit_server: AuditServer) -> None:
    answer = audit_server.operator.post(RERUN, json={"reason": "x" * 100_000})
    assert answer.status_code == 413


def test_a_foreign_host_is_refused_where_hosts_are_named(
    audit_server: AuditServer,
    use_database: Callable[[str], None],
    domain_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mavedb_audit.server import app
    from tests.support_servers import served

    monkeypatch.setenv("AUDIT_HTTP_TRUSTED_HOSTS", '["audit.example.org"]')
    use_database(domain_database)
    with served(app()) as server:
        token = bearer(audit_server.reader_token)
        assert server.http.get(SYSTEM, headers=token).status_code == 400
        ours = {**token, "Host": "audit.example.org"}
        assert server.http.get(SYSTEM, headers=ours).status_code == 200
