"""A score set's account as it is read: its counts, and page by page the variants of each."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from mavedb_audit.accounts import Status
from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries import accounts
from mavedb_audit.reasons import MEANINGS, Reason
from tests.support_accounts import (
    CLINVAR,
    GNOMAD,
    MAPPING,
    NEWER_RELEASE,
    insert_jobs,
    insert_score_set_of,
    write,
)

URN = "tmp:many"
#: More than four blocks of ids, which another score set shares.
VARIANTS = range(2, 5000, 2)
FAILED, ABSENT = Reason.MALFORMED_RECORD, Reason.NOT_IN_SOURCE


@pytest.fixture
def connection(domain_database: str) -> Iterator[Connection]:
    engine = create_engine(domain_database)
    with engine.connect() as connection:
        insert_jobs(connection, 2)
        yield connection
    engine.dispose()


@pytest.fixture
def score_set_id(connection: Connection) -> int:
    return insert_score_set_of(connection, URN, VARIANTS)


@pytest.fixture
def reasons(connection: Connection, score_set_id: int) -> dict[int, Reason | None]:
    """The reason of each variant for gnomAD: few fail, here and there; many are absent."""
    neighbour = insert_score_set_of(connection, "tmp:neighbour", range(1, 5000, 2))
    write(connection, neighbour, *(Status(n, FAILED) for n in range(1, 5000, 2)))
    reasons = {
        n: FAILED if n % 170 == 0 or n > 4980 else ABSENT if n % 3 == 0 else None for n in VARIANTS
    }
    write(connection, score_set_id, *(Status(n, reason) for n, reason in reasons.items()))
    return reasons


def walk(connection: Connection, **narrowed: Any) -> list[list[str]]:
    """The variants of each page, until there is none."""
    pages, cursor = [], None
    while cursor is not None or not pages:
        page = accounts.variants(connection, URN, GNOMAD, cursor=cursor, **narrowed)
        pages.append([variant.variant_urn for variant in page.variants])
        cursor = page.next_cursor
    return pages


@pytest.mark.parametrize("limit", [60, 500])
@pytest.mark.parametrize("reason", [FAILED, ABSENT, None])
def test_the_pages_of_a_reason_have_each_of_its_variants_once_in_the_order_of_their_ids(
    connection: Connection,
    reasons: dict[int, Reason | None],
    reason: Reason | None,
    limit: int,
) -> None:
    narrowed = {"reason": reason} if reason else {"status": "success"}
    pages = walk(connection, limit=limit, **narrowed)
    expected = [f"{URN}#{n}" for n, given in reasons.items() if given == reason]
    assert [urn for page in pages for urn in page] == expected
    assert all(len(page) == limit for page in pages[:-1])


def test_without_a_reason_or_status_every_variant_is_on_a_page(
    connection: Connection, reasons: dict[int, Reason | None]
) -> None:
    shown = [urn for page in walk(connection, limit=400) for urn in page]
    assert shown == [f"{URN}#{n}" for n in reasons]


def test_a_variant_of_several_releases_is_shown_for_each(
    connection: Connection, score_set_id: int
) -> None:
    for version in ("01_2025", "01_2026"):
        statuses = [Status(n) for n in (2, 4, 6)]
        write(connection, score_set_id, *statuses, annotation_type=CLINVAR, version=version)
    first = accounts.variants(connection, URN, CLINVAR, limit=3)
    rest = accounts.variants(connection, URN, CLINVAR, limit=3, cursor=first.next_cursor)
    assert [(v.variant_urn, v.version) for v in (*first.variants, *rest.variants)] == [
        (f"{URN}#{n}", version) for n in (2, 4, 6) for version in ("01_2025", "01_2026")
    ]
    assert rest.next_cursor is None
    of_one = accounts.variants(connection, URN, CLINVAR, version="01_2026")
    assert {variant.version for variant in of_one.variants} == {"01_2026"}


def test_a_variant_is_shown_with_what_the_service_said_of_it(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, Status(2, FAILED, "alleles [A]"))
    connection.execute(text("UPDATE variants SET urn = NULL WHERE id = 2"))
    (shown,) = accounts.variants(connection, URN, GNOMAD).variants
    recorded = connection.execute(
        text("SELECT created_at FROM variant_annotation_status")
    ).scalar_one()
    assert shown == accounts.VariantStatus(
        variant_urn="variant 2",
        hgvs_nt="c.2A>G",
        hgvs_pro="p.Ala2Gly",
        annotation_type=GNOMAD,
        version="v4.1",
        status="failed",
        reason=FAILED,
        message=f"{MEANINGS[FAILED].sentence} alleles [A]",
        job_urn="urn:mavedb:job-1",
        updated_at=recorded,
    )


def test_the_account_follows_the_plan_the_releases_and_what_is_worst_comes_last(
    connection: Connection, score_set_id: int
) -> None:
    for version in ("01_2026", "02_2015"):
        write(connection, score_set_id, Status(2), annotation_type=CLINVAR, version=version)
    write(connection, score_set_id, Status(2, FAILED), *(Status(n, ABSENT) for n in (4, 6)))
    write(connection, score_set_id, Status(8, Reason.NO_CLINGEN_ALLELE_ID), Status(10))
    write(connection, score_set_id, Status(2), annotation_type=MAPPING, version="2")
    found = accounts.account(connection, URN)
    assert (found.score_set_urn, found.title, found.variants) == (URN, f"Scores of {URN}", 2499)
    assert [
        (c.annotation_type, c.version, c.status, c.reason, c.variants) for c in found.counts
    ] == [
        (MAPPING, "2", "success", None, 1),
        (GNOMAD, "v4.1", "success", None, 1),
        (GNOMAD, "v4.1", "failed", FAILED, 1),
        (GNOMAD, "v4.1", "skipped", ABSENT, 2),
        (GNOMAD, "v4.1", "skipped", Reason.NO_CLINGEN_ALLELE_ID, 1),
        (CLINVAR, "02_2015", "success", None, 1),
        (CLINVAR, "01_2026", "success", None, 1),
    ]
    assert [count.sentence for count in found.counts[:3]] == [
        None,
        None,
        MEANINGS[FAILED].sentence,
    ]
    assert found.counts[2].hint == MEANINGS[FAILED].hint


def test_a_reason_of_mavedbs_own_is_shown_as_it_is(
    connection: Connection, score_set_id: int
) -> None:
    connection.execute(
        text(
            """
            INSERT INTO account_counts (score_set_id, annotation_type, version, status, reason,
                                        id_block, variants, newest_at)
            VALUES (:id, 'vrs_mapping', NULL, 'failed', 'transcript_not_found', 0, 3, now()),
                   (:id, 'vrs_mapping', NULL, 'failed', NULL, 0, 2, now())
            """
        ),
        {"id": score_set_id},
    )
    counts = accounts.account(connection, URN).counts
    assert [(c.reason, c.sentence, c.variants) for c in counts] == [
        ("transcript_not_found", None, 3),
        (None, None, 2),
    ]


def test_newer_releases_of_mavedb_have_the_reason_in_their_details(
    connection: Connection, score_set_id: int
) -> None:
    connection.execute(text(NEWER_RELEASE))
    write(connection, score_set_id, Status(2, ABSENT), Status(4), Status(6, FAILED))
    counts = accounts.account(connection, URN).counts
    assert [(c.status, c.reason) for c in counts] == [
        ("success", None),
        ("failed", FAILED),
        ("skipped", ABSENT),
    ]
    (shown,) = accounts.variants(connection, URN, GNOMAD, reason=ABSENT).variants
    assert (shown.variant_urn, shown.reason) == (f"{URN}#2", ABSENT)


def test_a_score_set_that_mavedb_has_deleted_is_unknown(
    connection: Connection, score_set_id: int
) -> None:
    write(connection, score_set_id, Status(2))
    for table in ("variants", "target_genes"):
        connection.execute(text(f"DELETE FROM {table} WHERE scoreset_id = {score_set_id}"))
    connection.execute(text(f"DELETE FROM scoresets WHERE id = {score_set_id}"))
    with pytest.raises(NotFoundError, match=f"There is no score set {URN}"):
        accounts.account(connection, URN)
    with pytest.raises(NotFoundError, match=f"There is no score set {URN}"):
        accounts.variants(connection, URN, GNOMAD)


def test_a_page_goes_on_when_its_last_variant_has_changed_meanwhile(
    connection: Connection, reasons: dict[int, Reason | None], score_set_id: int
) -> None:
    failed = [n for n, reason in reasons.items() if reason == FAILED]
    page = accounts.variants(connection, URN, GNOMAD, reason=FAILED, limit=3)
    write(connection, score_set_id, *(Status(n) for n in failed[1:3]), job_id=2)
    following = accounts.variants(
        connection, URN, GNOMAD, reason=FAILED, limit=3, cursor=page.next_cursor
    )
    assert [v.variant_urn for v in following.variants] == [f"{URN}#{n}" for n in failed[3:6]]


@pytest.mark.parametrize("cursor", ["", "x", "é", "AAAA", "=" * 16, "A" * 15, "A" * 17])
@pytest.mark.usefixtures("score_set_id")
def test_what_is_no_cursor_is_refused(connection: Connection, cursor: str) -> None:
    with pytest.raises(RequestError, match="is no cursor"):
        accounts.variants(connection, URN, GNOMAD, cursor=cursor)


@pytest.mark.parametrize(
    "other",
    [{"reason": ABSENT}, {"status": "failed"}, {"reason": FAILED, "version": "v4.1"}],
    ids=str,
)
@pytest.mark.usefixtures("reasons")
def test_the_cursor_of_another_list_is_refused(
    connection: Connection, other: dict[str, str]
) -> None:
    page = accounts.variants(connection, URN, GNOMAD, reason=FAILED, limit=3)
    assert page.next_cursor is not None
    with pytest.raises(RequestError, match="is of another list"):
        accounts.variants(connection, URN, GNOMAD, cursor=page.next_cursor, **other)
    with pytest.raises(RequestError, match="is of another list"):
        accounts.variants(
            connection, "tmp:neighbour", GNOMAD, reason=FAILED, cursor=page.next_cursor
        )


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"annotation_type": "spliceai"}, "no annotation type 'spliceai'; there are: vrs_mapping"),
        ({"status": "lost"}, "no status 'lost'; there are: success, failed, skipped"),
        ({"limit": 0}, "1 to 500 variants, not 0"),
        ({"limit": 501}, "1 to 500 variants, not 501"),
    ],
)
@pytest.mark.usefixtures("score_set_id")
def test_what_cannot_be_asked_is_refused_with_what_can(
    connection: Connection, asked: dict[str, Any], complaint: str
) -> None:
    given = {"annotation_type": AnnotationType.VRS_MAPPING, **asked}
    with pytest.raises(RequestError, match=complaint):
        accounts.variants(connection, URN, **given)
