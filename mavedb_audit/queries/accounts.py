"""A score set's account: how many variants have which status of each annotation, and which ones."""

import base64
import binascii
import struct
from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple
from zlib import crc32

from sqlalchemy import Connection, text

from mavedb_audit.account_counts import BLOCK_SIZE
from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.reasons import AnnotationStatus, meaning_of
from mavedb_audit.release import release_of
from mavedb_audit.views import View

#: Variants that a page may have at most.
MOST_A_PAGE = 500
_TYPES = [str(annotation_type) for annotation_type in AnnotationType]
_STATUSES = [str(status) for status in AnnotationStatus]


class Count(View):
    """How many variants of a score set have one status, for one reason, of one annotation.

    `reason` is None for success, and where MaveDB wrote the status itself without one. `sentence`
    says what it means, `hint` what to do.
    """

    annotation_type: str
    version: str | None
    status: str
    reason: str | None
    sentence: str | None
    hint: str | None
    variants: int


class Account(View):
    """`counts` are in the order of the plan, of versions, and of statuses from good to bad; then
    those of most variants first."""

    score_set_urn: str
    title: str
    variants: int
    processing_state: str | None
    mapping_state: str | None
    counts: list[Count]


class VariantStatus(View):
    """One variant's current status of one annotation. `message` has what the service said.

    A variant that MaveDB gave no URN shows its id: `variant 17`.
    """

    variant_urn: str
    hgvs_nt: str | None
    hgvs_pro: str | None
    annotation_type: str
    version: str | None
    status: str
    reason: str | None
    message: str | None
    job_urn: str | None
    updated_at: datetime


class VariantPage(View):
    """`next_cursor` asks for what follows; None when nothing does."""

    variants: list[VariantStatus]
    next_cursor: str | None


class _Place(NamedTuple):
    """Where a page ends: after this row of variant_annotation_status, of this variant."""

    variant_id: int
    status_id: int


def account(connection: Connection, score_set_urn: str) -> Account:
    """Raises NotFoundError for an unknown URN."""
    score_set = connection.execute(
        text(
            """
            SELECT id, urn, title, num_variants, processing_state, mapping_state FROM scoresets
             WHERE urn = :urn
            """
        ),
        {"urn": score_set_urn},
    ).one_or_none()
    if score_set is None:
        raise _unknown(score_set_urn)
    rows = connection.execute(
        text(
            """
            SELECT annotation_type, version, status, reason, sum(variants) AS variants
              FROM account_counts WHERE score_set_id = :id
             GROUP BY annotation_type, version, status, reason
            """
        ),
        {"id": score_set.id},
    )
    counts = []
    for row in rows:
        meaning = meaning_of(row.reason)
        counts.append(
            Count(
                **row._mapping,
                sentence=None if meaning is None else meaning.sentence,
                hint=None if meaning is None else meaning.hint,
            )
        )
    return Account(
        score_set_urn=score_set.urn,
        title=score_set.title,
        variants=score_set.num_variants,
        processing_state=score_set.processing_state,
        mapping_state=score_set.mapping_state,
        counts=sorted(counts, key=_order),
    )


def _order(count: Count) -> tuple[object, ...]:
    return (
        *annotation_order(count.annotation_type, count.version),
        _STATUSES.index(count.status),
        -count.variants,
        count.reason or "",
    )


def annotation_order(annotation_type: str, version: str | None) -> tuple[object, ...]:
    """Sorts annotations as they are planned, and a source's versions from old to new.

    A version of ClinVar has its month before its year.
    """
    planned = annotation_type in _TYPES
    return (
        _TYPES.index(annotation_type) if planned else len(_TYPES),
        annotation_type,
        (version or "").split("_")[::-1],
    )


_BLOCKS = """
    SELECT id_block, variants, variant_ids FROM account_counts
     WHERE {wanted} AND id_block BETWEEN :first_block AND (
        SELECT max(id_block) FROM (
            SELECT DISTINCT id_block FROM account_counts WHERE {wanted} AND id_block >= :first_block
             ORDER BY id_block LIMIT :most) AS enough)
     ORDER BY id_block
"""

#: Of each span no more is read than a page may show: its variants come in their order. OFFSET 0 has
#: each looked up by its id, since the planner cannot tell how many lie between two: it would read
#: all statuses of the type, or all variants of the score set.
_VARIANTS = """
    SELECT found.*, job.urn AS job_urn
      FROM unnest(CAST(:firsts AS integer[]), CAST(:lasts AS integer[])) AS span (first, last)
     CROSS JOIN LATERAL (
        SELECT variant.id AS variant_id, status.id AS status_id,
               coalesce(variant.urn, 'variant ' || variant.id) AS variant_urn, variant.hgvs_nt,
               variant.hgvs_pro, status.annotation_type, status.version, status.status,
               {reason} AS reason, status.error_message AS message, status.job_run_id,
               status.created_at AS updated_at
          FROM (
            SELECT * FROM variants WHERE id BETWEEN span.first AND span.last ORDER BY id OFFSET 0
          ) AS variant
         CROSS JOIN LATERAL (
            SELECT * FROM variant_annotation_status AS status
             WHERE variant_id = variant.id AND current AND {wanted} OFFSET 0
          ) AS status
         WHERE variant.scoreset_id = :score_set_id
           AND (variant.id, status.id) > (:variant_id, :status_id)
         ORDER BY variant.id, status.id LIMIT :limit + 1
      ) AS found
      LEFT JOIN LATERAL (SELECT urn FROM job_runs WHERE id = found.job_run_id OFFSET 0) AS job
        ON true
     ORDER BY found.variant_id, found.status_id LIMIT :limit + 1
"""


