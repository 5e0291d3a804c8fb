"""A source that is asked again and answers as before: what is kept of that, and what stays."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries.stories import why
from mavedb_audit.reasons import Reason
from tests.support_accounts import (
    CLINVAR,
    GNOMAD,
    MAPPING,
    NEWER_RELEASE,
    assert_counts_follow,
    insert_jobs,
    insert_score_set_of,
    write,
)

SUBMISSION = AnnotationType.LDH_SUBMISSION
ABSENT = Reason.NOT_IN_SOURCE
#: More than two blocks of ids.
MANY = range(1, 2500)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        insert_jobs(connection, 3)
        connection.commit()
        yield connection


@pytest.fixture
def score_set_id(connection: Connection) -> int:
    score_set_id = insert_score_set_of(connection, "tmp:few", range(1, 5))
    connection.commit()
    return score_set_id


def record(
    connection: Connection,
    score_set_id: int,
    *statuses: Status,
    job_id: int = 1,
    type_: AnnotationType = GNOMAD,
    version: str | None = "v4.1",
) -> None:
    """Write in a transaction of its own, as each job does."""
    with connection.begin():
        write(
            connection,
            score_set_id,
            *statuses,
            job_id=job_id,
            annotation_type=type_,
            version=version,
        )


def rows(connection: Connection) -> list[tuple[object, ...]]:
    """Every status, current or not, with all that is stored of it."""
    with connection.begin():
        found = connection.execute(text("SELECT * FROM variant_annotation_status ORDER BY id"))
        return [tuple(row) for row in found]


def current(connection: Connection) -> list[tuple[int, str, str | None, int | None]]:
    """(variant, status, reason, job) of every current status but the mapping's."""
    with connection.begin():
        found = connection.execute(
            text(
                """
                SELECT variant_id, status, failure_category, job_run_id
                  FROM variant_annotation_status
                 WHERE current AND annotation_type <> 'vrs_mapping' ORDER BY variant_id
                """
            )
        )
        return [tuple(row) for row in found]


def confirmed(connection: Connection) -> list[tuple[object, ...]]:
    """(job, type, version, variants) of every confirmation."""
    with connection.begin():
        found = connection.execute(
            text(
                """
                SELECT job_id, annotation_type, version,
                       array(SELECT n FROM generate_series(1, 3000) AS n WHERE variant_ids @> n)
                  FROM status_confirmations ORDER BY id
                """
            )
        )
        return [tuple(row) for row in found]


def rest(connection: Connection, score_set_id: int, reason: Reason, job_id: int) -> None:
    with connection.begin():
        accounts.write_rest_of_scope(
            connection,
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=GNOMAD,
            version="v4.1",
            reason=reason,
            addition="Athena is down",
        )


FOUND = (
    Status(1, data={"gnomad_db_identifier": "1-2-A-G", "of": [1, 2]}),
    Status(2, ABSENT),
    Status(3, ABSENT, "It said so."),
    Status(4),
)


def test_what_is_found_again_stays_the_first_jobs_and_names_the_later_one(
    connection: Connection, score_set_id: int
) -> None:
    record(connection, score_set_id, Status(1, ABSENT))
    record(connection, score_set_id, *FOUND, job_id=2)
    before = rows(connection)
    record(connection, score_set_id, *FOUND, job_id=3)
    assert rows(connection) == before
    assert confirmed(connection) == [(3, GNOMAD, "v4.1", [1, 2, 3, 4])]
    with connection.begin():
        assert assert_counts_follow(connection) == 2
        (chapter,) = why(connection, "tmp:few#1").chapters
        assert (chapter.job_urn, chapter.confirmed_by_job_urn) == (
            "urn:mavedb:job-2",
            "urn:mavedb:job-3",
        )
        assert chapter.confirmed_at is not None
        assert chapter.confirmed_at > chapter.recorded_at
        assert [earlier.job_urn for earlier in chapter.earlier] == ["urn:mavedb:job-1"]


def test_only_what_differs_is_written_anew(connection: Connection, score_set_id: int) -> None:
    record(connection, score_set_id, *FOUND)
    changed = (
        Status(1, data={"gnomad_db_identifier": "1-2-A-T", "of": [1, 2]}),
        Status(2, ABSENT),
        Status(3, ABSENT, "It says something else."),
        Status(4, ABSENT),
    )
    record(connection, score_set_id, *changed, job_id=2)
    assert current(connection) == [
        (1, "success", None, 2),
        (2, "skipped", ABSENT, 1),
        (3, "skipped", ABSENT, 2),
        (4, "skipped", ABSENT, 2),
    ]
    assert len(rows(connection)) == 7
    assert confirmed(connection) == [(2, GNOMAD, "v4.1", [2])]
    with connection.begin():
        assert_counts_follow(connection)
        (chapter,) = why(connection, "tmp:few#1").chapters
        assert chapter.confirmed_at is None


def test_a_confirmation_is_of_one_release_alone(connection: Connection, score_set_id: int) -> None:
    for version in ("01_2025", "01_2026"):
        record(connection, score_set_id, Status(1), type_=CLINVAR, version=version)
    record(connection, score_set_id, Status(1), type_=CLINVAR, version="01_2026", job_id=2)
    with connection.begin():
        chapters = why(connection, "tmp:few#1").chapters
    assert {chapter.version: chapter.confirmed_by_job_urn for chapter in chapters} == {
        "01_2025": None,
        "01_2026": "urn:mavedb:job-2",
    }


