"""The operators' commands, on a real deployment, and who is written down for them."""

import getpass
import json
import subprocess
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from mavedb_audit.trigger import request_pipeline
from tests.support import (
    MaveDB,
    Submitted,
    brca1,
    insert_numbered_variants,
    no_worker_takes_runs,
    wait_until,
)
from tests.support_command import run_command


def run(mavedb: MaveDB, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = run_command(*arguments, **mavedb.stack.env)
    assert "Traceback" not in done.stderr
    return done


def actions(mavedb: MaveDB, submitted: Submitted) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in mavedb.rows(
            """
            SELECT action, actor, reason FROM operator_actions
             WHERE pipeline_id = :id ORDER BY id
            """,
            id=submitted.pipeline_id,
        )
    ]


def test_pause_resume_cancel_and_restart_do_what_they_say_and_are_audited(
    mavedb: MaveDB,
) -> None:
    with no_worker_takes_runs(mavedb):
        submitted = mavedb.submit(*brca1(5))
        urn = submitted.pipeline_urn
        wait_until(lambda: mavedb.dispatched_flow_run(submitted))
        paused = run(mavedb, "pause", urn, "--as", "ada", "--reason", "ClinGen is down")
        assert (paused.returncode, paused.stdout) == (0, f"{urn} is paused\n")
        resumed = run(mavedb, "resume", urn, "--as", "ada", "--output", "json")
        assert json.loads(resumed.stdout) == {"pipeline_urn": urn, "status": "created"}
        assert run(mavedb, "cancel", urn).stdout == f"{urn} is cancelled\n"
    refused = run(mavedb, "cancel", urn)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"Cannot cancel {urn}, which is cancelled" in refused.stderr
    assert run(mavedb, "restart", urn, "--reason", "after all").returncode == 0
    watched = run(mavedb, "watch", urn)
    assert watched.returncode == 0
    assert watched.stdout.endswith(f"{urn} is succeeded\n")
    me = getpass.getuser()
    assert actions(mavedb, submitted) == [
        ("pause", "ada", "ClinGen is down"),
        ("resume", "ada", None),
        ("cancel", me, None),
        ("restart", me, "after all"),
    ]


def test_retry_runs_failed_steps_again_and_rerun_failed_the_variants(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403):
        submitted = mavedb.submit(*brca1(5))
        assert mavedb.wait_for(submitted) == "failed"
    urn = submitted.pipeline_urn
    failed = run(mavedb, "failures", "--output", "json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)
    asked = run(mavedb, "rerun-failed", submitted.score_set_urn, "--as", "ada")
    assert asked.returncode == 0
    again = asked.stdout.strip()
    assert run(mavedb, "watch", again).returncode in (0, 1)
    actor = mavedb.value(
        """
        SELECT actor FROM operator_actions JOIN pipelines ON pipelines.id = pipeline_id
         WHERE urn = :urn
        """,
        urn=again,
    )
    assert actor == "ada"
    assert run(mavedb, "retry", urn).returncode == 0
    assert run(mavedb, "watch", urn).returncode == 0
    nothing = run(mavedb, "rerun-failed", submitted.score_set_urn)
    assert (nothing.returncode, nothing.stdout) == (2, "")


def test_recover_says_what_it_did(mavedb: MaveDB, domain_database: str) -> None:
    """Of a flow run that Prefect does not know; no `serve` works on this database."""
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
        asked = {"score_set_id": score_set_id, "updater_id": None}
        planned = request_pipeline(connection, "annotate_score_set", asked, None, None)
        connection.execute(
            text(
                """
                UPDATE pipeline_requests
                   SET flow_run_id = gen_random_uuid(), dispatched_at = now() - interval '1 day'
                """
            )
        )
        connection.execute(text("UPDATE pipelines SET created_at = now() - interval '1 day'"))
    engine.dispose()
    env = {**mavedb.stack.env, "DATABASE_URL": domain_database}
    done = run_command("recover", "--output", "json", **env)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["settled"] == 1
    (recovery,) = found["recoveries"]
    assert (recovery["pipeline_urn"], recovery["action"]) == (
        planned.pipeline_urn,
        "dispatch again",
    )
    assert "Prefect does not know its flow run" in recovery["reason"]
    assert run_command("recover", **env).stdout == "0 settled\n"


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry", "restart"])
def test_an_unknown_pipeline_is_named(mavedb: MaveDB, verb: str) -> None:
    done = run(mavedb, verb, "urn:mavedb:pipeline-none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no pipeline urn:mavedb:pipeline-none" in done.stderr
