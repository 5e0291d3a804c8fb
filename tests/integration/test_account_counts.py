"""The counts of a score set's account follow its rows, whatever is written, by whom and when."""

import threading
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.queries.accounts import account
from mavedb_audit.reasons import Reason
from tasks.create_variants_for_score_set import replace_variants
from tasks.upload.reading import read_table
from tasks.upload.rules import Target, validate_tables
from tests.support import brca1, insert_brca1, insert_numbered_variants
from tests.support_accounts import (
    CLINVAR,
    GNOMAD,
    MAPPING,
    assert_counts_follow,
    counted,
    insert_jobs,
    insert_score_set_of,
    write,
)
from tests.support_recorder import CAR, Pipeline, plan, plan_two_steps

PROJECT = Path(__file__).parents[2]
#: More than two blocks of ids, the first of them not whole.
VARIANTS = range(1, 2500)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        insert_jobs(connection, 3)
        yield connection


@pytest.fixture
def score_set_id(connection: Connection) -> int:
    return insert_score_set_of(connection, "tmp:many", VARIANTS)


def rest(
    connection: Connection, score_set_id: int, reason: Reason, *, version: str | None = "v4.1"
) -> None:
    accounts.write_rest_of_scope(
        connection,
        job_id=2,
        score_set_id=score_set_id,
        annotation_type=GNOMAD,
        version=version,
        reason=reason,
        addition="[link_gnomad_variants] Athena is down",
    )


def test_every_status_of_a_step_is_counted_and_few_of_a_kind_are_listed(
    connection: Connection, score_set_id: int
) -> None:
    rare = [Status(n, Reason.MALFORMED_RECORD) for n in (7, 1023, 1024, 2499)]
    common = [Status(n, Reason.NOT_IN_SOURCE) for n in range(1, 1000, 2) if n != 7]
    others = set(VARIANTS) - {status.variant_id for status in (*rare, *common)}
    write(connection, score_set_id, *rare, *common, *(Status(n) for n in others))
    assert assert_counts_follow(connection) == 3 + 1 + 3
    assert counted(connection, score_set_id) == {
        ("v4.1", "success", None): len(others),
        ("v4.1", "skipped", "not_found"): len(common),
        ("v4.1", "failed", "malformed_record"): 4,
    }


def test_a_rerun_of_some_variants_moves_them_from_one_count_to_another(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, *(Status(n, Reason.MALFORMED_RECORD) for n in VARIANTS))
    write(connection, score_set_id, *(Status(n) for n in range(1, 1000)), job_id=2)
    assert_counts_follow(connection)
    write(connection, score_set_id, *(Status(n) for n in range(1000, 1024)), job_id=3)
    assert_counts_follow(connection)
    assert counted(connection, score_set_id) == {
        ("v4.1", "success", None): 1023,
        ("v4.1", "failed", "malformed_record"): 2499 - 1023,
    }


def test_a_release_of_a_source_leaves_the_counts_of_another_alone(
    connection: Connection, score_set_id: int
) -> None:
    for version in ("01_2025", "01_2026"):
        write(
            connection,
            score_set_id,
            *(Status(n) for n in range(1, 101)),
            annotation_type=CLINVAR,
            version=version,
        )
    before = connection.execute(
        text("SELECT id, newest_at FROM account_counts WHERE version = '01_2025'")
    ).all()
    missing = Status(5, Reason.NOT_IN_CLINVAR_RELEASE)
    write(connection, score_set_id, missing, annotation_type=CLINVAR, version="01_2026")
    assert_counts_follow(connection)
    after = connection.execute(
        text("SELECT id, newest_at FROM account_counts WHERE version = '01_2025'")
    ).all()
    assert after == before != []


def test_a_new_mapping_takes_the_place_of_the_old_ones_version(
    connection: Connection, score_set_id: int
) -> None:
    for version in ("1.3", "2"):
        statuses = (Status(n) for n in VARIANTS)
        write(connection, score_set_id, *statuses, annotation_type=MAPPING, version=version)
    assert_counts_follow(connection)
    assert counted(connection, score_set_id) == {("2", "success", None): 2499}


def test_what_a_step_did_not_reach_is_counted_too(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, *(Status(n) for n in range(1, 11)), job_id=2)
    rest(connection, score_set_id, Reason.STEP_FAILED)
    assert_counts_follow(connection)
    assert counted(connection, score_set_id) == {
        ("v4.1", "success", None): 10,
        ("v4.1", "failed", "step_failed"): 2489,
    }


def test_score_sets_whose_variants_share_a_block_are_counted_apart(connection: Connection) -> None:
    odd = insert_score_set_of(connection, "tmp:odd", range(1, 200, 2))
    even = insert_score_set_of(connection, "tmp:even", range(2, 200, 2))
    for score_set_id, first in ((odd, 1), (even, 2), (odd, 1)):
        write(connection, score_set_id, *(Status(n) for n in range(first, 200, 2)))
        assert_counts_follow(connection)
    assert counted(connection, odd) == {("v4.1", "success", None): 100}
    assert counted(connection, even) == {("v4.1", "success", None): 99}


