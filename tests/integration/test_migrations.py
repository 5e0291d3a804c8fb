"""The migrations, on empty databases and on MaveDB's."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from mavedb_audit.models import OUR_TABLES, metadata

PROJECT = Path(__file__).parents[2]
VERSION_TABLE = "mavedb_audit_version"
VIEW = "published_variants_materialized_view"
MAVEDB_TABLES = [t for t in metadata.sorted_tables if t.name not in OUR_TABLES]


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    engine = create_engine(empty_database)
    yield engine
    engine.dispose()


def configuration(connection: Connection, *, standalone: bool) -> Config:
    options = Namespace(x=["standalone=true"] if standalone else [])
    config = Config(PROJECT / "alembic.ini", cmd_opts=options)
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, *, standalone: bool = False) -> None:
    with engine.connect() as connection:
        command.upgrade(configuration(connection, standalone=standalone), "head")


def downgrade(engine: Engine, *, standalone: bool = False) -> None:
    with engine.connect() as connection:
        command.downgrade(configuration(connection, standalone=standalone), "base")


def relations(engine: Engine) -> set[str]:
    inspector = inspect(engine)
    return {*inspector.get_table_names(), *inspector.get_materialized_view_names()}


def catalog(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """Every column, constraint and index of the tables, as PostgreSQL spells them."""
    queries = {
        "columns": """
            SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,
                   attidentity, pg_get_expr(adbin, adrelid)
              FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
              LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0""",
        "constraints": """
            SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
              FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
        "indexes": """
            SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'""",
    }
    with engine.connect() as connection:
        return {
            kind: {
                tuple(row)
                for row in connection.execute(text(query))
                if row[0] not in (VERSION_TABLE, VIEW)
            }
            for kind, query in queries.items()
        }


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
    )


def test_the_migrations_make_what_the_models_say(engine: Engine) -> None:
    metadata.create_all(engine)
    of_the_models = catalog(engine)
    metadata.drop_all(engine)

    upgrade(engine, standalone=True)

    migrated = catalog(engine)
    for kind, expected in of_the_models.items():
        assert migrated[kind] == expected, kind
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "version_table": VERSION_TABLE,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_standalone_goes_up_down_and_up_again(engine: Engine) -> None:
    upgrade(engine, standalone=True)
    everything = relations(engine)
    assert everything == {*metadata.tables, VIEW, VERSION_TABLE}

    downgrade(engine, standalone=True)
    assert relations(engine) == {VERSION_TABLE}

    upgrade(engine, standalone=True)
    assert relations(engine) == everything


def test_mavedbs_own_tables_are_not_touched(engine: Engine) -> None:
    metadata.create_all(engine, MAVEDB_TABLES)
    mavedbs = catalog(engine)

    upgrade(engine)
    assert relations(engine) == {*metadata.tables, VERSION_TABLE}
    now = catalog(engine)
    assert all(mavedbs[kind] <= now[kind] for kind in mavedbs)

    downgrade(engine)
    assert relations(engine) == {*(table.name for table in MAVEDB_TABLES), VERSION_TABLE}
    assert catalog(engine) == mavedbs


def test_the_command_names_the_missing_table_and_leaves_nothing(
    engine: Engine, empty_database: str
) -> None:
    done = alembic(empty_database, "upgrade", "head")

    assert done.returncode != 0
    shown = done.stdout + done.stderr
    assert "The table pipelines is missing" in shown
    assert "-x standalone=true" in shown
    assert "Traceback" not in shown
    assert relations(engine) == set()


def test_the_command_takes_an_empty_database_to_the_models(
    engine: Engine, empty_database: str
) -> None:
    done = alembic(empty_database, "-x", "standalone=true", "upgrade", "head")

    assert done.returncode == 0, done.stderr
    assert relations(engine) == {*metadata.tables, VIEW, VERSION_TABLE}


