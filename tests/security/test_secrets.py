"""Passwords and tokens of the settings, after runs that failed wherever one of them is used."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from mavedb_audit.pipelines import PIPELINES
from tests.support import MaveDB, Submitted, brca1

#: Nobody listens there.
NOWHERE = "127.0.0.1:9"
CANARY = "canary-7f3a"


def url(setting: str, scheme: str = "http", host: str = NOWHERE) -> str:
    return f"{scheme}://user:{CANARY}-{setting}@{host}"


#: By the pipeline that fails with them, settings that hold secrets.
SETTINGS = {
    "create_variants_for_score_set": {"UPLOAD_STORE_URL": url("store", "ftp")},
    "map_variants_for_score_set": {"DCD_MAPPING_URL": url("mapper")},
    "link_gnomad_variants": {"GNOMAD_DATABASE_URL": url("gnomad", "postgresql+psycopg")},
    "populate_vep_for_score_set": {"ENSEMBL_API_URL": url("ensembl")},
    "submit_uniprot_mapping_jobs_for_score_set": {"UNIPROT_API_URL": url("uniprot")},
    "populate_variant_translations_for_score_set": {"CLINGEN_ALLELE_REGISTRY_URL": url("clingen")},
    # The address is right, and the password wrong: the registry refuses, as does the hub.
    "submit_score_set_mappings_to_car": {"GENBOREE_ACCOUNT_PASSWORD": f"{CANARY}-car"},
    "submit_score_set_mappings_to_ldh": {"GENBOREE_ACCOUNT_PASSWORD": f"{CANARY}-hub"},
}


GIVEN_BY_US = {"score_set_id", "correlation_id"}
FILES = {
    "updater_id": None,
    "scores_file_key": "17/3/scores.csv",
    "counts_file_key": None,
    "score_columns_metadata": {},
    "count_columns_metadata": {},
}


@pytest.fixture(scope="module")
def failed(mavedb: MaveDB) -> list[Submitted]:
    """Runs of which each failed by a service that it was to use a secret for."""
    uploaded = mavedb.submit(*brca1(20))
    assert mavedb.wait_for(uploaded) == "succeeded"
    mavedb.execute(
        "UPDATE scoresets SET published_date = CURRENT_DATE, private = false WHERE id = :id",
        id=uploaded.score_set_id,
    )
    runs = []
    for pipeline, settings in SETTINGS.items():
        simulators = {
            "CAR_SUBMISSION_ENDPOINT": url("endpoint", host=_host(mavedb.stack.clingen_url)),
            "GENBOREE_URL": url("genboree", host=_host(mavedb.stack.env["GENBOREE_URL"])),
        }
        quiet = {"CLINGEN_CACHE_BACKEND": "memory", "PREFECT_LOGGING_EXTRA_LOGGERS": "httpx"}
        env = simulators | settings | quiet
        asked = PIPELINES[pipeline].params
        more = {name: FILES.get(name) for name in asked if name not in GIVEN_BY_US}
        runs.append(mavedb.run_in_prefect(pipeline, uploaded, env=env, **more))
    statuses = {run.pipeline_urn: mavedb.wait_for(run) for run in runs}
    assert set(statuses.values()) == {"failed"}, statuses
    return runs


def _host(address: str) -> str:
    return urlsplit(address).netloc


def secrets_of(mavedb: MaveDB) -> list[str]:
    """What must not be found, as regular expressions."""
    env = mavedb.stack.env
    own = ("PGPASSWORD", "GENBOREE_ACCOUNT_PASSWORD", "AUDIT_TOKEN")
    return [
        CANARY,
        *(re.escape(env[name]) for name in own),
        r"gbToken=[0-9a-f]{6}",
        r"Bearer ey",
    ]


def places(mavedb: MaveDB) -> Iterator[tuple[str, str]]:
    """Each text that somebody may read, and where it stands: tables, Prefect's too, and logs."""
    server = mavedb.stack.database_url.rpartition("/")[0]
    for database in ("mavedb", "prefect"):
        with psycopg.connect(f"{server}/{database}") as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables"
                " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
            ).fetchall()
            for (table,) in tables:
                # By which this test itself gave a run its settings.
                rows = connection.execute(
                    sql.SQL("SELECT (to_jsonb(t) - 'job_variables')::text FROM {} AS t").format(
                        sql.Identifier(table)
                    )
                )
                for (row,) in rows:
                    yield f"{database}.{table}", row
    for log in Path(mavedb.stack.state, "logs").iterdir():
        yield log.name, log.read_text(errors="replace")


def test_no_secret_is_written_anywhere(mavedb: MaveDB, failed: list[Submitted]) -> None:
    """Not in our tables, nor in Prefect's (parameters, states, logs, artifacts), nor in logs."""
    secret = re.compile("|".join(secrets_of(mavedb)))
    seen = set()
    found = []
    for place, text in places(mavedb):
        seen.add(place)
        found += [
            (place, text[max(0, m.start() - 200) : m.end() + 20]) for m in secret.finditer(text)
        ]
    assert found == []
    assert {"mavedb.job_attempts", "prefect.log", "prefect.flow_run", "worker.log"} <= seen
    said = "\n".join(
        row.error_message
        for run in failed
        for row in mavedb.rows(
            "SELECT error_message FROM job_runs WHERE pipeline_id = :id AND error_message <> ''",
            id=run.pipeline_id,
        )
    )
    # The errors still name what could not be reached.
    assert NOWHERE in said
    assert "Check GENBOREE_ACCOUNT_NAME" in said
