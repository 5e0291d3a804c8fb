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

_BLOCKS = f"SELECT DISTINCT variant_id / {BLOCK_SIZE} FROM {{source}} AS touched"

_FORGET = """
    DELETE FROM account_counts AS counted
     WHERE counted.score_set_id = :score_set_id
       AND counted.annotation_type = :annotation_type
       AND counted.id_block = ANY (:blocks)
       AND {same_version}
"""

_COUNT = f"""
    INSERT INTO account_counts
           (score_set_id, annotation_type, version, status, reason, id_block, variants, variant_ids,
            newest_at)
    SELECT :score_set_id, :annotation_type, version, status, reason, id_block, variants,
           CASE WHEN variants <= {MOST_LISTED}
                THEN (SELECT array_agg(id ORDER BY id) FROM unnest(ids) AS id) END,
           newest_at
      FROM (
        SELECT version, status, reason, variant_id / {BLOCK_SIZE} AS id_block,
               count(*) AS variants, array_agg(variant_id) AS ids, max(created_at) AS newest_at
          FROM ({{current}}) AS current_status
         GROUP BY version, status, reason, variant_id / {BLOCK_SIZE}
      ) AS counted
"""

#: OFFSET 0 has each block, and each variant, looked up: the planner knows nothing yet of rows that
#: this transaction wrote, and would else read all of them for every variant.
_LOOKED_UP = f"""
    SELECT variant.id AS variant_id, status.version, status.status, status.reason, status.created_at
      FROM (
        SELECT near.id FROM unnest(CAST(:blocks AS integer[])) AS touched (id_block)
         CROSS JOIN LATERAL (
            SELECT id, scoreset_id FROM variants
             WHERE id BETWEEN touched.id_block * {BLOCK_SIZE}
                          AND touched.id_block * {BLOCK_SIZE} + {BLOCK_SIZE - 1}
            OFFSET 0
          ) AS near
         WHERE near.scoreset_id = :score_set_id {{besides}}
        OFFSET 0
      ) AS variant
     CROSS JOIN LATERAL (
        SELECT status.version, status.status, {{reason}} AS reason, status.created_at
          FROM variant_annotation_status AS status
         WHERE {{is_current}}
        OFFSET 0
      ) AS status
"""
_BESIDES = "AND NOT EXISTS (SELECT FROM {written} AS known WHERE known.variant_id = near.id)"


def current_of(variant_id: str, *, per_version: bool, version: str | None) -> str:
    """SQL for whether `status` is a current row of that variant, which one of :annotation_type and
    :version takes the place of.

    What it is compared with are subqueries, since the planner would take a type, or a release, that
    it has not seen yet for one without rows, and read all of them for every variant.
    """
    same_version = _same_version("status", "(SELECT :version)", per_version, version)
    return f"""
        status.variant_id = {variant_id} AND status.annotation_type = (SELECT :annotation_type)
        AND status.current = (SELECT true) AND {same_version}
    """


def _same_version(row: str, given: str, per_version: bool, version: str | None) -> str:
    """SQL for whether `row` is of :version, or of a type that keeps one status in all."""
    if not per_version:
        return "true"
    return f"{row}.version IS NULL" if version is None else f"{row}.version = {given}"


def count_again(
    connection: Connection,
    source: str,
    *,
    score_set_id: int,
    annotation_type: str,
    per_version: bool,
    version: str | None,
    written: str | None = None,
) -> None:
    """Count the current statuses in every block that has a variant of the table `source`.

    Those of the annotation type, and if `per_version` of that version alone. Where the caller knows
    them, `written` is SQL for the current statuses of the source's variants: variant_id, version,
    status, reason and created_at of each.
    """
    blocks = connection.execute(text(_BLOCKS.format(source=source))).scalars().all()
    parameters = {
        "score_set_id": score_set_id,
        "annotation_type": annotation_type,
        "version": version,
        "blocks": list(blocks),
    }
    forget = _FORGET.format(same_version=_same_version("counted", ":version", per_version, version))
    looked_up = _LOOKED_UP.format(
        besides="" if written is None else _BESIDES.format(written=source),
        reason=release_of(connection).reason("status"),
        is_current=current_of("variant.id", per_version=per_version, version=version),
    )
    current = looked_up if written is None else f"{written} UNION ALL {looked_up}"
    connection.execute(text(forget), parameters)
    connection.execute(text(_COUNT.format(current=current)), parameters)


def forget(connection: Connection, score_set_id: int) -> None:
    """Count nothing of the score set: its variants are about to go."""
    connection.execute(
        text("DELETE FROM account_counts WHERE score_set_id = :id"), {"id": score_set_id}
    )
