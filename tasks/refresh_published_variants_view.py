"""Refresh the materialized view that lists the variants of published score sets."""

from sqlalchemy import text

from mavedb_audit.hooks import audited_task
from mavedb_audit.steps import Step


@audited_task
def refresh_published_variants_view(
    step: Step,
    score_set_id: int,
    correlation_id: str | None = None,
) -> None:
    """Readers of the view are not held up meanwhile."""
    step.progress(0, 100, "Refreshing the published variants view")
    with step.finishing() as finish:
        finish.connection.execute(
            text("REFRESH MATERIALIZED VIEW CONCURRENTLY published_variants_materialized_view")
        )
