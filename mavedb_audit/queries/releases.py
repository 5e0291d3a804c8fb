"""What changed for a score set's variants between two releases of a source.

Of ClinVar and of gnomAD a variant keeps a status for each release, and so two can be compared.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, text

from mavedb_audit.account_counts import BLOCK_SIZE
from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.pipelines import KEPT_PER_VERSION, AnnotationType
from mavedb_audit.reasons import NOT_REACHED
from mavedb_audit.release import Release, release_of
from mavedb_audit.views import View


class Change(StrEnum):
    """What became of a variant's record from one release to the other.

    UNKNOWN are variants that one of the releases has no answer for: its step failed, or never got
    that far. A variant is NEVER there where both releases have no record of it.
    """

    GAINED = "gained"
    LOST = "lost"
    CHANGED = "changed"
    SAME = "same"
    NEVER = "never"
    UNKNOWN = "unknown"


DIFFERENCES = (Change.GAINED, Change.LOST, Change.CHANGED)


class Said(View):
    """What a release says of a variant. `record` is None where it has none, and `reason` says why.

    Of ClinVar a record holds clinvar_allele_id, clinical_significance and clinical_review_status;
    of gnomAD gnomad_db_identifier, allele_count, allele_number, allele_frequency and faf95_max.
    """

    status: str | None
    reason: str | None
    record: dict[str, Any] | None


class VariantChange(View):
    variant_urn: str
    hgvs_nt: str | None
    hgvs_pro: str | None
    change: Change
    before: Said
    after: Said


class Transition(View):
    """How many variants went from one clinical significance to another; None is no record."""

    before: str | None
    after: str | None
    variants: int


class ReleaseDiff(View):
    """`counts` has every change, and their sum is the number of variants.

    `transitions` are of ClinVar's clinical significance alone, the most frequent first.
    `next_cursor` asks `changes` for the variants that follow; None when none do.
    """

    score_set_urn: str
    annotation_type: str
    from_version: str
    to_version: str
    counts: dict[Change, int]
    transitions: list[Transition]
    variants: list[VariantChange]
    next_cursor: str | None


class ChangePage(View):
    """`next_cursor` asks for what follows; None when nothing does."""

    variants: list[VariantChange]
    next_cursor: str | None


#: By type: the record that `status` names. Of those that were once inserted twice, the first.
_RECORD = {
    AnnotationType.CLINVAR_CONTROL: """
        SELECT jsonb_build_object('clinvar_allele_id', db_identifier,
                                  'clinical_significance', clinical_significance,
                                  'clinical_review_status', clinical_review_status) AS record
          FROM {controls}
         WHERE db_name = 'ClinVar' AND db_version = status.version
           AND db_identifier = status.{data} ->> 'clinvar_allele_id'
         ORDER BY id LIMIT 1
    """,
    AnnotationType.GNOMAD_ALLELE_FREQUENCY: """
        SELECT jsonb_build_object('gnomad_db_identifier', db_identifier,
                                  'allele_count', allele_count, 'allele_number', allele_number,
                                  'allele_frequency', allele_frequency,
                                  'faf95_max', faf95_max) AS record
          FROM gnomad_variants
         WHERE db_name = 'gnomAD' AND db_version = status.version
           AND db_identifier = status.{data} ->> 'gnomad_db_identifier'
         ORDER BY id LIMIT 1
    """,
}

#: Looked up for each variant, whatever the number of score sets that have statuses of the release.
_SIDE = """
    SELECT status.status, {reason} AS reason, found.record,
           status.status = 'success' AS is_there,
           status.status = 'skipped' AND coalesce({reason}, '') <> ALL (:not_reached) AS is_absent
      FROM variant_annotation_status AS status
      LEFT JOIN LATERAL ({record}) AS found ON true
     WHERE status.variant_id = variant.id AND status.annotation_type = :annotation_type
       AND status.version = :{version} AND status.current
     LIMIT 1
