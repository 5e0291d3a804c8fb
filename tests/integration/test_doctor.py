"""`mavedb-audit doctor`, on a deployment that is well, and with several things wrong at once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from deployments.local.stack import PROJECT, Stack
from mavedb_audit import doctor
from tests.pooler import pooled
from tests.prefect_proxy import proxy_of
from tests.support import MaveDB, no_worker_takes_runs, wait_until
from tests.support_command import run_command

Findings = dict[str, dict[str, Any]]
NOWHERE = "http://127.0.0.1:9"
#: Nobody's services, so that no test asks the true ones.
AWAY = {
    "REDIS_PORT": "9",
    "UPLOAD_STORE_URL": "file:///nowhere/at/all",
    "CLINGEN_ALLELE_REGISTRY_URL": NOWHERE,
    "CLINVAR_ARCHIVE_URL": NOWHERE,
    "DCD_MAPPING_URL": NOWHERE,
    "ENSEMBL_API_URL": NOWHERE,
    "UNIPROT_API_URL": NOWHERE,
}


def examined(code: int, **env: str) -> Findings:
    """What it finds by name, after it ended with the code."""
    done = run_command("doctor", "--output", "json", **{**AWAY, **env})
    assert (done.returncode, done.stderr) == (code, "")
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def wrong(findings: Findings) -> set[str]:
    assert all((f["ok"] is False) == (f["remedy"] is not None) for f in findings.values())
    return {name for name, finding in findings.items() if finding["ok"] is False}


@pytest.fixture(autouse=True, scope="module")
def _uploads(stack: Stack) -> None:
    """MaveDB's API makes the folder with the first upload."""
    (stack.state / "uploads").mkdir(exist_ok=True)


@contextmanager
def without_limit(stack: Stack, service: str) -> Iterator[None]:
    limits = f"{stack.prefect_api_url}/v2/concurrency_limits"
    there = httpx.get(f"{limits}/{service}").raise_for_status().json()
    httpx.delete(f"{limits}/{service}").raise_for_status()
    try:
        yield
    finally:
        again = {"name": service, "limit": there["limit"]}
        httpx.post(f"{limits}/", json=again).raise_for_status()


def test_nothing_is_wrong_with_a_deployment_that_is_well(mavedb: MaveDB) -> None:
    # What another test broke is caught up with soon.
    wait_until(lambda: run_command("doctor", **mavedb.stack.env).returncode == 0)
    findings = examined(0, **mavedb.stack.env)
    assert wrong(findings) == set()
    seen = {name for name, finding in findings.items() if finding["ok"]}
    assert seen >= {
        *("database", "tables", "migrations", "rights", "sessions", "serve", "mirror", "requests"),
        *("Prefect", "deployments", "work pool mavedb", "limits of services"),
        *("clock of the database", "clock of Prefect"),
        *("Valkey", "uploads", "VRS mapper", "ClinGen Allele Registry", "Ensembl", "gnomAD"),
    }


def test_each_of_six_faults_is_named_while_the_others_are_there(
    mavedb: MaveDB, domain_database: str
) -> None:
    subprocess.run(
        [sys.executable, "-m", "alembic", "-x", "standalone=true", "downgrade", "-1"],
        cwd=PROJECT,
        env={"DATABASE_URL": domain_database},
        check=True,
    )
    with (
        no_worker_takes_runs(mavedb),
        without_limit(mavedb.stack, "mavedb-gnomad"),
        proxy_of(mavedb.stack.prefect_api_url) as proxy,
    ):
        proxy.seconds_ahead = 90.0
        env = {
            **mavedb.stack.env,
            "DATABASE_URL": domain_database,
            "PREFECT_API_URL": proxy.api_url,
            "REDIS_PORT": "9",
            "DCD_MAPPING_URL": NOWHERE,
        }
        findings = examined(1, **env)
        printed = run_command("doctor", **env)
    named = {
        "migrations": "`alembic upgrade head`",
        "limits of services": "mavedb-audit limits apply",
        "Valkey": "REDIS_PORT",
        "VRS mapper": "DCD_MAPPING_URL",
        "clock of Prefect": "NTP",
        "work pool mavedb": "prefect work-pool resume mavedb",
        "serve": "mavedb-audit serve",
    }
    # A table or column that the newest migration made may be missing, too.
    assert wrong(findings) - {"tables"} == named.keys()
    for name, remedy in named.items():
        assert remedy in findings[name]["remedy"]
        assert f"\n{name}: " in printed.stdout
    assert "mavedb-gnomad" in findings["limits of services"]["found"]
    assert "seconds ahead of this host's" in findings["clock of Prefect"]["found"]
    assert printed.returncode == 1


def test_nothing_that_is_away_hides_anything_else() -> None:
    findings = examined(
        1,
        DATABASE_URL="postgresql://postgres@127.0.0.1:9/mavedb",
        PREFECT_API_URL=f"{NOWHERE}/api",
    )
    assert wrong(findings) == {
        *("database", "Prefect", "Valkey", "uploads", "ClinGen Allele Registry"),
        *("ClinVar's archive", "VRS mapper", "Ensembl", "UniProt"),
    }
    unseen = {name for name, finding in findings.items() if finding["ok"] is None}
    assert {"tables", "migrations", "rights", "sessions", "deployments"} <= unseen


def test_a_prefect_that_is_not_named_is_not_started_instead() -> None:
    findings = examined(1, DATABASE_URL="postgresql://postgres@127.0.0.1:9/mavedb")
    assert findings["Prefect"]["found"] == "PREFECT_API_URL is not set"
    assert findings["limits of services"]["ok"] is None


def test_a_url_that_cannot_be_read_is_named(domain_database: str) -> None:
    findings = examined(1, DATABASE_URL=domain_database, LOCK_DATABASE_URL="postgresql://a:b:c")
    assert "LOCK_DATABASE_URL" in findings["sessions"]["found"]
    assert "a:b:c" not in json.dumps(findings)


def test_a_pooler_of_transactions_is_found(domain_database: str) -> None:
    assert examined(1, DATABASE_URL=domain_database)["sessions"]["ok"] is True
    with pooled(domain_database) as pooler:
        findings = examined(1, DATABASE_URL=domain_database, LOCK_DATABASE_URL=pooler)
    assert findings["sessions"]["ok"] is False
    assert "LOCK_DATABASE_URL" in findings["sessions"]["remedy"]


def test_a_role_that_may_too_little_is_told_what_it_lacks(domain_database: str) -> None:
    engine = create_engine(domain_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN PASSWORD 'reader'"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    url = make_url(domain_database).set(username="reader", password="reader")
    try:
        findings = examined(1, DATABASE_URL=url.render_as_string(hide_password=False))
        assert findings["rights"]["ok"] is False
        assert "INSERT on prefect_transitions" in findings["rights"]["found"]
        assert "SELECT" not in findings["rights"]["found"]
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY reader"))
            connection.execute(text("DROP ROLE reader"))
        engine.dispose()


def test_a_check_that_breaks_down_hides_no_other(
    use_database: Any, domain_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> list[doctor.Finding]:
        raise RuntimeError("a mistake of ours")

    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)
    use_database(domain_database)
    monkeypatch.setattr(doctor, "_CHECKS", {**doctor._CHECKS, "tables": breaks})
    findings = {finding.name: finding for finding in doctor.examine()}
    assert "a mistake of ours" in findings["tables"].found
    assert findings["tables"].ok is False
    assert findings["migrations"].ok is True
