"""The roles of deployments/production/role.sql: what they may, and that it is enough."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, create_engine, text

from mavedb_audit.doctor.database import rights
from mavedb_audit.models import metadata
from mavedb_audit.trigger import request_pipeline
from mavedb_audit.upload_store import digest_of
from tests.support import FINAL, MaveDB, brca1, insert_brca1, wait_until

PROJECT = Path(__file__).parents[2]
ROLE = (PROJECT / "deployments" / "production" / "role.sql").read_text()
WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
#: Written through a name that the SQL holds in a variable.
WRITTEN_OTHERWISE = {
    ("variants", "INSERT"),
    ("mapped_variants", "INSERT"),
    ("clinical_controls", "INSERT"),
    ("clinical_controls", "UPDATE"),
}

#: Whoever prunes is another role, on purpose: nothing that runs by itself may delete the audit.
PRUNING = {("prefect_transitions", "DELETE"), ("variant_annotation_status", "DELETE")}


def user_of(url: str, role: str) -> str:
    """The database's URL for a new user of the role."""
    name = f"user_{uuid4().hex}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(ROLE)
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'local' IN ROLE {}").format(
                sql.Identifier(name), sql.Identifier(role)
            )
        )
    return re.sub(r"//[^@]+@", f"//{name}:local@", url)


@pytest.fixture
def limited(domain_database: str) -> Iterator[Engine]:
    engine = create_engine(user_of(domain_database, "mavedb_audit"))
    yield engine
    engine.dispose()


def writes_of_the_code() -> set[tuple[str, str]]:
    code = "\n".join(
        file.read_text()
        for folder in ("mavedb_audit", "tasks", "flows")
        for file in (PROJECT / folder).rglob("*.py")
        # Pruning is for a role that may delete the audit: docs/how-to/prune.md.
        if file.name != "prune.py"
    )
    found = re.findall(r"\b(INSERT INTO|UPDATE|DELETE FROM)\s+([a-z_]+)\b", code)
    upserts = re.findall(r"INSERT INTO\s+([a-z_]+)\b[^;\"]*?ON CONFLICT[^;\"]*?DO UPDATE", code)
    written = {(table, verb.split()[0]) for verb, table in found}
    written -= PRUNING
    return {*written, *((table, "UPDATE") for table in upserts), *WRITTEN_OTHERWISE}


def test_the_audit_may_write_what_the_code_writes_and_nothing_else(limited: Engine) -> None:
    with limited.connect() as connection:
        allowed = {
            (table, right)
            for table in metadata.tables
            for right in WRITES
            if connection.execute(
                # Of UPDATE, a right to some of the columns is one, too.
                text(
                    "SELECT has_any_column_privilege(:table, :right)"
                    if right in ("INSERT", "UPDATE", "REFERENCES")
                    else "SELECT has_table_privilege(:table, :right)"
                ),
                {"table": table, "right": right},
            ).scalar_one()
        }

    assert allowed == {
        (table, verb) for table, verb in writes_of_the_code() if table in metadata.tables
    }


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE variants",
        "ALTER TABLE scoresets ADD COLUMN other text",
        "TRUNCATE job_runs",
        "CREATE TABLE other (id integer)",
        "UPDATE scoresets SET title = 'other'",
        "UPDATE scoresets SET private = false",
        "DELETE FROM scoresets",
        "UPDATE users SET username = 'other'",
        "SELECT email FROM users",
        "DELETE FROM job_attempts",
        "DELETE FROM prefect_transitions",
        "DELETE FROM variant_annotation_status",
        "DROP MATERIALIZED VIEW published_variants_materialized_view",
        "UPDATE mavedb_audit_version SET version_num = '0001'",
    ],
)
def test_the_audit_may_not(limited: Engine, statement: str) -> None:
    with (
        limited.connect() as connection,
        pytest.raises(Exception, match=r"permission denied|must be"),
    ):
        connection.execute(text(statement))


def test_the_roles_may_be_made_again_and_lose_what_was_granted_besides(
    domain_database: str, limited: Engine
) -> None:
    with psycopg.connect(domain_database.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("GRANT DELETE ON users TO mavedb_audit")
        owner.execute(ROLE)

    with limited.connect() as connection:
        for table, is_allowed in (("users", False), ("variants", True)):
            asked = text(f"SELECT has_table_privilege('{table}', 'DELETE')")
            assert connection.execute(asked).scalar_one() is is_allowed


def test_mavedbs_api_may_ask_for_a_pipeline_and_no_more(domain_database: str) -> None:
    owner = create_engine(domain_database)
    with owner.begin() as connection:
        _, score_set_id, user_id = insert_brca1(connection)
    owner.dispose()
    api = create_engine(user_of(domain_database, "mavedb_audit_request"))

    with api.begin() as connection:
        planned = request_pipeline(
            connection,
            "validate_map_annotate_score_set",
            {
                "score_set_id": score_set_id,
                "updater_id": user_id,
                "scores_file_key": "17/scores.csv",
                "counts_file_key": None,
                "score_columns_metadata": {},
                "count_columns_metadata": {},
            },
            user_id,
            uuid4().hex,
            {"17/scores.csv": digest_of(b"hgvs_nt,score")},
        )

    with api.connect() as connection:
        asked = text("SELECT count(*) FROM job_runs WHERE pipeline_id = :id")
        assert connection.execute(asked, {"id": planned.pipeline_id}).scalar_one() > 1
        with pytest.raises(Exception, match="permission denied"):
            connection.execute(text("DELETE FROM pipeline_requests"))
    api.dispose()


def test_the_doctor_lacks_nothing(
    domain_database: str, use_database: Callable[[str], None]
) -> None:
    use_database(user_of(domain_database, "mavedb_audit"))

    assert [finding.ok for finding in rights()] == [True]


def test_every_pipeline_runs_under_the_role(mavedb: MaveDB) -> None:
    env = {"DATABASE_URL": user_of(mavedb.stack.database_url, "mavedb_audit")}
    submitted = mavedb.submit(*brca1(12))
    assert mavedb.wait_for(submitted) == "succeeded"
    score_set = {"score_set_id": submitted.score_set_id}
    key = "SELECT key FROM raw_uploads WHERE pipeline_id = :id AND kind = 'scores'"
    scores = {"scores_file_key": mavedb.value(key, id=submitted.pipeline_id)}

    def states_after(runs: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
        ids = {name: mavedb.create_flow_run(name, given, env=env) for name, given in runs.items()}

        def ended() -> dict[str, str] | None:
            found = {
                name: mavedb.prefect("GET", f"flow_runs/{run}")["state_type"]
                for name, run in ids.items()
            }
            for name, state in found.items():
                if state == "CANCELLED":
                    # Upkeep runs once at a time, and its schedule has come up meanwhile.
                    ids[name] = mavedb.create_flow_run(name, runs[name], env=env)
            return found if set(found.values()) <= FINAL - {"CANCELLED"} else None

        states: dict[str, str] = wait_until(ended)
        return states

    first = states_after({"validate_map_annotate_score_set": {**score_set, **scores}})
    then = states_after(
        {
            "publish_score_set": score_set,
            "refresh_materialized_views": {},
            "load_clinvar_release": {"year": 2025, "month": 3},
            "recover_stalled_runs": {},
            "reconcile_audit": {},
        }
    )

    assert {**first, **then} == dict.fromkeys([*first, *then], "COMPLETED")
    refused = (
        "SELECT error_message FROM job_attempts WHERE error_message LIKE '%permission denied%'"
    )
    assert mavedb.rows(refused) == []
