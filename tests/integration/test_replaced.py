"""A new upload deletes the old variants; how they had ended is kept."""

from collections import Counter

from deployments.local.stack import Stack
from tests.support import brca1, mavedb_of


def test_a_new_upload_keeps_how_the_old_variants_had_ended(stack: Stack) -> None:
    mavedb = mavedb_of(stack)
    first = mavedb.submit(*brca1(30))
    mavedb.wait_for(first)
    ended = mavedb.account(first)
    assert len(ended) > 3
    second = mavedb.submit(*brca1(10, seed=2), urn=first.score_set_urn)
    assert mavedb.wait_for(second) == "succeeded"
    kept = mavedb.rows(
        """
        SELECT annotation_type, status, failure_category, variants, version, replaced_by_job_id
          FROM replaced_variant_statuses WHERE score_set_id = :id
        """,
        id=first.score_set_id,
    )
    counts = Counter[tuple[str, str, str | None]]()
    for row in kept:
        counts[row.annotation_type, row.status, row.failure_category] += row.variants
    assert counts == ended
    assert {row.version for row in kept if row.annotation_type == "gnomad_allele_frequency"} == {
        "v4.1"
    }
    creation = mavedb.jobs(second)["create_variants_for_score_set"]
    assert {row.replaced_by_job_id for row in kept} == {creation.id}
