"""The command line, as a process of its own: what a mistake of its user looks like."""

import json
import subprocess

import pytest
from sqlalchemy import create_engine, text

from deployments.local.submission import insert_score_set
from tests.support_command import run_command as run

NOWHERE = "postgresql://postgres@127.0.0.1:9/mavedb"


def assert_one_message(done: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("mavedb-audit: ")
    assert len(done.stderr.splitlines()) == 1
    for words in says:
        assert words in done.stderr


@pytest.fixture
def score_set(domain_database: str) -> str:
    """The URN of a score set in the domain database."""
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        insert_score_set(
            connection,
            urn="urn:mavedb:00000001-a-1",
            title="A score set",
            target_name="ABC",
            sequence="ATGGCT",
            sequence_type="dna",
            user="curator",
        )
    engine.dispose()
    return "urn:mavedb:00000001-a-1"


def test_a_database_that_does_not_answer_is_named_with_the_variables_to_check() -> None:
    done = run("serve", DATABASE_URL=NOWHERE, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert_one_message(done, 3, "mavedb on 127.0.0.1, port 9", "Check DATABASE_URL")


def test_serve_needs_a_prefect_server_to_be_named(domain_database: str) -> None:
    done = run("serve", DATABASE_URL=domain_database)
    assert_one_message(done, 2, "PREFECT_API_URL is not set", "/api")


def test_an_unmigrated_database_is_told_from_a_foreign_one(empty_database: str) -> None:
    done = run("request", "annotate_score_set", "--score-set", "x", DATABASE_URL=empty_database)
    assert_one_message(done, 2, "is missing", "is this MaveDB's database")


def test_a_missing_table_of_ours_is_named_with_the_remedy(domain_database: str) -> None:
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE pipeline_requests"))
    engine.dispose()
    done = run("request", "annotate_score_set", "--score-set", "x", DATABASE_URL=domain_database)
    assert_one_message(done, 2, "The table pipeline_requests is missing", "alembic upgrade head")


def test_a_wrong_setting_is_named() -> None:
    done = run("request", "annotate_score_set", "--score-set", "x", DB_PORT="twelve")
    assert_one_message(done, 2, "DB_PORT", "integer")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["annotate_score_set", "--score-set", "urn:mavedb:9"], "no score set urn:mavedb:9"),
        (["annotate", "--score-set", "{urn}"], "There is no pipeline 'annotate'; there are: "),
        (
            ["validate_map_annotate_score_set", "--score-set", "{urn}"],
            "needs the parameters scores_file_key",
        ),
        (["annotate_score_set", "--score-set", "{urn}", "--params", "{"], "--params is not JSON"),
        (["annotate_score_set", "--score-set", "{urn}", "--params", "[]"], "a JSON object"),
        (["annotate_score_set", "--score-set", "{urn}", "--user-id", "99"], "no user with the id"),
    ],
)
def test_a_request_that_cannot_be_run_is_refused_and_leaves_nothing(
    domain_database: str, score_set: str, arguments: list[str], says: str
) -> None:
    given = [argument.replace("{urn}", score_set) for argument in arguments]
    done = run("request", *given, DATABASE_URL=domain_database)
    assert_one_message(done, 2, says)
    engine = create_engine(domain_database)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pipelines")).scalar_one() == 0
    engine.dispose()


def test_a_request_prints_the_urn_of_its_pipeline(domain_database: str, score_set: str) -> None:
    keys = json.dumps({"scores_file_key": "1/1/scores.csv", "counts_file_key": None})
    done = run(
        *("request", "map_annotate_score_set", "--score-set", score_set, "--params", keys),
        DATABASE_URL=domain_database,
    )
    assert (done.returncode, done.stderr) == (0, "")
    engine = create_engine(domain_database)
    with engine.connect() as connection:
        urn = connection.execute(
            text("SELECT urn FROM pipelines JOIN pipeline_requests ON pipeline_id = pipelines.id")
        ).scalar_one()
    engine.dispose()
    assert done.stdout == f"{urn}\n"
