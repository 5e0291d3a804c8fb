"""What `serve` logs, as a process of its own: one event a line, and no secret in any."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from mavedb_audit.logs import EVENTS
from mavedb_audit.trigger import request_pipeline
from tests.support import insert_numbered_variants, wait_until
from tests.support_serve import serving

#: Says everything in one process, as a service does that is set up with these secrets.
_SAY = """
import logging, sys
from mavedb_audit.logs import configure, logger_of, saying
from mavedb_audit.settings import settings
configure(settings())
logger = logger_of("mavedb_audit.example")
secrets = dict(line.split("=", 1) for line in sys.stdin.read().splitlines())
for name, secret in secrets.items():
    logging.getLogger("library").warning("says %s", secret)
    with saying(correlation_id="c-1", nothing=None):
        logger.info("pipeline.dispatched", pipeline_urn=secret)
    try:
        raise ValueError(f"no {secret}")
    except ValueError:
        logger.exception("service.loop_died", loop=[secret])
logger.info("pipeline.put_off", error='one\\ntwo "three"')
"""
SECRETS = {
    "DATABASE_URL": "postgresql://postgres:p%40ss%22word-one@127.0.0.1:9/mavedb",
    "GENBOREE_ACCOUNT_PASSWORD": 'genboree"pass\\word',
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/secret",
    "ALERT_WEBHOOK_URL": "https://hooks.example.org/secret",
    "ALERT_WEBHOOK_SECRET": "whsec_c2VjcmV0c2VjcmV0",
    "PREFECT_API_AUTH_STRING": "admin:prefectpass",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-access-key",
}
SHORT = "postgresql://someone:tiny@host/db"


def say(log_format: str) -> str:
    said = subprocess.run(
        [sys.executable, "-c", _SAY],
        input="".join(f"{name}={value}\n" for name, value in {**SECRETS, "SHORT": SHORT}.items())
        + 'PASSWORD=p@ss"word-one\n',
        env={"PATH": os.environ["PATH"], "LOG_FORMAT": log_format, **SECRETS},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout == "", "stdout is for data"
    return said.stderr


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_shows_a_secret(log_format: str) -> None:
    said = say(log_format)
    assert said.count("***") >= 3 * len(SECRETS)
    shown = [said, *(str(json.loads(line)) for line in said.splitlines() if log_format == "json")]
    for secret in (
        *("word-one", "genboree", "hooks.slack.com", "hooks.example.org", "c2Vj"),
        *("prefectpass", "aws-secret", "tiny"),
    ):
        assert all(secret not in text for text in shown), secret
    assert "someone" in said


def test_a_line_is_an_object_with_a_stable_event() -> None:
    lines = [json.loads(line) for line in say("json").splitlines()]
    assert {line["event"] for line in lines} <= set(EVENTS)
    library, ours, raised = lines[:3]
    assert library["message"] == "says postgresql://postgres:***@127.0.0.1:9/mavedb"
    assert (library["logger"], library["level"]) == ("library", "warning")
    assert ours["correlation_id"] == "c-1"
    assert "nothing" not in ours
    assert "ValueError: no postgresql://postgres:***@" in raised["exception"]
    assert raised["timestamp"].endswith("Z")
    assert lines[-1]["error"] == 'one\ntwo "three"'


def test_what_is_said_for_people_keeps_to_one_line() -> None:
    last = say("console").splitlines()[-1]
    assert "pipeline.put_off" in last
    assert r"one\ntwo" in last


def test_serve_tells_of_a_request_with_its_correlation_id(
    domain_database: str, tmp_path: Path
) -> None:
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        score_set_id, user_id = insert_numbered_variants(connection, 1)
        planned = request_pipeline(
            connection,
            "annotate_score_set",
            {"score_set_id": score_set_id, "updater_id": user_id},
            user_id,
            "correlation-17",
        )
    password = str(engine.url.password)
    log = tmp_path / "serve.log"

    def logged(event: str) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for line in log.read_text().splitlines(keepends=True)
            if line[-1] == "\n"
        ]
        return [line for line in lines if line["event"] == event]

    with serving(log, DATABASE_URL=domain_database.replace("+psycopg", "")) as service:
        (waits, *_) = wait_until(lambda: logged("pipeline.put_off"))
        wait_until(lambda: logged("prefect.interrupted"))
        with engine.begin() as connection:
            connection.execute(
                text(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()
                    """
                )
            )
        wait_until(lambda: logged("database.interrupted"))
    assert waits["correlation_id"] == "correlation-17"
    assert waits["pipeline_urn"] == planned.pipeline_urn
    assert waits["level"] == "warning"
    assert service.returncode == 0
    assert [line["event"] for line in map(json.loads, log.read_text().splitlines())][-1] == (
        "service.stopped"
    )
    assert len(password) > 8
    assert password not in log.read_text()
    engine.dispose()