"""

_COMPARED = """
    SELECT variant.id, variant.urn, variant.hgvs_nt, variant.hgvs_pro,
           before.status AS status_before, before.reason AS reason_before,
           before.record AS record_before,
           after.status AS status_after, after.reason AS reason_after,
           after.record AS record_after,
           CASE
             WHEN before.is_there AND after.is_there AND before.record = after.record THEN 'same'
             WHEN before.is_there AND after.is_there AND before.record <> after.record
               THEN 'changed'
             WHEN before.is_absent AND after.is_there THEN 'gained'
             WHEN before.is_there AND after.is_absent THEN 'lost'
             WHEN before.is_absent AND after.is_absent THEN 'never'
             ELSE 'unknown'
           END AS change
      FROM variants AS variant
      LEFT JOIN LATERAL ({before}) AS before ON true
      LEFT JOIN LATERAL ({after}) AS after ON true
     WHERE variant.scoreset_id = :score_set_id
"""

_COUNTS = """
    SELECT change, record_before ->> 'clinical_significance' AS before,
           record_after ->> 'clinical_significance' AS after, count(*) AS variants
      FROM ({compared}) AS compared GROUP BY 1, 2, 3 ORDER BY variants DESC, before, after
"""

#: In the order of ids, from the first block of ids that the score set's counts are of to the last:
#: the planner would else look for them among the variants of all.
_PAGE = f"""
    SELECT * FROM ({{compared}} AND variant.id > :after_id
       AND variant.id >= (
        SELECT coalesce(min(id_block), 0) * {BLOCK_SIZE} FROM account_counts
         WHERE score_set_id = :score_set_id AND annotation_type = :annotation_type)
       AND variant.id <= (
        SELECT coalesce((max(CAST(id_block AS bigint)) + 1) * {BLOCK_SIZE}, {2**31 - 1})
          FROM account_counts
         WHERE score_set_id = :score_set_id AND annotation_type = :annotation_type)) AS compared
     WHERE change = ANY (:changes) ORDER BY id LIMIT :limit
