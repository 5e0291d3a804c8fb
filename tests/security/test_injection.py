"""Words of curators and services that are meant for a database, a terminal or a log."""

import json
import logging
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text

from deployments.local.submission import insert_score_set
from mavedb_audit.errors import RequestError, StepError
from mavedb_audit.failures import FailureCategory, classify
from mavedb_audit.texts import storable
from tasks.clients import http
from tests.security.hostile import CLIENTS, failure_of, hostile
from tests.support_command import run_command

#: Clears the screen, sets the window's title, and writes a line that looks like another's.
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\rroot: all is well\n2026-01-01 INFO serve: succeeded\x00"
BIDI = "\u202egnp.exe\u2066"
SQL = "'; DROP TABLE variants; --"
MARKUP = "[bold red]failed[/] [link=http://127.0.0.1:9]here[/link] [/nothing]"


def is_harmless(said: str) -> bool:
    return said.isprintable()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [401, 500])
def test_a_services_words_become_one_harmless_line(client: str, status: int) -> None:
    words = f"{ESCAPES}{BIDI}{SQL}{MARKUP}"
    body = json.dumps(
        {
            # As one service or another says what is wrong.
            "errorType": "InternalServerError",
            "message": words,
            "description": words,
            "inputLine": words,
            "errMsg": words,
            "error": words,
            "detail": words,
            "messages": [words],
            "error_message": words,
            "jobStatus": "ERROR",
            "errors": [{"code": 50, "message": words}],
        },
        ensure_ascii=False,
    ).encode()

    def answer(send: Callable[[bytes], object], _over: threading.Event) -> None:
        head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        send(head.encode() + body)

    with hostile(answer) as service:
        error = failure_of(client, service.url)
    failure = classify(error)
    assert is_harmless(str(error))
    assert is_harmless(failure.message)
    assert is_harmless((failure.traceback or "").replace("\n", ""))


@pytest.mark.parametrize("words", [ESCAPES, BIDI, "a\x00b", "a\ud800b", "a\x85b\u2028c"])
def test_what_a_file_says_cannot_write_another_line(words: str) -> None:
    error = StepError(f"scores.csv, line 3: {words}", FailureCategory.VALIDATION_ERROR, [words])
    other = RequestError(words)
    failure = classify(error)
    assert is_harmless(str(error))
    assert is_harmless(str(other).replace("\n", ""))
    assert all(is_harmless(detail.replace("\n", "")) for detail in failure.details)
    assert storable(storable(words)) == storable(words)


def test_httpx_logs_no_password_and_no_token(caplog: pytest.LogCaptureFixture) -> None:
    answered = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with hostile(lambda send, _over: send(answered)) as service, http.Client("any") as client:
        address = service.url.replace("http://", "http://user:hunter2@")
        with caplog.at_level(logging.INFO, logger="httpx"):
            client.get(f"{address}/alleles?file=hgvs&gbLogin=me&gbTime=1&gbToken=abcdef")
    assert "HTTP Request: GET http://user:***@127.0.0.1" in caplog.text
    assert "gbToken=***" in caplog.text
    assert "hunter2" not in caplog.text
    assert "abcdef" not in caplog.text


@pytest.fixture
def titled(domain_database: str) -> str:
    """A database with a score set and a variant that are named to do harm."""
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        score_set_id, _ = insert_score_set(
            connection,
            urn=f"tmp:{SQL}",
            title=f"{ESCAPES[:-1]}{MARKUP}",
            target_name=f"{BIDI}{MARKUP}",
            sequence="ATGGCT",
            sequence_type="dna",
            user=f"{ESCAPES[:-1]}",
        )
        connection.execute(
            text(
                """
                INSERT INTO variants (urn, hgvs_nt, data, scoreset_id, creation_date,
                                      modification_date)
                VALUES (:urn, :hgvs, '{}', :id, CURRENT_DATE, CURRENT_DATE)
                """
            ),
            {"urn": f"tmp:{SQL}#1", "hgvs": f"c.1A>G{ESCAPES[:-1]}{MARKUP}", "id": score_set_id},
        )
    engine.dispose()
    return domain_database


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("why", f"tmp:{SQL}#1"),
        ("failures",),
        ("uploads", f"tmp:{SQL}"),
        ("history", f"tmp:{SQL}#1"),
        ("why", ESCAPES[:-1]),
        ("status", f"{MARKUP}{SQL}"),
    ],
)
def test_the_command_line_shows_names_and_does_what_it_was_asked(
    titled: str, command: tuple[str, ...]
) -> None:
    done = run_command(*command, DATABASE_URL=titled)
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    for printed in (done.stdout, done.stderr):
        assert is_harmless(printed.replace("\n", ""))
    engine = create_engine(titled)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM variants")).scalar_one() == 1
    engine.dispose()


def test_markup_in_a_name_is_shown_as_it_is_written(titled: str) -> None:
    shown = run_command("why", f"tmp:{SQL}#1", DATABASE_URL=titled).stdout
    assert MARKUP in shown.replace("\n", " ")