def variants(
    connection: Connection,
    score_set_urn: str,
    annotation_type: str,
    *,
    version: str | None = None,
    status: str | None = None,
    reason: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> VariantPage:
    """The variants with that version, status and reason, in the order of their ids.

    None does not narrow. Raises NotFoundError for an unknown score set, and RequestError for an
    unknown type or status, a limit beyond MOST_A_PAGE, or a cursor that another list gave.
    """
    check_known("annotation type", annotation_type, _TYPES)
    if status is not None:
        check_known("status", status, _STATUSES)
    if not 1 <= limit <= MOST_A_PAGE:
        raise RequestError(f"A page has 1 to {MOST_A_PAGE} variants, not {limit}")
    score_set_id = connection.execute(
        text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": score_set_urn}
    ).scalar_one_or_none()
    if score_set_id is None:
        raise _unknown(score_set_urn)
    wanted = {
        name: value
        for name, value in (
            ("annotation_type", annotation_type),
            ("version", version),
            ("status", status),
            ("reason", reason),
        )
        if value is not None
    }
    of_list = crc32(repr((score_set_id, wanted)).encode())
    after = _Place(0, 0) if cursor is None else _read_cursor(cursor, of_list)
    spans = _spans(connection, score_set_id, wanted, after, limit)
    column_of = {"reason": release_of(connection).reason("status")}
    rows = connection.execute(
        text(
            _VARIANTS.format(
                reason=column_of["reason"],
                wanted=" AND ".join(
                    f"{column_of.get(name, f'status.{name}')} = :{name}" for name in wanted
                ),
            )
        ),
        {
            **wanted,
            **after._asdict(),
            "score_set_id": score_set_id,
            "firsts": [first for first, _ in spans],
            "lasts": [last for _, last in spans],
            "limit": limit,
        },
    ).all()
    last = rows[limit - 1] if len(rows) > limit else None
    return VariantPage(
        variants=[VariantStatus.model_validate(row) for row in rows[:limit]],
        next_cursor=None
        if last is None
        else _cursor(_Place(last.variant_id, last.status_id), of_list),
    )


def _spans(
    connection: Connection, score_set_id: int, wanted: Mapping[str, str], after: _Place, limit: int
) -> list[tuple[int, int]]:
    """Where to find a page and one variant more: first and last ids, a variant's own or a block's.

    Every block that is looked at has a variant that is wanted, but perhaps before the page.
    """
    first_block = after.variant_id // BLOCK_SIZE
    counts = connection.execute(
        text(
            _BLOCKS.format(
                wanted=" AND ".join(f"{name} = :{name}" for name in ("score_set_id", *wanted))
            )
        ),
        {**wanted, "score_set_id": score_set_id, "first_block": first_block, "most": limit + 2},
    )
    spans: list[tuple[int, int]] = []
    found = 0
    for id_block, of_block in groupby(counts, key=attrgetter("id_block")):
        if found > limit:
            break
        here = list(of_block)
        listed = {id_ for count in here for id_ in count.variant_ids or ()}
        if all(count.variant_ids is not None for count in here):
            spans += [(id_, id_) for id_ in sorted(listed) if id_ >= after.variant_id]
        else:
            begin = id_block * BLOCK_SIZE
            spans.append((max(begin, after.variant_id), begin + BLOCK_SIZE - 1))
        if id_block != first_block:
            found += sum(count.variants for count in here)
    return spans


def _cursor(place: _Place, of_list: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(">Iii", of_list, *place)).decode()


def _read_cursor(cursor: str, of_list: int) -> _Place:
    try:
        whose, *place = struct.unpack(
            ">Iii", base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        )
    except (UnicodeEncodeError, binascii.Error, struct.error):
        raise RequestError(f"{cursor!r} is no cursor: give the one of the page before") from None
    if whose != of_list:
        raise RequestError(
            f"The cursor {cursor} is of another list: its score set, annotation type, version,"
            " status and reason must stay the same from page to page"
        )
    return _Place(*place)


def _unknown(score_set_urn: str) -> NotFoundError:
    return NotFoundError(f"There is no score set {score_set_urn}")


def check_known(what: str, given: str, known: list[str]) -> None:
    """Raise RequestError for what is not among the known."""
    if given not in known:
        raise RequestError(f"There is no {what} {given!r}; there are: {', '.join(known)}")