def test_the_command_names_an_unreachable_database() -> None:
    done = alembic("postgresql://someone:secret@127.0.0.1:1/mavedb", "upgrade", "head")

    assert done.returncode != 0
    shown = done.stdout + done.stderr
    for part in ("mavedb", "127.0.0.1", "port 1", "DATABASE_URL"):
        assert part in shown
    assert "secret" not in shown
    assert "Traceback" not in shown


def test_a_misspelt_option_does_nothing(empty_database: str, engine: Engine) -> None:
    done = alembic(empty_database, "-x", "standalone=yes", "upgrade", "head")

    assert done.returncode != 0
    assert "standalone=yes is unknown" in done.stdout + done.stderr
    assert relations(engine) == set()


def test_standalone_is_refused_where_tables_are(engine: Engine) -> None:
    metadata.create_all(engine, MAVEDB_TABLES)
    before = relations(engine)

    with pytest.raises(CommandError, match="leave out -x standalone=true"):
        upgrade(engine, standalone=True)

    assert relations(engine) == before


def test_standalone_never_drops_the_tables_of_mavedbs_database(engine: Engine) -> None:
    metadata.create_all(engine, MAVEDB_TABLES)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32))"))
    before = relations(engine)

    with pytest.raises(CommandError, match="MaveDB's own database"):
        downgrade(engine, standalone=True)

    assert relations(engine) == before


def test_a_callers_transaction_is_left_to_the_caller(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        command.upgrade(configuration(connection, standalone=True), "head")
        connection.rollback()

    assert relations(engine) == set()


def test_the_view_holds_every_mapping_of_published_variants(engine: Engine) -> None:
    upgrade(engine, standalone=True)
    with engine.begin() as connection:
        connection.execute(text(_PUBLISHED_AND_UNPUBLISHED))
        connection.execute(text(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {VIEW}"))
        rows = connection.execute(
            text(f"SELECT * FROM {VIEW} ORDER BY variant_id, mapped_variant_id")
        ).all()

    assert [
        (row.variant_urn, row.mapped_variant_id, row.current_mapped_variant) for row in rows
    ] == [
        ("urn:mavedb:00000001-a-1#1", 1, False),
        ("urn:mavedb:00000001-a-1#1", 2, True),
        ("urn:mavedb:00000001-a-1#2", None, None),
    ]
    assert {(row.score_set_id, row.score_set_urn) for row in rows} == {
        (1, "urn:mavedb:00000001-a-1")
    }


_PUBLISHED_AND_UNPUBLISHED = """
    INSERT INTO licenses (id, long_name, short_name, text, creation_date, modification_date)
    VALUES (1, 'CC0', 'CC0', '', now(), now());
    INSERT INTO experiments (id, title, short_description, abstract_text, method_text,
                             extra_metadata, private, approved, num_scoresets, creation_date,
                             modification_date)
    VALUES (1, '', '', '', '', '{}', false, true, 2, now(), now());
    INSERT INTO scoresets (id, urn, title, method_text, abstract_text, short_description,
                           extra_metadata, dataset_columns, normalised, private, approved,
                           published_date, num_variants, experiment_id, licence_id, creation_date,
                           modification_date)
    SELECT id, urn, '', '', '', '', '{}', '{}', false, false, true, published::date, 2, 1, 1,
           now(), now()
      FROM (VALUES (1, 'urn:mavedb:00000001-a-1', '2026-01-01'), (2, 'tmp:1', NULL))
           AS given (id, urn, published);
    INSERT INTO variants (id, urn, data, scoreset_id, creation_date, modification_date)
    VALUES (1, 'urn:mavedb:00000001-a-1#1', '{}', 1, now(), now()),
           (2, 'urn:mavedb:00000001-a-1#2', '{}', 1, now(), now()),
           (3, 'tmp:1#1', '{}', 2, now(), now());
    INSERT INTO mapped_variants (id, variant_id, current)
    VALUES (1, 1, false), (2, 1, true), (3, 3, true);
"""
