"""The main job on the tables of MaveDB's current release, read back by MaveDB's own models."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mavedb.models.annotation_event import AnnotationEvent
from mavedb.models.job_dependency import JobDependency
from mavedb.models.job_run import JobRun
from mavedb.models.pipeline import Pipeline
from mavedb.models.variant_annotation_status import VariantAnnotationStatus
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from deployments.local import stack as local_stack
from mavedb_audit.pipelines import PIPELINES
from tests.contract.models import import_models
from tests.support import MaveDB, Submitted, brca1, mavedb_of

import_models()

PLAN = PIPELINES["validate_map_annotate_score_set"]
#: What MaveDB's release allows, by its own check constraint.
CATEGORIES = {
    "missing_identifier",
    "unsupported_identifier",
    "external_api_error",
    "external_service_rejected",
    "external_reference_not_found",
    "no_linked_allele",
    "unknown",
}


@pytest.fixture(scope="module")
def mavedb() -> Iterator[MaveDB]:
    state = Path(tempfile.mkdtemp(prefix="mavedb-audit-contract-"))
    tables = ("-m", "tests.contract.make_tables")
    try:
        with local_stack.running(
            state, durable=False, retry_delays_seconds=[0], making_tables=tables
        ) as running:
            yield mavedb_of(running)
    finally:
        shutil.rmtree(state)


@pytest.fixture(scope="module")
def annotated(mavedb: MaveDB) -> Submitted:
    """A score set of whose alleles MaveDB knows one already."""
    with mavedb.fault(mavedb.stack.clingen_url, "rejected", times=1):
        submitted = mavedb.submit(*brca1(30))
        assert mavedb.wait_for(submitted) == "succeeded", mavedb.jobs(submitted)
    return submitted


def test_the_main_job_leaves_rows_that_mavedbs_own_models_read(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    mavedb.assert_every_variant_is_accounted_for(annotated)
    with Session(mavedb.engine) as session:
        pipeline = session.get_one(Pipeline, annotated.pipeline_id)
        jobs = session.scalars(select(JobRun).where(JobRun.pipeline_id == pipeline.id)).all()
        job_ids = [job.id for job in jobs]
        edges = session.scalars(select(JobDependency).where(JobDependency.id.in_(job_ids))).all()
        assert str(pipeline.status) == "succeeded"
        assert {str(job.status) for job in jobs} == {"succeeded"}
        assert len(jobs) == len(PLAN.steps) + 1
        assert len(edges) == sum(len(step.after) for step in PLAN.steps)
        assert all(job.progress_updated_at >= job.started_at for job in jobs)
        statuses = session.scalars(
            select(VariantAnnotationStatus).where(VariantAnnotationStatus.job_run_id.in_(job_ids))
        ).all()
        unsuccessful = [status for status in statuses if str(status.status) != "success"]
        assert unsuccessful
        assert {status.failure_category for status in unsuccessful} <= CATEGORIES
        assert all(status.annotation_metadata["reason"] for status in unsuccessful)


def test_statuses_about_variants_are_told_as_events(mavedb: MaveDB, annotated: Submitted) -> None:
    with Session(mavedb.engine) as session:
        events = session.scalars(
            select(AnnotationEvent).where(AnnotationEvent.annotation_type == "vrs_mapping")
        ).all()
    assert len(events) == 30
    assert {event.disposition for event in events} <= {"present", "failed", "absent"}
    assert {event.score_set_id for event in events} == {annotated.score_set_id}


def test_statuses_about_alleles_are_told_where_mavedb_has_the_allele(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    with mavedb.engine.begin() as connection:
        allele_id = connection.execute(
            text(
                """
                INSERT INTO alleles (vrs_digest, level, created_at, updated_at)
                SELECT mapped.post_mapped ->> 'digest', 'genomic', CURRENT_DATE, CURRENT_DATE
                  FROM mapped_variants AS mapped JOIN variants ON variants.id = variant_id
                 WHERE scoreset_id = :id AND current AND clingen_allele_id LIKE 'CA%' LIMIT 1
                RETURNING id
                """
            ),
            {"id": annotated.score_set_id},
        ).scalar_one()
    again = mavedb.request("annotate_score_set", annotated)
    assert mavedb.wait_for(again) == "succeeded"
    with Session(mavedb.engine) as session:
        events = session.scalars(
            select(AnnotationEvent).where(AnnotationEvent.allele_id == allele_id)
        ).all()
    told = {(event.annotation_type, event.disposition) for event in events}
    assert ("clingen_allele_id", "present") in told
    assert {annotation_type for annotation_type, _ in told} >= {
        "clingen_allele_id",
        "gnomad_allele_frequency",
        "clinvar_control",
        "vep_functional_consequence",
        "mapped_hgvs",
    }


def test_an_unexpected_error_is_errored_there(mavedb: MaveDB) -> None:
    mavedb.execute("ALTER TABLE gnomad_variants ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    try:
        submitted = mavedb.submit(*brca1(10, seed=99))
        assert mavedb.wait_for(submitted) == "failed"
    finally:
        mavedb.execute("ALTER TABLE gnomad_variants DROP CONSTRAINT full_up")
    job = mavedb.jobs(submitted)["link_gnomad_variants"]
    assert (job.status, job.failure_category) == ("errored", "unknown")
    mavedb.assert_every_variant_is_accounted_for(submitted)
