"""A rerun of only those variants of a score set that failed."""

from typing import Any

import pytest

from mavedb_audit import operations
from mavedb_audit.errors import RequestError
from mavedb_audit.recorder.plans import PlannedPipeline
from mavedb_audit.trigger import request_pipeline
from tests.support import MaveDB, Submitted, brca1, wait_until

CURRENT = """
    SELECT status.id, variant_id, annotation_type, status.status, failure_category, job_run_id
      FROM variant_annotation_status AS status JOIN variants ON variants.id = variant_id
     WHERE scoreset_id = :id AND current
"""


@pytest.fixture(scope="module")
def half_rejected(mavedb: MaveDB) -> Submitted:
    """A score set half of whose alleles ClinGen refused."""
    with mavedb.fault(mavedb.stack.clingen_url, "rejected", times=1):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def current(mavedb: MaveDB, submitted: Submitted) -> dict[tuple[int, str], Any]:
    """The current status of each variant and annotation type."""
    rows = mavedb.rows(CURRENT, id=submitted.score_set_id)
    return {
        (row.variant_id, row.annotation_type): row
        for row in rows
        if row.annotation_type in ("vrs_mapping", "clingen_allele_id", "gnomad_allele_frequency")
    }


def failed_variants(mavedb: MaveDB, submitted: Submitted) -> set[int]:
    return {
        variant_id
        for (variant_id, _), row in current(mavedb, submitted).items()
        if row.status == "failed"
    }


def without_allele_id(mavedb: MaveDB, variant_ids: set[int]) -> list[Any]:
    return mavedb.rows(
        """
        SELECT variant_id FROM mapped_variants
         WHERE variant_id = ANY (:ids) AND current AND clingen_allele_id IS NULL
        """,
        ids=sorted(variant_ids),
    )


def run_in_prefect(mavedb: MaveDB, submitted: Submitted) -> Submitted:
    """As the form of Prefect's UI does. Returns the pipeline that the flow planned for itself."""
    deployment = mavedb.prefect("GET", "deployments/name/annotate_score_set/mavedb")
    run = mavedb.prefect(
        "POST",
        f"deployments/{deployment['id']}/create_flow_run",
        {"parameters": {"score_set_id": submitted.score_set_id, "only_failed_variants": True}},
    )
    urn = f"urn:mavedb:pipeline-{run['id']}"
    planned = wait_until(lambda: mavedb.rows("SELECT id FROM pipelines WHERE urn = :urn", urn=urn))
    return as_pipeline(submitted, PlannedPipeline(planned[0].id, urn))


def as_pipeline(submitted: Submitted, planned: PlannedPipeline) -> Submitted:
    return Submitted(
        submitted.score_set_id,
        submitted.score_set_urn,
        submitted.user_id,
        planned.pipeline_id,
        planned.pipeline_urn,
    )


def test_only_the_failed_variants_are_run_again_whatever_comes_of_it(
    mavedb: MaveDB, half_rejected: Submitted
) -> None:
    failed = failed_variants(mavedb, half_rejected)
    before = current(mavedb, half_rejected)
    assert 0 < len(failed) < 20

    with mavedb.fault(mavedb.stack.clingen_url, "status", status=503):
        in_vain = run_in_prefect(mavedb, half_rejected)
        assert mavedb.wait_for(in_vain) == "failed"
    after = current(mavedb, half_rejected)
    # What gnomAD lacks stays as true as it was: only the registration was tried again.
    tried_again = {key for key in after if after[key].id != before[key].id}
    assert tried_again == {(variant_id, "clingen_allele_id") for variant_id in failed}
    assert {after[key].failure_category for key in tried_again} == {"step_failed"}

    planned = operations.rerun_failed_variants(
        half_rejected.score_set_urn, actor="alice", reason="ClinGen was down"
    )
    again = as_pipeline(half_rejected, planned)
    assert mavedb.wait_for(again) == "succeeded"
    mavedb.assert_every_variant_is_accounted_for(half_rejected)
    assert failed_variants(mavedb, half_rejected) == set()
    mended = current(mavedb, half_rejected)
    jobs = {job.id for job in mavedb.jobs(again).values()}
    assert {key[0] for key, row in mended.items() if row.job_run_id in jobs} == failed
    assert without_allele_id(mavedb, failed) == []
    assert mavedb.rows(
        "SELECT action, actor, reason FROM operator_actions WHERE pipeline_id = :id",
        id=planned.pipeline_id,
    ) == [("rerun_failed_variants", "alice", "ClinGen was down")]

    with pytest.raises(RequestError, match="there is nothing to run again"):
        operations.rerun_failed_variants(half_rejected.score_set_urn, actor="alice", reason=None)


def test_a_pipeline_that_works_on_whole_score_sets_cannot_be_limited(
    mavedb: MaveDB, half_rejected: Submitted
) -> None:
    parameters = {
        "score_set_id": half_rejected.score_set_id,
        "updater_id": None,
        "only_failed_variants": True,
    }
    with (
        pytest.raises(RequestError, match="map_variants_for_score_set works on whole score sets"),
        mavedb.engine.begin() as connection,
    ):
        request_pipeline(connection, "map_annotate_score_set", parameters, None, None)


def test_a_score_set_that_is_unknown_is_named(mavedb: MaveDB) -> None:  # noqa: ARG001 - its database
    with pytest.raises(RequestError, match="There is no score set urn:mavedb:nothing"):
        operations.rerun_failed_variants("urn:mavedb:nothing", actor="alice", reason=None)
