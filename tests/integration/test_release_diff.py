"""What changed between two releases of a source, for variants of every fate."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, text

from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.errors import RequestError
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries.releases import Change, ReleaseDiff, changes, diff
from mavedb_audit.reasons import Reason
from tests.support import insert_numbered_variants

URN = "tmp:numbered"
OLD, NEW = "01_2025", "01_2026"
UNCERTAIN, LIKELY, PATHOGENIC = "Uncertain significance", "Likely pathogenic", "Pathogenic"
ONE, SEVERAL = "single submitter", "multiple submitters"

#: What each release says of the variants from 1 on: (significance, review status), or why nothing.
OLD_SAYS = [
    (UNCERTAIN, ONE),
    (UNCERTAIN, ONE),
    (PATHOGENIC, ONE),
    (PATHOGENIC, ONE),
    Reason.NOT_IN_CLINVAR_RELEASE,
    (LIKELY, ONE),
    Reason.NO_CLINVAR_ALLELE,
    (PATHOGENIC, ONE),
    Reason.STEP_CANCELLED,
    None,
]
NEW_SAYS = [
    (LIKELY, ONE),
    (LIKELY, SEVERAL),
    (PATHOGENIC, SEVERAL),
    (PATHOGENIC, ONE),
    (UNCERTAIN, ONE),
    Reason.NOT_IN_CLINVAR_RELEASE,
    Reason.NO_CLINVAR_ALLELE,
    Reason.CLINGEN_LOOKUP_FAILED,
    (PATHOGENIC, ONE),
    (PATHOGENIC, ONE),
]
FATES = [
    Change.CHANGED,
    Change.CHANGED,
    Change.CHANGED,
    Change.SAME,
    Change.GAINED,
    Change.LOST,
    Change.NEVER,
    Change.UNKNOWN,
    Change.UNKNOWN,
    Change.UNKNOWN,
]


@pytest.fixture
def connection(domain_database: str) -> Iterator[Connection]:
    """Ten variants that both releases have spoken of."""
    engine = create_engine(domain_database)
    with engine.connect() as connection:
        score_set_id, _ = insert_numbered_variants(connection, len(FATES))
        for version, says in ((OLD, OLD_SAYS), (NEW, NEW_SAYS)):
            _annotate(connection, score_set_id, version, says)
        yield connection
    engine.dispose()


def _annotate(
    connection: Connection,
    score_set_id: int,
    version: str,
    says: list[tuple[str, str] | Reason | None],
) -> None:
    connection.execute(
        text(
            """
            INSERT INTO clinical_controls (db_name, db_identifier, db_version, gene_symbol,
                   clinical_significance, clinical_review_status, creation_date, modification_date)
            VALUES ('ClinVar', :allele_id, :version, 'BRCA1', :significance, :review,
                    CURRENT_DATE, CURRENT_DATE)
            """
        ),
        [
            {"allele_id": str(n), "version": version, "significance": said[0], "review": said[1]}
            for n, said in enumerate(says, 1)
            if isinstance(said, tuple)
        ],
    )
    statuses = [
        Status(n, said) if isinstance(said, Reason) else Status(n, data=_allele(n))
        for n, said in enumerate(says, 1)
        if said is not None
    ]
    _write(connection, score_set_id, version, statuses)


def _write(connection: Connection, score_set_id: int, version: str, statuses: list[Status]) -> None:
    accounts.write(
        connection,
        job_id=_job(connection),
        score_set_id=score_set_id,
        annotation_type=AnnotationType.CLINVAR_CONTROL,
        version=version,
        statuses=statuses,
    )


def _allele(n: int) -> dict[str, str]:
    return {"clinvar_allele_id": str(n)}


def _job(connection: Connection) -> int:
    job_id: int = connection.execute(
        text(
            """
            INSERT INTO job_runs (job_type, job_function, status, priority, max_retries,
                                  retry_count)
            VALUES ('mapped_variant_annotation', 'refresh_clinvar_controls', 'succeeded', 0, 3, 0)
            RETURNING id
            """
        )
    ).scalar_one()
    return job_id


def compare(connection: Connection) -> ReleaseDiff:
    return diff(connection, URN, from_version=OLD, to_version=NEW)


def test_every_variant_is_counted_by_what_became_of_it(connection: Connection) -> None:
    found = compare(connection)
    assert found.counts == {change: FATES.count(change) for change in Change}
    everything = changes(
        connection, URN, from_version=OLD, to_version=NEW, only=list(Change)
    ).variants
    assert [variant.change for variant in everything] == FATES


def test_only_changes_of_the_significance_are_transitions(connection: Connection) -> None:
    assert [(t.before, t.after, t.variants) for t in compare(connection).transitions] == [
        (UNCERTAIN, LIKELY, 2),
        (LIKELY, None, 1),
        (None, UNCERTAIN, 1),
    ]


def test_a_variant_shows_what_each_release_says_or_why_it_says_nothing(
    connection: Connection,
) -> None:
    shown = {variant.variant_urn: variant for variant in compare(connection).variants}
    assert list(shown) == [f"{URN}#{n}" for n in (1, 2, 3, 5, 6)]
    third, sixth = shown[f"{URN}#3"], shown[f"{URN}#6"]
    assert third.before.record is not None
    assert third.after.record == {**third.before.record, "clinical_review_status": SEVERAL}
    assert (sixth.after.record, sixth.after.reason) == (None, Reason.NOT_IN_CLINVAR_RELEASE)


def test_the_other_way_round_gains_are_losses(connection: Connection) -> None:
    counts = diff(connection, URN, from_version=NEW, to_version=OLD).counts
    assert (counts[Change.GAINED], counts[Change.LOST]) == (1, 1)
    assert counts[Change.CHANGED] == 3


def test_pages_hold_every_variant_once(connection: Connection) -> None:
    first = diff(connection, URN, from_version=OLD, to_version=NEW, limit=2)
    urns = [variant.variant_urn for variant in first.variants]
    cursor = first.next_cursor
    while cursor is not None:
        page = changes(connection, URN, from_version=OLD, to_version=NEW, cursor=cursor, limit=2)
        urns += [variant.variant_urn for variant in page.variants]
        cursor = page.next_cursor
    assert urns == [f"{URN}#{n}" for n in (1, 2, 3, 5, 6)]
    assert diff(connection, URN, from_version=OLD, to_version=NEW, limit=5).next_cursor is None


def test_statuses_that_were_replaced_and_records_twice_there_change_nothing(
    connection: Connection,
) -> None:
    before = compare(connection)
    score_set_id = connection.execute(text("SELECT id FROM scoresets")).scalar_one()
    connection.execute(
        text(
            """
            INSERT INTO clinical_controls (db_name, db_identifier, db_version, gene_symbol,
                   clinical_significance, clinical_review_status, creation_date, modification_date)
            SELECT db_name, db_identifier, db_version, gene_symbol, 'Benign', 'twice',
                   CURRENT_DATE, CURRENT_DATE
              FROM clinical_controls
            """
        )
    )
    absent = [Status(n, Reason.NO_CLINVAR_ALLELE) for n in range(1, len(FATES) + 1)]
    _write(connection, score_set_id, NEW, absent)
    assert compare(connection) != before
    _annotate(connection, score_set_id, NEW, NEW_SAYS)
    assert compare(connection) == before


def test_gnomads_releases_are_compared_by_their_figures(connection: Connection) -> None:
    score_set_id = connection.execute(text("SELECT id FROM scoresets")).scalar_one()
    gnomad = AnnotationType.GNOMAD_ALLELE_FREQUENCY
    for version, count in (("v4.0", 3), ("v4.1", 5)):
        connection.execute(
            text(
                """
                INSERT INTO gnomad_variants (db_name, db_identifier, db_version, allele_count,
                       allele_number, allele_frequency, creation_date, modification_date)
                SELECT 'gnomAD', '17-' || n, CAST(:version AS varchar),
                       CASE n WHEN 1 THEN 7 ELSE :count END, 100, 0.5, CURRENT_DATE, CURRENT_DATE
                  FROM generate_series(1, 2) AS n
                """
            ),
            {"version": version, "count": count},
        )
        accounts.write(
            connection,
            job_id=_job(connection),
            score_set_id=score_set_id,
            annotation_type=gnomad,
            version=version,
            statuses=[Status(n, data={"gnomad_db_identifier": f"17-{n}"}) for n in (1, 2)],
        )
    found = diff(connection, URN, annotation_type=gnomad, from_version="v4.0", to_version="v4.1")
    assert {c: n for c, n in found.counts.items() if n} == {
        Change.SAME: 1,
        Change.CHANGED: 1,
        Change.UNKNOWN: 8,
    }
    (changed,) = found.variants
    assert changed.before.record is not None
    assert changed.after.record == {**changed.before.record, "allele_count": 5}
    assert found.transitions == []


def test_newer_tables_of_mavedb_are_read_alike(connection: Connection) -> None:
    expected = compare(connection)
    for statement in (
        "ALTER TABLE clinical_controls RENAME TO clinvar_controls",
        "ALTER TABLE variant_annotation_status RENAME COLUMN success_data TO annotation_metadata",
        """
        UPDATE variant_annotation_status
           SET annotation_metadata = jsonb_build_object('reason', failure_category),
               failure_category = 'unknown'
         WHERE failure_category IS NOT NULL
        """,
        """
        ALTER TABLE variant_annotation_status
          ADD CONSTRAINT ck_categories CHECK (failure_category IN ('unknown'))
        """,
    ):
        connection.execute(text(statement))
    connection.info.clear()  # what release_of found
    assert compare(connection) == expected


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"score_set_urn": "tmp:none"}, "no score set tmp:none"),
        ({"from_version": "01_2019"}, "01_2019; there are: 01_2025, 01_2026"),
        ({"to_version": ""}, "there are: 01_2025, 01_2026"),
        ({"annotation_type": "vrs_mapping"}, "clinvar_control, gnomad_allele_frequency"),
        ({"annotation_type": "gnomad_allele_frequency"}, "there are: none"),
        ({"cursor": "1; DROP"}, "'1; DROP' is not a cursor"),
        ({"cursor": "٣"}, "is not a cursor"),
    ],
)
def test_what_cannot_be_compared_is_named(
    connection: Connection, asked: dict[str, str], says: str
) -> None:
    given = {"score_set_urn": URN, "from_version": OLD, "to_version": NEW, **asked}
    with pytest.raises(RequestError, match=says):
        changes(connection, **given)
