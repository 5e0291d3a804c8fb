"""`mavedb-audit prune`, of pipelines that ended long ago; and that nothing brings it back."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from tests.support import MaveDB, Submitted, brca1, wait_until
from tests.support_cli import Played, play
from tests.support_command import run_command
from tests.support_recorder import CAR

YEARS = timedelta(days=800)


def age(engine: Engine, by: timedelta = YEARS) -> None:
    """Have everything happen so much earlier, and Prefect's histories be read to their end."""
    with engine.begin() as connection:
        for table, columns in (
            ("pipelines", ("created_at", "started_at", "finished_at")),
            ("prefect_transitions", ("timestamp",)),
            ("prefect_runs", ("state_timestamp", "first_seen_at")),
            ("variant_annotation_status", ("created_at", "updated_at")),
        ):
            moved = ", ".join(f"{column} = {column} - :by" for column in columns)
            connection.execute(text(f"UPDATE {table} SET {moved}"), {"by": by})
        connection.execute(text("UPDATE prefect_runs SET settled_at = now()"))


@pytest.fixture
def played(domain_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    """A pipeline that failed, with two states of its flow run and of a task run."""
    played = play(domain_database, monkeypatch)
    played.end()
    for state in ("RUNNING", "FAILED"):
        played.pipeline.task(CAR, state)
    played.pipeline.flow("FAILED")
    yield played
    played.pipeline.engine.dispose()


def prune(url: str, *options: str, **env: str) -> list[tuple[str, str, int]]:
    done = run_command("prune", *options, "--output", "json", DATABASE_URL=url, **env)
    assert done.returncode == 0
    return [(one["table"], one["state"], one["rows"]) for one in json.loads(done.stdout)]


def count(played: Played, what: str) -> int:
    found: int = played.pipeline.rows(f"SELECT count(*) FROM {what}")[0][0]
    return found


def test_without_yes_it_counts_and_changes_nothing(domain_database: str, played: Played) -> None:
    age(played.pipeline.engine)
    before = count(played, "prefect_transitions")
    runs = count(played, "prefect_runs")
    expected = [("prefect_transitions", "failed", before - runs)]
    assert prune(domain_database) == expected
    assert prune(domain_database) == expected
    assert count(played, "prefect_transitions") == before
    assert count(played, "operator_actions") == 0


def test_what_goes_is_every_state_of_a_run_but_the_newest(
    domain_database: str, played: Played
) -> None:
    age(played.pipeline.engine)
    kept = played.pipeline.rows("SELECT state_id FROM prefect_runs ORDER BY state_id")
    (gone,) = prune(domain_database, "--yes", "--as", "ada")
    assert gone[:2] == ("prefect_transitions", "failed")
    assert gone[2] > 0
    left = played.pipeline.rows("SELECT state_id FROM prefect_transitions ORDER BY state_id")
    assert left == kept
    assert count(played, "prefect_runs WHERE pruned_at IS NULL") == 0
    assert prune(domain_database) == []
    assert played.pipeline.rows("SELECT action, actor, reason FROM operator_actions") == [
        ("prune", "ada", f"{gone[2]} failed of prefect_transitions")
    ]


def test_a_history_says_that_earlier_states_were_forgotten(
    domain_database: str, played: Played
) -> None:
    age(played.pipeline.engine)
    urn = played.pipeline.planned.pipeline_urn
    assert "forgotten" not in run_command("history", urn, DATABASE_URL=domain_database).stdout
    prune(domain_database, "--yes")
    assert "forgotten" in run_command("history", urn, DATABASE_URL=domain_database).stdout


@pytest.mark.parametrize(
    "reason",
    [
        "UPDATE pipelines SET finished_at = now()",  # it ended just now
        "UPDATE prefect_runs SET settled_at = NULL",  # Prefect may have more states of it
        "UPDATE pipelines SET status = 'running'",
    ],
)
def test_what_is_young_open_or_not_settled_stays(
    domain_database: str, played: Played, reason: str
) -> None:
    age(played.pipeline.engine)
    with played.pipeline.engine.begin() as connection:
        connection.execute(text(reason))
    assert prune(domain_database) == []


def test_each_state_of_a_pipeline_has_its_own_time(domain_database: str, played: Played) -> None:
    age(played.pipeline.engine, timedelta(days=500))
    assert prune(domain_database) == []
    assert prune(domain_database, PRUNE_UNSUCCESSFUL_DAYS="400") != []
    with played.pipeline.engine.begin() as connection:
        connection.execute(text("UPDATE pipelines SET status = 'succeeded'"))
    assert {state for _, state, _ in prune(domain_database)} == {"succeeded"}
    assert prune(domain_database, PRUNE_SUCCEEDED_DAYS="600") == []


def test_only_superseded_statuses_of_our_jobs_go(domain_database: str, played: Played) -> None:
    with played.pipeline.engine.begin() as connection:
        connection.execute(
            text(
                """
                INSERT INTO variant_annotation_status
                       (variant_id, annotation_type, status, current, job_run_id)
                SELECT 1, 'clingen_allele_id', 'failed', false, id FROM job_runs
                 WHERE job_function = :car
                 UNION ALL
                SELECT 1, 'clingen_allele_id', 'failed', false, NULL
                """
            ),
            {"car": CAR},
        )
    age(played.pipeline.engine)
    current = count(played, "variant_annotation_status WHERE current")
    assert current == 6
    assert ("variant_annotation_status", "failed", 1) in prune(domain_database, "--yes")
    assert count(played, "variant_annotation_status WHERE current") == current
    assert count(played, "variant_annotation_status WHERE NOT current") == 1


def test_tracebacks_go_when_they_are_asked_for(domain_database: str, played: Played) -> None:
    with played.pipeline.engine.begin() as connection:
        connection.execute(text("UPDATE job_attempts SET error_traceback = 'Traceback …'"))
    age(played.pipeline.engine)
    prune(domain_database, "--yes")
    assert count(played, "job_attempts WHERE error_traceback IS NOT NULL") == 2
    assert ("job_attempts", "failed", 2) in prune(domain_database, "--yes", "--tracebacks")
    assert count(played, "job_attempts WHERE error_traceback IS NOT NULL") == 0
    assert count(played, "job_attempts WHERE error_message IS NOT NULL") == 2


def test_a_role_that_may_not_delete_is_told_so(domain_database: str, played: Played) -> None:
    age(played.pipeline.engine)
    with played.pipeline.engine.begin() as connection:
        connection.execute(text("CREATE ROLE keeper LOGIN PASSWORD 'keeper'"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO keeper"))
    url = domain_database.partition("@")[2]
    try:
        done = run_command("prune", "--yes", DATABASE_URL=f"postgresql://keeper:keeper@{url}")
        assert (done.returncode, done.stdout) == (2, "")
        assert "permission denied for table" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    finally:
        with played.pipeline.engine.begin() as connection:
            connection.execute(text("DROP OWNED BY keeper"))
            connection.execute(text("DROP ROLE keeper"))


#: Prefect's runs of the pipeline :id.
OF_PIPELINE = """
    :id IN (run.pipeline_id, (SELECT pipeline_id FROM job_runs WHERE job_runs.id = run.job_id))
"""


def states(mavedb: MaveDB, submitted: Submitted) -> set[UUID]:
    rows = mavedb.rows(
        f"""
        SELECT transition.state_id
          FROM prefect_transitions AS transition JOIN prefect_runs AS run USING (run_id)
         WHERE {OF_PIPELINE}
        """,
        id=submitted.pipeline_id,
    )
    return {row.state_id for row in rows}


def are_settled(mavedb: MaveDB, submitted: Submitted) -> bool:
    unsettled = mavedb.value(
        f"SELECT count(*) FROM prefect_runs AS run WHERE settled_at IS NULL AND {OF_PIPELINE}",
        id=submitted.pipeline_id,
    )
    return unsettled == 0


def settle(mavedb: MaveDB, submitted: Submitted) -> None:
    """Have the histories of the pipeline's runs read to their end."""

    def is_done() -> bool:
        env = {**mavedb.stack.env, "RECONCILE_GRACE_SECONDS": "0"}
        assert run_command("reconcile", **env).returncode == 0
        return are_settled(mavedb, submitted)

    wait_until(is_done)


def test_neither_verify_nor_reconcile_brings_back_what_was_pruned(mavedb: MaveDB) -> None:
    """The histories are still in Prefect, and both ask it for all that it has."""
    submitted = mavedb.submit(*brca1(5))
    assert mavedb.wait_for(submitted) == "succeeded"
    settle(mavedb, submitted)
    before = states(mavedb, submitted)
    env = {**mavedb.stack.env, "PRUNE_SUCCEEDED_DAYS": "0"}
    done = run_command("prune", "--yes", **env)
    assert done.returncode == 0
    after = states(mavedb, submitted)
    assert after < before

    reconciled = run_command("reconcile", "--all", "--output", "json", **mavedb.stack.env)
    assert reconciled.returncode == 0
    assert states(mavedb, submitted) == after
    verified = run_command("verify", "--output", "json", **mavedb.stack.env)
    found = json.loads(verified.stdout)
    assert (found["differences"], found["broken"]) == ([], [])
    assert found["runs_pruned"] > 0


def test_a_run_that_goes_on_after_it_was_pruned_is_recorded_from_there(mavedb: MaveDB) -> None:
    submitted = mavedb.submit(*brca1(5))
    assert mavedb.wait_for(submitted) == "succeeded"
    settle(mavedb, submitted)
    env = {**mavedb.stack.env, "PRUNE_SUCCEEDED_DAYS": "0"}
    assert run_command("prune", "--yes", **env).returncode == 0
    pruned = states(mavedb, submitted)
    restart = run_command("restart", submitted.pipeline_urn, **mavedb.stack.env)
    assert restart.returncode == 0
    assert run_command("watch", submitted.pipeline_urn, **mavedb.stack.env).returncode == 0
    settle(mavedb, submitted)
    flow_run_id = mavedb.flow_run(submitted)["id"]
    in_prefect = mavedb.prefect("GET", f"flow_run_states/?flow_run_id={flow_run_id}")
    pruned_at = mavedb.value(
        "SELECT pruned_at FROM prefect_runs WHERE run_id = :id", id=flow_run_id
    )
    later = {
        UUID(state["id"])
        for state in in_prefect
        if datetime.fromisoformat(state["timestamp"]) > pruned_at
    }
    recorded = states(mavedb, submitted)
    assert pruned | later <= recorded
    assert {UUID(state["id"]) for state in in_prefect} - recorded
