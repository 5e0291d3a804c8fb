"""`mavedb-audit watch`, of a pipeline that goes on meanwhile. No Prefect."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support_cli import Played, play
from tests.support_command import COMMAND, run_command
from tests.support_recorder import CAR, GNOMAD


@pytest.fixture
def played(domain_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    played = play(domain_database, monkeypatch)
    yield played
    played.pipeline.engine.dispose()


@contextmanager
def watching(url: str, played: Played, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [COMMAND, "watch", played.urn, "--every", "0.1", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    return (json.loads(line) for line in process.stdout)


def test_each_change_is_a_line_until_the_end_and_success_is_exit_code_0(
    domain_database: str, played: Played
) -> None:
    pipeline = played.pipeline
    with watching(domain_database, played, "--output", "json") as process:
        seen = lines(process)
        first = next(line for line in seen if line["job_key"] == CAR)
        assert (first["job_status"], first["attempts"]) == ("queued", 1)
        assert next(seen)["pipeline_status"] == "running"
        attempt = pipeline.begin(CAR, pipeline.task_runs[CAR], 2)
        again = next(line for line in seen if line["job_key"] == CAR)
        assert (again["job_status"], again["attempts"]) == ("running", 2)
        pipeline.finish(attempt)
        pipeline.finish(pipeline.begin(GNOMAD))
        pipeline.flow("COMPLETED")
        rest = list(seen)
        assert process.wait(timeout=20) == 0
    assert {"succeeded"} == {line["job_status"] for line in rest if line["job_key"] == CAR}
    assert (rest[-1]["job_key"], rest[-1]["pipeline_status"]) == (None, "succeeded")


def test_a_failure_is_exit_code_1_and_its_last_line_says_so(
    domain_database: str, played: Played
) -> None:
    with watching(domain_database, played) as process:
        assert process.stdout is not None
        assert CAR in process.stdout.readline() + process.stdout.readline()
        played.end()
        rest = process.stdout.read().splitlines()
        assert process.wait(timeout=20) == 1
    assert f"{CAR} failed: ClinGen is down" in "\n".join(rest)
    assert rest[-1].endswith(f"{played.urn} is failed")


def test_what_has_ended_is_told_at_once(domain_database: str, played: Played) -> None:
    played.end()
    done = run_command("watch", played.urn, "--output", "json", DATABASE_URL=domain_database)
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["pipeline_status"] == "failed"
