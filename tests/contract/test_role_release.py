"""The roles of production on the tables of MaveDB's current release."""

import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from deployments.local.stack import PROJECT
from mavedb_audit.doctor.database import rights

ROLE = (PROJECT / "deployments" / "production" / "role.sql").read_text()


@pytest.fixture
def release_database(empty_database: str) -> str:
    subprocess.run(
        [sys.executable, "-m", "tests.contract.make_tables"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": empty_database},
        check=True,
    )
    return empty_database


def test_the_audit_may_write_what_this_release_has(
    release_database: str, use_database: Callable[[str], None]
) -> None:
    owner_url = release_database.replace("+psycopg", "")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(ROLE)
        owner.execute("DROP ROLE IF EXISTS of_the_release")
        owner.execute("CREATE ROLE of_the_release LOGIN PASSWORD 'local' IN ROLE mavedb_audit")
    address = release_database.split("@")[1]
    use_database(f"postgresql://of_the_release:local@{address}")

    assert [finding.ok for finding in rights()] == [True]
    with psycopg.connect(f"postgresql://of_the_release:local@{address}") as connection:
        for table, right in (
            ("clinvar_controls", "UPDATE"),
            ("annotation_event", "INSERT"),
            ("alleles", "SELECT"),
            ("variants", "DELETE"),
            ("mapped_variants", "UPDATE"),
        ):
            row = connection.execute(
                "SELECT has_table_privilege(%s, %s)", [table, right]
            ).fetchone()
            assert row == (True,), table
        # What the rows of this release are numbered by.
        connection.execute("SELECT nextval(pg_get_serial_sequence('variants', 'id'))")