"""


def diff(
    connection: Connection,
    score_set_urn: str,
    *,
    from_version: str,
    to_version: str,
    annotation_type: str = AnnotationType.CLINVAR_CONTROL,
    limit: int = 50,
) -> ReleaseDiff:
    """What changed from one release to the other, with the first `limit` variants that differ.

    Versions are as statuses have them, such as 01_2025 of ClinVar and v4.1 of gnomAD.
    Raises RequestError for an unknown score set, a type that keeps no releases, and a release that
    no variant of the score set has a status of.
    """
    compared, parameters = _comparison(
        connection, score_set_urn, annotation_type, from_version, to_version
    )
    counts = dict.fromkeys(Change, 0)
    transitions = []
    for row in connection.execute(text(_COUNTS.format(compared=compared)), parameters):
        change = Change(row.change)
        counts[change] += row.variants
        if change in DIFFERENCES and row.before != row.after:
            transitions.append(
                Transition(before=row.before, after=row.after, variants=row.variants)
            )
    first = _page(connection, compared, {**parameters, "after_id": 0}, DIFFERENCES, limit)
    return ReleaseDiff(
        score_set_urn=score_set_urn,
        annotation_type=annotation_type,
        from_version=from_version,
        to_version=to_version,
        counts=counts,
        transitions=transitions,
        variants=first.variants,
        next_cursor=first.next_cursor,
    )


def changes(
    connection: Connection,
    score_set_urn: str,
    *,
    from_version: str,
    to_version: str,
    annotation_type: str = AnnotationType.CLINVAR_CONTROL,
    only: Sequence[Change] = DIFFERENCES,
    cursor: str | None = None,
    limit: int = 50,
) -> ChangePage:
    """The variants with those changes, in the order of their ids, as many as `limit` at once.

    Raises RequestError as `diff` does, and for a cursor that is none of ours.
    """
    if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 11):
        raise RequestError(f"{cursor!r} is not a cursor: give the next_cursor of the last page")
    compared, parameters = _comparison(
        connection, score_set_urn, annotation_type, from_version, to_version
    )
    return _page(connection, compared, {**parameters, "after_id": int(cursor or 0)}, only, limit)


def _comparison(
    connection: Connection,
    score_set_urn: str,
    annotation_type: str,
    from_version: str,
    to_version: str,
) -> tuple[str, dict[str, Any]]:
    """The SQL that compares the releases, and its parameters."""
    if annotation_type not in KEPT_PER_VERSION:
        raise RequestError(
            f"{annotation_type!r} keeps no status of each release; those that do are:"
            f" {', '.join(sorted(KEPT_PER_VERSION))}"
        )
    kind = AnnotationType(annotation_type)
    score_set_id = connection.execute(
        text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": score_set_urn}
    ).scalar_one_or_none()
    if score_set_id is None:
        raise NotFoundError(f"There is no score set {score_set_urn}")
    for version in (from_version, to_version):
        _require_version(connection, score_set_urn, score_set_id, kind, version)
    release = release_of(connection)
    sides = {side: _side(release, kind, f"{side}_version") for side in ("before", "after")}
    return _COMPARED.format(**sides), {
        "score_set_id": score_set_id,
        "annotation_type": kind,
        "before_version": from_version,
        "after_version": to_version,
        "not_reached": sorted(NOT_REACHED),
    }


def _side(release: Release, kind: AnnotationType, version: str) -> str:
    record = _RECORD[kind].format(controls=release.controls_table, data=release.status_data)
    return _SIDE.format(reason=release.reason("status"), record=record, version=version)


def _require_version(
    connection: Connection,
    score_set_urn: str,
    score_set_id: int,
    kind: AnnotationType,
    version: str,
) -> None:
    given = {"score_set_id": score_set_id, "annotation_type": kind, "version": version}
    if connection.execute(text(_HAS_VERSION), given).scalar_one():
        return
    there = connection.execute(text(_VERSIONS), given).scalars().all()
    # ClinVar's are month_year.
    in_order = sorted(there, key=lambda name: name.split("_")[::-1])
    raise RequestError(
        f"No variant of {score_set_urn} has a status of {kind} {version};"
        f" there are: {', '.join(in_order) or 'none'}"
    )


_HAS_VERSION = """
    SELECT EXISTS (
        SELECT FROM variants AS variant
          JOIN variant_annotation_status AS status ON status.variant_id = variant.id
         WHERE variant.scoreset_id = :score_set_id AND status.current
           AND status.annotation_type = :annotation_type AND status.version = :version)
"""
_VERSIONS = """
    SELECT DISTINCT status.version
      FROM variants AS variant
      JOIN variant_annotation_status AS status ON status.variant_id = variant.id
     WHERE variant.scoreset_id = :score_set_id AND status.current
       AND status.annotation_type = :annotation_type AND status.version IS NOT NULL
"""


def _page(
    connection: Connection,
    compared: str,
    parameters: dict[str, Any],
    only: Sequence[Change],
    limit: int,
) -> ChangePage:
    """One more row is asked for than is shown, to know whether more follow."""
    rows = connection.execute(
        text(_PAGE.format(compared=compared)),
        {**parameters, "changes": [str(change) for change in only], "limit": limit + 1},
    ).all()
    shown = rows[:limit]
    return ChangePage(
        variants=[_variant(row) for row in shown],
        next_cursor=str(shown[-1].id) if len(rows) > limit else None,
    )


def _variant(row: Row[Any]) -> VariantChange:
    return VariantChange(
        variant_urn=row.urn,
        hgvs_nt=row.hgvs_nt,
        hgvs_pro=row.hgvs_pro,
        change=Change(row.change),
        before=Said(status=row.status_before, reason=row.reason_before, record=row.record_before),
        after=Said(status=row.status_after, reason=row.reason_after, record=row.record_after),
    )
