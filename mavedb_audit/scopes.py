"""Which variants a job works on: its score set's, or those of them that its pipeline is limited to.

The only writer of pipeline_variants.
"""

from collections.abc import Sequence

from sqlalchemy import text

from mavedb_audit.database import AnyConnection
from mavedb_audit.pipelines import KEPT_PER_VERSION, AnnotationType

#: SQL: whether `variant`, a row of variants, is in the scope of the job :job_id on :score_set_id.
#: The subqueries stand alone, so that each is run once and not for every variant.
IN_SCOPE = """(
    variant.scoreset_id = :score_set_id
    AND (NOT EXISTS (
           SELECT FROM planned_jobs JOIN pipeline_variants USING (pipeline_id)
            WHERE job_id = :job_id)
         OR variant.id IN (
           SELECT variant_id FROM planned_jobs JOIN pipeline_variants USING (pipeline_id)
            WHERE job_id = :job_id))
)"""


def limit_to_failed(
    connection: AnyConnection,
    *,
    pipeline_id: int,
    score_set_id: int,
    owed: Sequence[tuple[AnnotationType, str | None]],
) -> int:
    """Limit the pipeline to the variants that have failed in any annotation that it owes.

    `owed` holds types with the version that the pipeline writes. A variant stays in scope for all
    steps: what failed in one is what the next ones lacked. Returns how many variants there are.
    """
    limited = connection.execute(
        text(
            """
            INSERT INTO pipeline_variants (pipeline_id, variant_id)
            SELECT DISTINCT CAST(:pipeline_id AS integer), variant.id
              FROM unnest(CAST(:types AS text[]), CAST(:versions AS text[])) AS owed (type, version)
              JOIN variant_annotation_status AS status
                ON status.annotation_type = owed.type AND status.current
               AND status.status = 'failed'
               AND (owed.type <> ALL (:kept_per_version)
                    OR status.version IS NOT DISTINCT FROM owed.version)
              JOIN variants AS variant ON variant.id = status.variant_id
             WHERE variant.scoreset_id = :score_set_id
            RETURNING variant_id
            """
        ),
        {
            "pipeline_id": pipeline_id,
            "score_set_id": score_set_id,
            "types": [str(annotation_type) for annotation_type, _ in owed],
            "versions": [version for _, version in owed],
            "kept_per_version": sorted(KEPT_PER_VERSION),
        },
    )
    return len(limited.all())
