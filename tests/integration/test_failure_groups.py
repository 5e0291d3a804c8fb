"""Failures in groups: of variants by reason, and of the jobs that ended failed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from mavedb_audit.accounts import Status
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries.failures import By, FailureGroup, failures
from mavedb_audit.reasons import MEANINGS, Reason, explain
from mavedb_audit.services import Service
from tests.support_accounts import (
    CLINVAR,
    NEWER_RELEASE,
    insert_jobs,
    insert_score_set_of,
    write,
)
from tests.support_recorder import CAR, DOWN, GNOMAD, Pipeline, plan

CAID = AnnotationType.CLINGEN_ALLELE_ID
VEP = AnnotationType.VEP_FUNCTIONAL_CONSEQUENCE


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        insert_jobs(connection, 1)
        yield connection


@pytest.fixture
def many_failures(connection: Connection) -> tuple[int, int]:
    """Two score sets whose variants failed for several reasons, and their neighbours did not."""
    large = insert_score_set_of(connection, "tmp:large", range(1, 2001))
    small = insert_score_set_of(connection, "tmp:small", range(2001, 2011))
    write(
        connection,
        large,
        *(Status(n) for n in range(1, 1001)),
        *(Status(n, Reason.NOT_IN_SOURCE) for n in range(1001, 1901)),
        *(Status(n, Reason.MALFORMED_RECORD, f"line {n}") for n in range(1901, 2001)),
    )
    lookup = Reason.CLINGEN_LOOKUP_FAILED
    failed = [Status(n, lookup, "HTTP 503") for n in range(2001, 2006)]
    write(connection, small, *failed, annotation_type=CLINVAR, version="01_2026")
    write(connection, small, *failed[:2], annotation_type=CAID, version=None)
    write(connection, small, Status(2001, Reason.ENSEMBL_FAILED), annotation_type=VEP, version=None)
    return large, small


def by(connection: Connection, what: By, since: datetime | None = None) -> dict[str, FailureGroup]:
    return {group.group: group for group in failures(connection, by=what, since=since)}


def of(pipeline: Pipeline, what: By, since: datetime | None = None) -> dict[str, FailureGroup]:
    with pipeline.engine.connect() as connection:
        return by(connection, what, since)


@pytest.mark.usefixtures("many_failures")
def test_by_reason_the_failed_variants_of_all_score_sets_are_counted(
    connection: Connection,
) -> None:
    groups = by(connection, "reason")
    assert {name: (group.variants, group.jobs) for name, group in groups.items()} == {
        Reason.MALFORMED_RECORD: (100, 0),
        Reason.CLINGEN_LOOKUP_FAILED: (7, 0),
        Reason.ENSEMBL_FAILED: (1, 0),
    }
    assert list(groups) == [
        Reason.MALFORMED_RECORD,
        Reason.CLINGEN_LOOKUP_FAILED,
        Reason.ENSEMBL_FAILED,
    ]
    lookup = groups[Reason.CLINGEN_LOOKUP_FAILED]
    assert lookup.annotation_types == {CLINVAR: 5, CAID: 2}
    assert lookup.hint == MEANINGS[Reason.CLINGEN_LOOKUP_FAILED].hint
    assert lookup.example == explain(Reason.CLINGEN_LOOKUP_FAILED, "HTTP 503")


@pytest.mark.usefixtures("many_failures")
def test_the_example_is_of_a_variant_that_failed_so(connection: Connection) -> None:
    for group in failures(connection, by="reason"):
        recorded = connection.execute(
            text(
                """
                SELECT failure_category, error_message FROM variant_annotation_status
                  JOIN variants ON variants.id = variant_id
                 WHERE urn = :urn AND current AND status = 'failed'
                """
            ),
            {"urn": group.example_urn},
        ).all()
        assert (group.group, group.example) in [tuple(row) for row in recorded]


@pytest.mark.usefixtures("many_failures")
def test_by_service_a_reason_counts_for_the_service_that_it_blames(connection: Connection) -> None:
    groups = by(connection, "service")
    assert {name: group.reasons for name, group in groups.items()} == {
        Service.GNOMAD: {Reason.MALFORMED_RECORD: 100},
        Service.CLINGEN_ALLELE_REGISTRY: {Reason.CLINGEN_LOOKUP_FAILED: 7},
        Service.ENSEMBL: {Reason.ENSEMBL_FAILED: 1},
    }


@pytest.mark.usefixtures("many_failures")
def test_by_score_set_all_that_failed_in_it_is_counted(connection: Connection) -> None:
    groups = by(connection, "score-set")
    assert {name: group.reasons for name, group in groups.items()} == {
        "tmp:large": {Reason.MALFORMED_RECORD: 100},
        "tmp:small": {Reason.CLINGEN_LOOKUP_FAILED: 7, Reason.ENSEMBL_FAILED: 1},
    }
    assert groups["tmp:small"].hint == MEANINGS[Reason.CLINGEN_LOOKUP_FAILED].hint
    assert str(groups["tmp:small"].example_urn).startswith("tmp:small#")
    assert [g.group for g in failures(connection, by="score-set", limit=1)] == ["tmp:large"]


def test_what_has_been_mended_stands_no_more(
    connection: Connection, many_failures: tuple[int, int]
) -> None:
    large, _ = many_failures
    write(connection, large, *(Status(n) for n in range(1901, 2000)))
    assert by(connection, "reason")[Reason.MALFORMED_RECORD].variants == 1
    write(connection, large, Status(2000))
    assert Reason.MALFORMED_RECORD not in by(connection, "reason")


def test_a_deleted_score_set_has_no_failures(
    connection: Connection, many_failures: tuple[int, int]
) -> None:
    large, _ = many_failures
    for table in ("variants", "target_genes"):
        connection.execute(text(f"DELETE FROM {table} WHERE scoreset_id = {large}"))
    connection.execute(text(f"DELETE FROM scoresets WHERE id = {large}"))
    assert list(by(connection, "score-set")) == ["tmp:small"]
    assert Reason.MALFORMED_RECORD not in by(connection, "reason")


@pytest.mark.usefixtures("many_failures")
def test_since_a_time_what_failed_before_it_is_left_out(connection: Connection) -> None:
    connection.execute(
        text(
            """
            UPDATE account_counts SET newest_at = newest_at - interval '2 days'
             WHERE annotation_type <> 'vep_functional_consequence'
            """
        )
    )
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert list(by(connection, "reason", yesterday)) == [Reason.ENSEMBL_FAILED]


def test_newer_releases_of_mavedb_have_the_reason_in_their_details(connection: Connection) -> None:
    connection.execute(text(NEWER_RELEASE))
    score_set_id = insert_score_set_of(connection, "tmp:newer", range(1, 101))
    write(connection, score_set_id, *(Status(n, Reason.MALFORMED_RECORD) for n in range(1, 101)))
    (group,) = failures(connection)
    assert (group.group, group.variants) == (Reason.MALFORMED_RECORD, 100)
    assert group.example == explain(Reason.MALFORMED_RECORD)


def test_a_failed_job_is_under_the_reason_that_it_gave_its_variants(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.fail(pipeline.begin(CAR))
    (group,) = of(pipeline, "reason").values()
    assert (group.group, group.variants, group.jobs) == (Reason.STEP_FAILED, 3, 1)
    assert group.categories == {DOWN.category: 1}
    assert group.example == explain(Reason.STEP_FAILED, f"[{CAR}] {DOWN.message}")
    assert list(of(pipeline, "service")) == [Service.CLINGEN_ALLELE_REGISTRY]
    assert list(of(pipeline, "score-set")) == ["tmp:numbered"]
    finished = pipeline.rows(f"SELECT finished_at FROM job_runs WHERE job_function = '{CAR}'")
    assert group.last_at == finished[0][0]
    assert of(pipeline, "reason", datetime.now(UTC)) == {}


def test_a_failed_job_stands_until_a_later_one_of_its_step_succeeds(pipeline: Pipeline) -> None:
    pipeline.open()
    pipeline.finish(pipeline.begin(CAR))
    pipeline.fail(pipeline.begin(GNOMAD))
    assert of(pipeline, "service")[Service.GNOMAD].jobs == 1
    with pipeline.engine.begin() as connection:
        later = Pipeline(pipeline.engine, pipeline.score_set_id, plan(connection, 1))
    later.open()
    later.finish(later.begin(CAR))
    assert of(pipeline, "service")[Service.GNOMAD].jobs == 1
    later.finish(later.begin(GNOMAD))
    assert of(pipeline, "service")[Service.GNOMAD].jobs == 0


@pytest.mark.parametrize(("later_month", "jobs"), [(1, 0), (2, 1)])
def test_a_job_without_variants_is_under_its_category_until_the_same_work_is_done(
    connection: Connection, later_month: int, jobs: int
) -> None:
    connection.execute(
        text(
            """
            WITH given (status, category, message, month) AS (
                VALUES ('failed', 'network_error', 'NCBI is down', 1),
                       ('succeeded', NULL, NULL, :later_month)
            ), pipeline AS (
                INSERT INTO pipelines (urn, name, status)
                SELECT :urn || status, 'load_clinvar_release', status FROM given
                RETURNING id, status
            ), job AS (
                INSERT INTO job_runs (urn, job_type, job_function, status, failure_category,
                                      error_message, job_params, pipeline_id, finished_at,
                                      priority, max_retries, retry_count)
                SELECT 'urn:mavedb:job-' || given.status || month, 'data_management',
                       'load_clinvar_release', given.status, given.category, given.message,
                       jsonb_build_object('year', 2026, 'month', month, 'correlation_id',
                                          given.status),
                       pipeline.id, now(), 0, 0, 0
                  FROM given JOIN pipeline USING (status) ORDER BY given.status
                RETURNING id, pipeline_id
            )
            INSERT INTO planned_jobs (job_id, pipeline_id, job_key)
            SELECT id, pipeline_id, 'load_clinvar_release' FROM job
            """
        ),
        {"urn": f"urn:mavedb:pipeline-{uuid4()}", "later_month": later_month},
    )
    groups = failures(connection, by="reason")
    assert [(group.group, group.jobs, group.example) for group in groups] == [
        ("network_error", 1, "NCBI is down")
    ][:jobs]
    assert [group.group for group in failures(connection, by="service")] == [
        Service.CLINVAR_ARCHIVE
    ][:jobs]
