"""The only writer of account_counts: how many current statuses of a score set's variants are alike.

They are counted in blocks of variant ids, so that little is counted anew when few variants change,
and the variants of a rare reason are found among many without a search. Whoever changes current
statuses counts them in the same transaction, under `accounts.lock_accounts`.
"""

from sqlalchemy import Connection, text

from mavedb_audit.release import release_of

#: Variants whose ids are one in account_counts.id_block.
BLOCK_SIZE = 1024
#: Variants of a block that are listed one by one. Where there are more, a search soon finds them.
MOST_LISTED = 64

_TOUCHED = f"(SELECT DISTINCT variant_id / {BLOCK_SIZE} AS id_block FROM {{source}}) AS touched"

_FORGET = f"""
    DELETE FROM account_counts AS counted
     USING {_TOUCHED}
     WHERE counted.score_set_id = :score_set_id
       AND counted.annotation_type = :annotation_type
       AND (NOT :per_version OR counted.version IS NOT DISTINCT FROM :version)
       AND counted.id_block = touched.id_block
"""

#: The ids of a block are listed, since the planner cannot tell how many lie within bounds.
_COUNT = f"""
    INSERT INTO account_counts
           (score_set_id, annotation_type, version, status, reason, id_block, variants, variant_ids,
            newest_at)
    SELECT :score_set_id, :annotation_type, status.version, status.status, {{reason}},
           touched.id_block, count(*),
           CASE WHEN count(*) <= {MOST_LISTED} THEN array_agg(variant.id ORDER BY variant.id) END,
           max(status.created_at)
      FROM {_TOUCHED}
     CROSS JOIN generate_series(0, {BLOCK_SIZE - 1}) AS place
      JOIN variants AS variant
        ON variant.id = touched.id_block * {BLOCK_SIZE} + place
       AND variant.scoreset_id = :score_set_id
      JOIN variant_annotation_status AS status
        ON status.variant_id = variant.id AND status.annotation_type = :annotation_type
       AND status.current
     WHERE NOT :per_version OR status.version IS NOT DISTINCT FROM :version
     GROUP BY status.version, status.status, {{reason}}, touched.id_block
"""


def count_again(
    connection: Connection,
    source: str,
    *,
    score_set_id: int,
    annotation_type: str,
    per_version: bool,
    version: str | None,
) -> None:
    """Count the current statuses in every block that has a variant of the table `source`.

    Those of the annotation type, and if `per_version` of that version alone.
    """
    parameters = {
        "score_set_id": score_set_id,
        "annotation_type": annotation_type,
        "per_version": per_version,
        "version": version,
    }
    reason = release_of(connection).reason("status")
    connection.execute(text(_FORGET.format(source=source)), parameters)
    connection.execute(text(_COUNT.format(source=source, reason=reason)), parameters)


def forget(connection: Connection, score_set_id: int) -> None:
    """Count nothing of the score set: its variants are about to go."""
    connection.execute(
        text("DELETE FROM account_counts WHERE score_set_id = :id"), {"id": score_set_id}
    )
