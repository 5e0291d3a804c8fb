"""The commands that look, as processes of their own, on a pipeline that failed. No Prefect."""

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support_cli import Played, play
from tests.support_command import run_command
from tests.support_recorder import CAR, GNOMAD

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def played(domain_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    played = play(domain_database, monkeypatch)
    played.end()
    yield played
    played.pipeline.engine.dispose()


@pytest.fixture
def run(domain_database: str) -> Run:
    return partial(run_command, DATABASE_URL=domain_database)


def test_status_lists_the_newest_pipelines_and_what_is_wrong(run: Run, played: Played) -> None:
    done = run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{played.urn}  annotate_score_set  failed" in done.stdout
    assert "Problem: 1 pipelines of the last day ended failed" in done.stdout
    found = json.loads(run("status", "--output", "json").stdout)
    assert found["system"]["pipelines_by_status"] == {"failed": 1}
    assert [pipeline["urn"] for pipeline in found["pipelines"]] == [played.urn]
    assert len(found["problems"]) == 1


def test_status_of_a_healthy_system_says_that_nothing_is_wrong(run: Run) -> None:
    done = run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing is wrong" in done.stdout


def test_status_of_a_pipeline_shows_its_steps_and_why_one_failed(run: Run, played: Played) -> None:
    done = run("status", played.urn)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [CAR, "failed", "2"] in [line[:3] for line in lines]
    assert [GNOMAD, "skipped"] in [line[:2] for line in lines]
    assert f"{CAR}: service_unavailable\n  ClinGen is down\n" in done.stdout
    found = json.loads(run("status", played.urn, "--output", "json").stdout)
    assert found["status"] == "failed"
    steps = {step["job_key"]: step for step in found["steps"]}
    assert (steps[CAR]["status"], steps[CAR]["attempts"]) == ("failed", 2)


def test_status_of_a_score_set_counts_its_variants_by_annotation_and_reason(
    run: Run, played: Played
) -> None:
    done = run("status", played.score_set_urn)
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["clingen_allele_id", "-", "3"] in rows
    assert "step_failed (failed): " in done.stdout
    assert "dependency_failure (skipped): " in done.stdout
    found = json.loads(run("status", played.score_set_urn, "--output", "json").stdout)
    by_reason = {count["reason"]: count["variants"] for count in found["counts"]}
    assert by_reason == {"step_failed": 3, "dependency_failure": 3}


def test_why_tells_the_chain_from_the_reason_to_what_to_do(run: Run, played: Played) -> None:
    done = run("why", f"{played.score_set_urn}#2", "--type", "clingen_allele_id")
    assert (done.returncode, done.stderr) == (0, "")
    job = played.pipeline.rows(f"SELECT urn FROM job_runs WHERE job_function = '{CAR}'")[0][0]
    assert "clingen_allele_id: failed (step_failed)\n" in done.stdout
    assert "It said: " in done.stdout
    assert "What to do: " in done.stdout
    assert f"UTC by {CAR}, {job} of {played.urn}\n" in done.stdout
    attempts = [line for line in done.stdout.splitlines() if line.startswith("    Attempt")]
    assert [line.split(",")[0] for line in attempts] == ["    Attempt 1", "    Attempt 2"]
    assert all("on here, failed (service_unavailable)" in line for line in attempts)
    assert all(line.endswith(": ClinGen is down") for line in attempts)


def test_why_as_json_is_of_the_types_that_were_asked_for(run: Run, played: Played) -> None:
    types = ("--type", "clingen_allele_id", "--type", "gnomad_allele_frequency")
    found = json.loads(run("why", "tmp:numbered#1", *types, "--output", "json").stdout)
    chapters = {c["annotation_type"]: c["reason"] for c in found["chapters"]}
    assert chapters == {
        "clingen_allele_id": "step_failed",
        "gnomad_allele_frequency": "dependency_failure",
    }
    assert played.urn in {chapter["pipeline_urn"] for chapter in found["chapters"]}


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("by", ["reason", "service", "score-set"])
def test_failures_exits_1_while_something_failed_stands(run: Run, by: str) -> None:
    done = run("failures", "--by", by, "--output", "json")
    assert done.returncode == 1
    groups = json.loads(done.stdout)
    assert sum(group["variants"] for group in groups) == 3
    listed = run("failures", "--by", by)
    assert listed.returncode == 1
    assert all(group["group"] in listed.stdout for group in groups)


def test_failures_exits_0_where_there_is_none(run: Run) -> None:
    done = run("failures")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "mavedb-audit: nothing failed\n"
    assert json.loads(run("failures", "--output", "json").stdout) == []


@pytest.mark.usefixtures("played")
def test_failures_since_a_later_day_are_none(run: Run) -> None:
    assert run("failures", "--since", "2999-01-01").returncode == 0


def test_history_is_in_the_order_of_time_with_attempts_and_states(run: Run, played: Played) -> None:
    found = json.loads(run("history", played.urn, "--output", "json").stdout)
    events = [(event["subject"], event["what"]) for event in found["events"]]
    assert ("flow", "Running") in events
    assert [e for e in events if e[0] == CAR][:3] == [
        (CAR, "began"),
        (CAR, "failed"),
        (CAR, "began"),
    ]
    times = [event["at"] for event in found["events"]]
    assert times == sorted(times)
    assert "ClinGen is down" in run("history", played.urn).stdout


def test_diff_says_what_a_release_brought(run: Run, played: Played) -> None:
    with played.pipeline.engine.begin() as connection:
        connection.execute(
            text(
                """
                INSERT INTO clinical_controls
                       (gene_symbol, clinical_significance, clinical_review_status, db_name,
                        db_identifier, db_version, creation_date, modification_date)
                VALUES ('ABC', 'Benign', 'practice guideline', 'ClinVar', '77', '01_2026',
                        CURRENT_DATE, CURRENT_DATE)
                """
            )
        )
        connection.execute(
            text(
                """
                INSERT INTO variant_annotation_status
                       (variant_id, annotation_type, version, status, failure_category,
                        success_data)
                VALUES (1, 'clinvar_control', '01_2025', 'skipped', 'no_clinvar_variant_data',
                        NULL),
                       (1, 'clinvar_control', '01_2026', 'success', NULL,
                        '{"clinvar_allele_id": "77"}')
                """
            )
        )
    releases = ("--from", "01_2025", "--to", "01_2026")
    found = json.loads(run("diff", "tmp:numbered", *releases, "--output", "json").stdout)
    assert (found["counts"]["gained"], found["counts"]["unknown"]) == (1, 2)
    assert [change["variant_urn"] for change in found["variants"]] == ["tmp:numbered#1"]
    done = run("diff", "tmp:numbered", *releases)
    assert done.returncode == 0
    assert "tmp:numbered#1" in done.stdout
    assert "77, Benign, practice guideline" in done.stdout


@pytest.mark.usefixtures("played")
def test_export_writes_both_files_once_and_again_only_when_told(run: Run, tmp_path: Path) -> None:
    asked = ("export", "tmp:numbered", "--folder", str(tmp_path / "out"))
    done = run(*asked)
    assert (done.returncode, done.stderr) == (0, "")
    files = [Path(line) for line in done.stdout.splitlines()]
    assert sorted((tmp_path / "out").iterdir()) == sorted(files)
    assert "tmp:numbered" in files[0].read_text()
    assert run(*asked).returncode == 2
    exported = json.loads(run(*asked, "--overwrite", "--output", "json").stdout)
    assert (exported["variants"], exported["rows"]) == (3, 6)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "urn:mavedb:pipeline-none"], "There is no pipeline urn:mavedb:pipeline-none"),
        (["status", "urn:mavedb:00000009-a-1"], "urn:mavedb:00000009-a-1"),
        (["status", "urn:mavedb:00000001-a-1#3"], "mavedb-audit why 'urn:mavedb:00000001-a-1#3'"),
        (["status", "urn:mavedb:job-1"], "mavedb-audit history urn:mavedb:job-1"),
        (["why", "urn:mavedb:00000009-a-1#1"], "urn:mavedb:00000009-a-1#1"),
        (["why", "tmp:numbered#1", "--type", "horoscope"], "horoscope"),
        (["history", "urn:mavedb:pipeline-none"], "urn:mavedb:pipeline-none"),
        (["watch", "urn:mavedb:pipeline-none"], "urn:mavedb:pipeline-none"),
        (["diff", "tmp:none", "--from", "01_2025", "--to", "01_2026"], "tmp:none"),
    ],
)
def test_what_is_not_there_is_one_message_that_names_it(
    run: Run, arguments: list[str], says: str
) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
