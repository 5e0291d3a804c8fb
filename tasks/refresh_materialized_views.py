"""Refresh every materialized view of the database."""

from sqlalchemy import text

from mavedb_audit.hooks import audited_task
from mavedb_audit.steps import Step

#: With a unique index a view can be refreshed while it is read.
_VIEWS = """
    SELECT quote_ident(schema.nspname) || '.' || quote_ident(view.relname) AS name,
           view.relispopulated AND EXISTS (
               SELECT FROM pg_index
                WHERE indrelid = view.oid AND indisunique AND indpred IS NULL AND indisvalid
                  AND indexprs IS NULL) AS concurrently
      FROM pg_class AS view JOIN pg_namespace AS schema ON schema.oid = view.relnamespace
     WHERE view.relkind = 'm' AND pg_table_is_visible(view.oid)
     ORDER BY view.relname
"""


@audited_task
def refresh_materialized_views(
    step: Step,
    correlation_id: str | None = None,
) -> None:
    """Readers of a view that has a unique index are not held up meanwhile."""
    with step.reading() as connection:
        views = connection.execute(text(_VIEWS)).all()
    step.progress(0, 100, f"Refreshing {len(views)} materialized view(s)")
    with step.finishing() as finish:
        for view in views:
            concurrently = "CONCURRENTLY" if view.concurrently else ""
            finish.connection.execute(text(f"REFRESH MATERIALIZED VIEW {concurrently} {view.name}"))
        finish.data["refreshed"] = [view.name for view in views]
