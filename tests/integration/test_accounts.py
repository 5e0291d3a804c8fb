"""The per-variant account: what is current, after whatever was written."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import Reason
from tests.support import insert_numbered_variants

GNOMAD = AnnotationType.GNOMAD_ALLELE_FREQUENCY
MAPPING = AnnotationType.VRS_MAPPING


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def score_set_id(connection: Connection) -> int:
    """A score set of three variants with the ids 1, 2 and 3, and two jobs 1 and 2."""
    score_set_id, _ = insert_numbered_variants(connection, 3)
    connection.execute(
        text(
            """
            INSERT INTO job_runs (id, urn, job_type, job_function, status, priority, max_retries,
                                  retry_count)
            SELECT n, 'urn:mavedb:job-' || n, 'mapped_variant_annotation', 'link_gnomad_variants',
                   'running', 0, 3, 0 FROM generate_series(1, 2) AS n
            """
        )
    )
    connection.commit()
    return score_set_id


def write(
    connection: Connection,
    score_set_id: int,
    *statuses: Status,
    job_id: int = 1,
    annotation_type: AnnotationType = GNOMAD,
    version: str | None = "v4.1",
) -> dict[str, int]:
    with connection.begin():
        return accounts.write(
            connection,
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=annotation_type,
            version=version,
            statuses=statuses,
        )


def rest(connection: Connection, score_set_id: int, reason: Reason, *, job_id: int = 2) -> None:
    with connection.begin():
        accounts.write_rest_of_scope(
            connection,
            job_id=job_id,
            score_set_id=score_set_id,
            annotation_type=GNOMAD,
            version="v4.1",
            reason=reason,
            addition="[link_gnomad_variants] Athena is down",
        )


def current(connection: Connection) -> list[tuple[int, str | None, str, str | None]]:
    """(variant, version, status, reason) of every current row."""
    with connection.begin():
        rows = connection.execute(
            text(
                """
                SELECT variant_id, version, status, failure_category
                  FROM variant_annotation_status WHERE current ORDER BY 1, annotation_type, 2
                """
            )
        )
        return [tuple(row) for row in rows]


def test_a_later_status_replaces_the_earlier_one_and_both_are_kept(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, Status(1, Reason.NOT_IN_SOURCE), Status(2))
    counts = write(connection, score_set_id, Status(1, data={"gnomad_db_identifier": "1-2-A-G"}))
    assert counts == {"success": 1, "failed": 0, "skipped": 0}
    assert current(connection) == [(1, "v4.1", "success", None), (2, "v4.1", "success", None)]
    kept = connection.execute(text("SELECT count(*) FROM variant_annotation_status")).scalar_one()
    assert kept == 3


def test_another_release_is_another_status(connection: Connection, score_set_id: int) -> None:
    write(connection, score_set_id, Status(1))
    write(connection, score_set_id, Status(1, Reason.NOT_IN_SOURCE), version="v5.0")
    assert [row[1] for row in current(connection)] == ["v4.1", "v5.0"]


def test_a_new_mapping_replaces_one_of_another_vrs_version(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, Status(1), annotation_type=MAPPING, version="1.3")
    failed = Status(1, Reason.MAPPING_FAILED, "no hit")
    write(connection, score_set_id, failed, annotation_type=MAPPING, version=None)
    assert current(connection) == [(1, None, "failed", "vrs_mapping_failed")]


def test_a_status_says_who_wrote_it_why_and_what_the_service_said(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, Status(1, Reason.MALFORMED_RECORD, "alleles [A]"))
    row = connection.execute(
        text("SELECT job_run_id, error_message, success_data FROM variant_annotation_status")
    ).one()
    assert row.job_run_id == 1
    assert row.error_message == "The source's record of this variant could not be read. alleles [A]"
    assert row.success_data is None


def test_the_rest_of_the_scope_is_what_the_job_has_not_written_itself(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, Status(1), Status(2), job_id=1)
    write(connection, score_set_id, Status(2, Reason.NOT_IN_SOURCE), job_id=2)
    rest(connection, score_set_id, Reason.STEP_FAILED, job_id=2)
    assert current(connection) == [
        (1, "v4.1", "failed", "step_failed"),
        (2, "v4.1", "skipped", "not_found"),
        (3, "v4.1", "failed", "step_failed"),
    ]


def test_a_step_that_never_ran_keeps_what_was_found_out_since_the_mapping(
    connection: Connection, score_set_id: int
) -> None:
    mapped = [Status(1), Status(2), Status(3)]
    write(connection, score_set_id, *mapped, annotation_type=MAPPING, version="2")
    write(
        connection,
        score_set_id,
        Status(1, Reason.NOT_IN_SOURCE),
        Status(2),
        Status(3, Reason.STEP_FAILED),
    )
    write(connection, score_set_id, Status(2), annotation_type=MAPPING, version="2")
    rest(connection, score_set_id, Reason.UPSTREAM_NOT_DONE)
    assert [row for row in current(connection) if row[1] == "v4.1"] == [
        (1, "v4.1", "skipped", "not_found"),
        (2, "v4.1", "skipped", "dependency_failure"),
        (3, "v4.1", "skipped", "dependency_failure"),
    ]


def test_two_writers_at_once_leave_one_current_row(
    engine: Engine, connection: Connection, score_set_id: int
) -> None:
    start = threading.Barrier(2)

    def work(job_id: int) -> None:
        with engine.connect() as own:
            start.wait()
            write(own, score_set_id, *(Status(n) for n in (1, 2, 3)), job_id=job_id)

    for _ in range(5):
        writers = [threading.Thread(target=work, args=(job_id,)) for job_id in (1, 2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    assert [row[0] for row in current(connection)] == [1, 2, 3]


def test_the_audit_does_not_commit_for_its_caller(
    connection: Connection, score_set_id: int
) -> None:
    transaction = connection.begin()
    accounts.write(
        connection,
        job_id=1,
        score_set_id=score_set_id,
        annotation_type=GNOMAD,
        version="v4.1",
        statuses=[Status(1)],
    )
    transaction.rollback()
    assert current(connection) == []