def test_a_type_of_one_status_in_all_has_a_new_row_with_each_version(
    connection: Connection, score_set_id: int
) -> None:
    caid = AnnotationType.CLINGEN_ALLELE_ID
    for job_id, version in ((1, None), (2, "2"), (3, "2")):
        record(connection, score_set_id, Status(1), type_=caid, version=version, job_id=job_id)
    assert current(connection) == [(1, "success", None, 2)]
    assert confirmed(connection) == [(3, caid, "2", [1])]


@pytest.mark.parametrize(
    ("type_", "status"),
    [
        (GNOMAD, Status(1, Reason.MALFORMED_RECORD)),
        (GNOMAD, Status(1, Reason.STEP_SKIPPED)),
        (MAPPING, Status(1)),
        (SUBMISSION, Status(1)),
    ],
    ids=["a failure", "not reached", "a mapping", "a submission"],
)
def test_what_happened_again_is_written_again(
    connection: Connection, score_set_id: int, type_: AnnotationType, status: Status
) -> None:
    for job_id in (1, 2):
        record(connection, score_set_id, status, type_=type_, job_id=job_id)
    assert len(rows(connection)) == 2
    assert confirmed(connection) == []


def test_several_current_rows_of_an_earlier_system_become_one(
    connection: Connection, score_set_id: int
) -> None:
    with connection.begin():
        connection.execute(
            text(
                """
                INSERT INTO variant_annotation_status (variant_id, annotation_type, version, status)
                SELECT 1, 'gnomad_allele_frequency', 'v4.1', 'success' FROM generate_series(1, 2)
                """
            )
        )
    record(connection, score_set_id, Status(1))
    assert current(connection) == [(1, "success", None, 1)]
    assert confirmed(connection) == []


def test_what_a_job_confirmed_is_no_rest_of_its_scope(
    connection: Connection, score_set_id: int
) -> None:
    record(connection, score_set_id, *FOUND)
    record(connection, score_set_id, *FOUND[:2], job_id=2)
    rest(connection, score_set_id, Reason.STEP_FAILED, job_id=2)
    assert current(connection) == [
        (1, "success", None, 1),
        (2, "skipped", ABSENT, 1),
        (3, "failed", Reason.STEP_FAILED, 2),
        (4, "failed", Reason.STEP_FAILED, 2),
    ]


def test_what_was_replaced_after_it_was_confirmed_is_rest_again(
    connection: Connection, score_set_id: int
) -> None:
    record(connection, score_set_id, *FOUND)
    record(connection, score_set_id, *FOUND, job_id=2)
    rest(connection, score_set_id, Reason.STEP_CANCELLED, job_id=3)
    rest(connection, score_set_id, Reason.STEP_FAILED, job_id=2)
    assert {row[2:] for row in current(connection)} == {(Reason.STEP_FAILED, 2)}


def test_a_finding_confirmed_since_the_mapping_outlives_a_step_that_never_ran(
    connection: Connection, score_set_id: int
) -> None:
    mapped = [Status(n) for n in range(1, 5)]
    record(connection, score_set_id, *mapped, type_=MAPPING, version="2")
    record(connection, score_set_id, *FOUND)
    record(connection, score_set_id, *mapped, type_=MAPPING, version="2")
    record(connection, score_set_id, *FOUND[:2], job_id=2)
    rest(connection, score_set_id, Reason.UPSTREAM_NOT_DONE, job_id=3)
    assert [row[2] for row in current(connection)] == [
        *(None, ABSENT),
        *([Reason.UPSTREAM_NOT_DONE] * 2),
    ]


def test_where_reasons_stand_in_the_details_they_are_compared_there(
    connection: Connection, score_set_id: int
) -> None:
    with connection.begin():
        connection.execute(text(NEWER_RELEASE))
    connection.info.clear()
    record(connection, score_set_id, *FOUND)
    before = rows(connection)
    record(connection, score_set_id, *FOUND[:3], Status(4, Reason.MALFORMED_RECORD), job_id=2)
    assert confirmed(connection) == [(2, GNOMAD, "v4.1", [1, 2, 3])]
    assert rows(connection)[:3] == before[:3]
    assert len(rows(connection)) == 5


def test_no_row_is_read_for_every_variant_whatever_the_planner_knows(
    connection: Connection,
) -> None:
    with connection.begin():
        score_set_id = insert_score_set_of(connection, "tmp:many", MANY)
    versions = ("01_2025", "01_2026")
    every = [Status(n) if n % 3 else Status(n, ABSENT) for n in MANY]
    others = [Status(n) for n in MANY]
    read = []
    for statistics in ("none", "of rows that nothing looks for"):
        if statistics != "none":
            with connection.begin():
                connection.execute(text("UPDATE variant_annotation_status SET current = false"))
                connection.execute(text("DELETE FROM account_counts"))
                connection.execute(text("ANALYZE variant_annotation_status, account_counts"))
        type_ = GNOMAD if statistics == "none" else CLINVAR
        for version in versions:
            for statuses in (every, every, others):
                with connection.begin():
                    write(
                        connection,
                        score_set_id,
                        *statuses,
                        annotation_type=type_,
                        version=version,
                    )
                    read.append(rows_read(connection))
    # Each look-up may pass a variant's few earlier statuses, whichever index the planner took.
    assert max(read) < 100 * len(MANY)


def rows_read(connection: Connection) -> int:
    """Of variant_annotation_status, by this transaction."""
    return int(
        connection.execute(
            text(
                """
                SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
                 WHERE relname = 'variant_annotation_status'
                """
            )
        ).scalar_one()
    )
