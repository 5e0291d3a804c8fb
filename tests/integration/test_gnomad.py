"""gnomAD's client on real databases, which hold the table that Athena answers from."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, make_url, text

from deployments.local.simulators import gnomad as simulator
from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from tasks.clients.gnomad import Answer, GnomadRecord, Malformed, athena_url, fetch
from tests.support import MaveDB, brca1

INSERTION = "TAACCCTAACCCTAACCCTAACCCTAACCCTAACCCTAACCCTAACCC"
#: CAid, place, count, number, ancestry and faf95. The counts are gnomAD's; the ids are made up.
ROWS = [
    ("CA25094", "chr10", 87961093, "[A, G]", 3, 1613510, "nfe", 6.8e-07),
    ("CA100001", "chr1", 55039774, "[C, T]", 205427, 1546470, None, None),
    ("CA100002", "chr1", 11994, "[T, C]", 0, 0, None, None),
    ("CA100003", "chrX", 55039763, "[C, A]", 0, 1374942, None, None),
    ("CA100004", "chr1", 10061, f"[T, {INSERTION}]", 0, 108768, None, None),
    ("CA100005", "chr1", 10057, "[A, C]", 3, 113536, "nfe", 6.27e-06),
    ("CA100005", "chr1", 10057, "[A,  G]", 1, 113530, None, None),
    ("CA100006", "chr2", 1, "[A, G, T]", 1, 10, None, None),
    ("CA100007", "chr2", 2, "['A', 'G']", 1, 10, None, None),
    ("CA100008", "chr2", 3, "[A]", 1, 10, None, None),
    ("CA100009", "chr2", 4, "[A, G]", 11, 10, None, None),
    ("CA100010", "chr2", 5, "[A, G]", None, 10, None, None),
    ("CA100011", "chr2", 6, "[A, G]", 1, 10_000_000_000, None, None),
    ("CA100012", "chr2", 7, "[A, G]", 1, 10, "nfe", 7.0),
    ("CA100013", "chr2", 8, f"[A, {'AC' * 1_500}]", 1, 10, None, None),
]
ASKED = ["CA025094", "CA25094", *(f"CA{100_000 + n}" for n in range(1, 14)), "CA777777"]
ANSWERS: list[Answer] = [
    GnomadRecord("CA25094", "10-87961093-A-G", 3, 1613510, 3 / 1613510, 6.8e-07, "nfe"),
    GnomadRecord("CA100001", "1-55039774-C-T", 205427, 1546470, 0.13283607182809884, None, None),
    GnomadRecord("CA100002", "1-11994-T-C", 0, 0, 0.0, None, None),
    GnomadRecord("CA100003", "X-55039763-C-A", 0, 1374942, 0.0, None, None),
    GnomadRecord("CA100004", f"1-10061-T-{INSERTION}", 0, 108768, 0.0, None, None),
    GnomadRecord("CA100005", "1-10057-A-C", 3, 113536, 3 / 113536, 6.27e-06, "nfe"),
    GnomadRecord("CA100005", "1-10057-A-G", 1, 113530, 1 / 113530, None, None),
    Malformed("CA100006", "alleles is '[A, G, T]'"),
    Malformed("CA100007", "alleles is \"['A', 'G']\""),
    Malformed("CA100008", "alleles is '[A]'"),
    Malformed("CA100009", "joint.freq.all.ac 11 exceeds joint.freq.all.an"),
    Malformed("CA100010", "joint.freq.all.ac is None, not a count"),
    Malformed("CA100011", "joint.freq.all.an is 10000000000, not a count"),
    Malformed("CA100012", "joint.fafmax.faf95_max is 7.0, not a frequency"),
    Malformed("CA100013", f"alleles are too long: 2-8-A-{'AC' * 22}…"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gnomad.db'}"
    url: str = request.getfixturevalue("empty_database")
    return url


@pytest.fixture(params=[False, True], ids=["numbers", "text"])
def gnomad_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """A database with the table and ROWS in it, as numbers or all as text."""
    with connected(database_url) as connection:
        simulator.create_table(connection, "v4.1", as_text=request.param)
        simulator.insert_rows(connection, "v4.1", map(as_row, ROWS))
        if request.param:
            connection.execute(
                text("""UPDATE v4_1 SET "joint.fafmax.faf95_max" = '',
                        "joint.fafmax.faf95_max_gen_anc" = '' WHERE caid = 'CA100001'""")
            )
    return database_url


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        yield connection


def as_row(values: tuple[Any, ...]) -> dict[str, Any]:
    caid, contig, position, alleles, count, number, ancestry, faf = values
    return {
        "locus.contig": contig,
        "locus.position": position,
        "alleles": alleles,
        "caid": caid,
        "joint.freq.all.ac": count,
        "joint.freq.all.an": number,
        "joint.fafmax.faf95_max_gen_anc": ancestry,
        "joint.fafmax.faf95_max": faf,
    }


def in_order(answers: list[Answer]) -> list[Answer]:
    return sorted(answers, key=repr)


def refusal(url: Any, version: str = "v4.1", *, timeout: float = 20) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        fetch(url, version, ["CA25094"], timeout=timeout)
    assert len(str(caught.value)) < 1_500
    return caught.value


def test_rows_mean_the_same_as_numbers_and_as_text(gnomad_url: str) -> None:
    assert in_order(fetch(gnomad_url, "v4.1", ASKED, timeout=20)) == in_order(ANSWERS)


def test_chunks_add_up_and_report_how_far_they_are(gnomad_url: str) -> None:
    done: list[int] = []

    answers = fetch(gnomad_url, "v4.1", ASKED, timeout=20, chunk=5, on_chunk=done.append)

    assert in_order(answers) == in_order(ANSWERS)
    assert done == [5, 10, 15]


def test_a_failure_in_a_later_chunk_is_a_failure(gnomad_url: str) -> None:
    def drop_the_table(_: int) -> None:
        with connected(gnomad_url) as connection:
            connection.execute(text("DROP TABLE v4_1"))

    with pytest.raises(ServiceError) as caught:
        fetch(gnomad_url, "v4.1", ASKED, timeout=20, chunk=5, on_chunk=drop_the_table)
    assert caught.value.category is FailureCategory.CONFIGURATION_ERROR


def test_nothing_to_ask_needs_no_database() -> None:
    assert fetch("postgresql://nobody@127.0.0.1:9/none", "v4.1", [], timeout=1) == []


def test_a_missing_release_names_the_setting(gnomad_url: str) -> None:
    error = refusal(gnomad_url, "v4.2")

    assert error.category is FailureCategory.CONFIGURATION_ERROR
    assert "v4_2" in str(error)
    assert "GNOMAD_DATA_VERSION" in str(error)


def test_a_table_of_another_shape(empty_database: str) -> None:
    with connected(empty_database) as connection:
        simulator.create_table(connection, "v4.1")
        simulator.insert_rows(connection, "v4.1", map(as_row, ROWS))
        # Filled up with blanks, as some engines give it.
        connection.execute(text("ALTER TABLE v4_1 ALTER caid TYPE char(20)"))
    assert in_order(fetch(empty_database, "v4.1", ASKED, timeout=20)) == in_order(ANSWERS)

    with connected(empty_database) as connection:
        connection.execute(text("ALTER TABLE v4_1 DROP alleles"))
    error = refusal(empty_database)
    assert error.category is FailureCategory.CONFIGURATION_ERROR
    assert 'column "alleles" does not exist' in str(error)


@pytest.mark.parametrize("version", ["v4.1; DROP TABLE x", "", "4.1", "v4.1 ", "v4-1"])
def test_a_version_that_is_none_is_never_sent(version: str) -> None:
    with pytest.raises(ConfigurationError, match="GNOMAD_DATA_VERSION"):
        fetch("sqlite://", version, ["CA25094"], timeout=1)


def test_a_slow_query_is_stopped_in_the_database(database_url: str) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    others = ", ".join(f'1 AS "{name}"' for name in as_row(ROWS[0]) if name != "caid")
    with connected(database_url) as connection:
        select = (
            f"{endless} SELECT i AS caid, {others} FROM n"
            if connection.dialect.name == "sqlite"
            else f"SELECT CAST(pg_sleep(600) AS text) AS caid, {others}"
        )
        connection.execute(text(f"CREATE VIEW v4_1 AS {select}"))
    started = time.monotonic()

    error = refusal(database_url, timeout=0.3)

    assert error.category is FailureCategory.TIMEOUT
    assert "0.3 seconds" in str(error)
    assert time.monotonic() - started < 20
    if database_url.startswith("postgresql"):
        with connected(database_url) as connection:
            running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE :query"
            parameters = {"query": 'SELECT "locus.contig"%'}
            assert connection.scalar(text(running), parameters) == 0


def test_a_wrong_password_and_a_dead_server_are_told_apart(empty_database: str) -> None:
    # Without a driver in the URL, as people write it.
    url = make_url(empty_database).set(drivername="postgresql")

    assert refusal(url.set(password="wrong")).category is FailureCategory.AUTHENTICATION_FAILED
    assert refusal(url.set(port=9)).category is FailureCategory.NETWORK_ERROR
    assert refusal(url.set(database="none")).category is FailureCategory.CONFIGURATION_ERROR


def test_a_missing_driver_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether or not PyAthena is installed here, it cannot be imported now.
    monkeypatch.setitem(sys.modules, "pyathena", None)
    monkeypatch.setitem(sys.modules, "pyathena.sqlalchemy.rest", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'mavedb-audit\[athena\]'"):
        fetch(athena_url("us-west-2", "default", "s3://b/"), "v4.1", ["CA1"], timeout=1)
    with pytest.raises(ConfigurationError, match="GNOMAD_DATABASE_URL"):
        fetch("nodriver://host/gnomad", "v4.1", ["CA1"], timeout=1)
    with pytest.raises(ConfigurationError, match="GNOMAD_DATABASE_URL"):
        fetch("not a url", "v4.1", ["CA1"], timeout=1)


def test_simulated_rows_are_plausible_and_never_doubled(gnomad_url: str) -> None:
    ids = [f"CA{number}" for number in range(300_000, 305_000)]
    with connected(gnomad_url) as connection:
        simulator.fill(connection, "v4.1", ids[:3_000])
        simulator.fill(connection, "v4.1", [*ids, "PA300000", "CA0300001"])

    answers = fetch(gnomad_url, "v4.1", ids, timeout=20)

    records = [answer for answer in answers if isinstance(answer, GnomadRecord)]
    rows_of = Counter(answer.caid for answer in answers)
    assert 0.55 < len(rows_of) / len(ids) < 0.65
    assert set(rows_of.values()) == {1, 2}
    assert 0 < len(answers) - len(records) < 0.01 * len(ids)
    assert any(record.allele_number == 0 for record in records)
    assert any(record.faf95_max for record in records)
    rare = sum(record.allele_frequency < 0.001 for record in records)
    assert 0.7 < rare / len(records) < 0.99
    with connected(gnomad_url) as connection:
        assert connection.scalar(text("SELECT count(*) FROM v4_1 WHERE caid IS NULL")) == 1


def test_a_simulated_row_lies_where_its_genomic_hgvs_says(gnomad_url: str) -> None:
    hgvs_of = {f"CA{n}": f"NC_000023.11:g.{n}A>G" for n in range(400_000, 400_020)}
    with connected(gnomad_url) as connection:
        simulator.fill(connection, "v4.1", hgvs_of, hgvs_of=hgvs_of)

    found = fetch(gnomad_url, "v4.1", hgvs_of, timeout=20)

    single = [record for record in found if Counter(r.caid for r in found)[record.caid] == 1]
    assert len(single) > 5
    assert all(
        record.identifier == f"X-{record.caid[2:]}-A-G"
        for record in single
        if isinstance(record, GnomadRecord)
    )


def test_a_record_that_became_unreadable_takes_no_link_back(mavedb: MaveDB) -> None:
    submitted = mavedb.submit(*brca1(10))
    assert mavedb.wait_for(submitted) == "succeeded"
    links = """
        SELECT mapped.variant_id, mapped.clingen_allele_id
          FROM gnomad_variants_mapped_variants AS link
          JOIN mapped_variants AS mapped ON mapped.id = link.mapped_variant_id
          JOIN variants ON variants.id = mapped.variant_id WHERE scoreset_id = :id ORDER BY 1
    """
    before = mavedb.rows(links, id=submitted.score_set_id)
    spoilt = before[0]
    caids = {"caid": spoilt.clingen_allele_id}
    count = '"joint.freq.all.ac"'
    spoil = text(f"UPDATE v4_1 SET {count} = {count} + 10000000 WHERE caid = :caid")
    mend = text(f"UPDATE v4_1 SET {count} = {count} - 10000000 WHERE caid = :caid")
    with connected(mavedb.stack.env["GNOMAD_DATABASE_URL"]) as gnomad:
        gnomad.execute(spoil, caids)
    try:
        again = mavedb.request("link_gnomad_variants", submitted)
        assert mavedb.wait_for(again) == "succeeded"
    finally:
        with connected(mavedb.stack.env["GNOMAD_DATABASE_URL"]) as gnomad:
            gnomad.execute(mend, caids)
    status = mavedb.rows(
        """
        SELECT failure_category FROM variant_annotation_status
         WHERE variant_id = :id AND current AND annotation_type = 'gnomad_allele_frequency'
        """,
        id=spoilt.variant_id,
    )
    assert [row.failure_category for row in status] == ["malformed_record"]
    assert mavedb.rows(links, id=submitted.score_set_id) == before