def test_nothing_is_counted_of_what_is_rolled_back(
    connection: Connection, score_set_id: int
) -> None:
    connection.commit()
    write(connection, score_set_id, Status(1))
    connection.rollback()
    assert assert_counts_follow(connection) == 0


def test_two_writers_at_once_lose_no_count(
    engine: Engine, connection: Connection, score_set_id: int
) -> None:
    """Their variants are not the same, but lie in the same blocks."""
    connection.commit()
    start = threading.Barrier(2, timeout=30)  # broken when the other writer fails

    def work(job_id: int, reason: Reason | None) -> None:
        with engine.connect() as own:
            for _ in range(5):
                start.wait()
                with own.begin():
                    statuses = (Status(n, reason) for n in range(job_id, 1500, 2))
                    write(own, score_set_id, *statuses, job_id=job_id)

    with ThreadPoolExecutor() as threads:
        writers = [
            threads.submit(work, 1, None),
            threads.submit(work, 2, Reason.NOT_IN_SOURCE),
        ]
    assert [writer.exception() for writer in writers] == [None, None]
    assert_counts_follow(connection)
    assert counted(connection, score_set_id) == {
        ("v4.1", "success", None): 750,
        ("v4.1", "skipped", "not_found"): 749,
    }


def test_what_is_taken_back_of_a_step_that_had_succeeded_is_not_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flow run seemed to end while it ran; then its own task run tells of its success."""
    plan_two_steps(monkeypatch)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
        pipeline = Pipeline(engine, score_set_id, plan(connection, score_set_id))
    pipeline.open()
    pipeline.begin(CAR)
    pipeline.flow("FAILED", message="the server forgot it")
    with engine.connect() as connection:
        assert counted(connection, score_set_id) == {
            (None, "failed", "step_failed"): 3,
            ("v4.1", "skipped", "dependency_failure"): 3,
        }
    pipeline.task(CAR, "COMPLETED")
    assert pipeline.statuses[CAR] == "succeeded"
    with engine.connect() as connection:
        assert counted(connection, score_set_id) == {("v4.1", "skipped", "dependency_failure"): 3}
        assert_counts_follow(connection)


def test_what_is_taken_back_waits_for_who_writes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each would count without the other's change."""
    plan_two_steps(monkeypatch)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
        pipeline = Pipeline(engine, score_set_id, plan(connection, score_set_id))
    pipeline.open()
    pipeline.begin(CAR)
    pipeline.flow("FAILED")
    taking_back = threading.Thread(target=pipeline.task, args=(CAR, "COMPLETED"))
    with engine.begin() as connection:
        accounts.lock_accounts(connection, [score_set_id])
        taking_back.start()
        taking_back.join(timeout=1)
        assert taking_back.is_alive()
    taking_back.join(timeout=30)
    assert pipeline.statuses[CAR] == "succeeded"


def test_a_new_upload_forgets_the_counts_of_the_variants_that_it_replaces(
    connection: Connection,
) -> None:
    _, score_set_id, _ = insert_brca1(connection)
    target = connection.execute(
        text(
            """
            SELECT target.name, sequence.sequence FROM target_genes AS target
              JOIN target_sequences AS sequence ON sequence.id = target.target_sequence_id
             WHERE target.scoreset_id = :id
            """
        ),
        {"id": score_set_id},
    ).one()
    tables = validate_tables(
        read_table(brca1(20)[0].encode(), "scores.csv"),
        None,
        [Target(target.name, None, target.sequence, "dna", None, is_base_editor=False)],
        scores_file="scores.csv",
        counts_file=None,
        score_columns_metadata=None,
        count_columns_metadata=None,
    )
    assert replace_variants(connection, score_set_id, tables) == 20
    ids = connection.execute(
        text("SELECT id FROM variants WHERE scoreset_id = :id"), {"id": score_set_id}
    ).scalars()
    statuses = [Status(n) for n in ids]
    for job_id in (1, 2):
        write(connection, score_set_id, *statuses, job_id=job_id)
    assert counted(connection, score_set_id) == {("v4.1", "success", None): 20}
    confirmed = text("SELECT sum(variants) FROM status_confirmations")
    assert connection.execute(confirmed).scalar_one() == 20
    replace_variants(connection, score_set_id, tables)
    assert assert_counts_follow(connection) == 0
    assert connection.execute(confirmed).scalar_one() is None


def test_a_database_with_statuses_is_counted_when_it_is_migrated(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, *(Status(n) for n in range(1, 2400)))
    write(connection, score_set_id, Status(3, Reason.NOT_IN_SOURCE), Status(2450), job_id=2)
    migrate(connection, "0007")
    assert "account_counts" not in tables_of(connection)
    migrate(connection, "head")
    assert assert_counts_follow(connection) == 4
    assert account(connection, "tmp:many").counts[0].variants == 2399


def tables_of(connection: Connection) -> set[str]:
    rows = connection.execute(text("SELECT relname FROM pg_class WHERE relkind = 'r'"))
    return set(rows.scalars())


def migrate(connection: Connection, revision: str) -> None:
    config = Config(PROJECT / "alembic.ini", cmd_opts=Namespace(x=["standalone=true"]))
    config.attributes["connection"] = connection
    way = command.downgrade if revision < "0008" else command.upgrade
    way(config, revision)
