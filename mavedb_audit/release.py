"""What differs between MaveDB's releases in the tables that we share, as found in the database."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from mavedb_audit.database import AnyConnection

_KEY = "mavedb_release"


@dataclass(frozen=True)
class Release:
    """What the tables of this database have. Names of columns go into SQL as they are.

    `status_data` is the column of variant_annotation_status for an annotation's details. Where the
    values of its failure_category are a closed list, our reason stands in those details.
    """

    has_priority: bool
    has_errored: bool
    has_progress_time: bool
    status_data: str
    has_closed_categories: bool
    controls_table: str
    has_variation_id: bool
    has_events: bool

    @property
    def touched(self) -> str:
        """What an UPDATE of job_runs sets besides: newer releases show when a job last moved."""
        return ", progress_updated_at = now()" if self.has_progress_time else ""

    def reason(self, status: str) -> str:
        """SQL for the reason of `status`, a row of variant_annotation_status."""
        if self.has_closed_categories:
            return f"({status}.{self.status_data} ->> 'reason')"
        return f"{status}.failure_category"


_FOUND = """
    WITH found AS (
        SELECT relation.relname AS table_name, attribute.attname AS column_name
          FROM pg_class AS relation
          JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
         WHERE pg_table_is_visible(relation.oid) AND attribute.attnum > 0
           AND NOT attribute.attisdropped
           AND relation.relname IN ('job_runs', 'variant_annotation_status', 'clinvar_controls',
                                    'clinical_controls', 'annotation_event')
    ), checked AS (
        SELECT relation.relname AS table_name, pg_get_constraintdef(constrains.oid) AS definition
          FROM pg_constraint AS constrains JOIN pg_class AS relation
            ON relation.oid = constrains.conrelid
         WHERE pg_table_is_visible(relation.oid) AND constrains.contype = 'c'
           AND relation.relname IN ('job_runs', 'variant_annotation_status')
    )
    SELECT EXISTS (SELECT FROM found WHERE table_name = 'job_runs'
                                       AND column_name = 'priority') AS has_priority,
           EXISTS (SELECT FROM checked WHERE table_name = 'job_runs'
                                         AND definition LIKE '%''errored''%') AS has_errored,
           EXISTS (SELECT FROM found WHERE table_name = 'job_runs'
                      AND column_name = 'progress_updated_at') AS has_progress_time,
           coalesce((SELECT min(column_name) FROM found
                      WHERE table_name = 'variant_annotation_status'
                        AND column_name IN ('success_data', 'annotation_metadata')),
                    'success_data') AS status_data,
           EXISTS (SELECT FROM checked WHERE table_name = 'variant_annotation_status'
                      AND definition LIKE '%failure_category%') AS has_closed_categories,
           coalesce((SELECT min(table_name) FROM found
                      WHERE table_name IN ('clinical_controls', 'clinvar_controls')),
                    'clinical_controls') AS controls_table,
           EXISTS (SELECT FROM found WHERE column_name = 'clinvar_variation_id'
                      AND table_name IN ('clinical_controls', 'clinvar_controls'))
                    AS has_variation_id,
           EXISTS (SELECT FROM found WHERE table_name = 'annotation_event') AS has_events
"""


def release_of(connection: AnyConnection) -> Release:
    """What this database has; looked up once for each session with it."""
    core = connection if isinstance(connection, Connection) else connection.connection()
    release: Release | None = core.info.get(_KEY)
    if release is None:
        row = core.execute(text(_FOUND)).one()
        release = core.info[_KEY] = Release(**row._mapping)
    return release
