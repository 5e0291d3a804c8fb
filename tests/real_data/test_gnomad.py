"""gnomAD's real counts under made-up ClinGen ids: through the client, and linked by the worker."""

import csv
import gzip
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine

from deployments.local.simulators.gnomad import create_table, insert_rows
from deployments.local.submission import insert_score_set
from tasks.clients.gnomad import GnomadRecord, fetch
from tests.support import MaveDB, Submitted

#: Below, and so without the zeros that ClinGen writes before them.
FIRST_ID = 71_001


@pytest.fixture(scope="module")
def captured(data: Path) -> list[dict[str, str]]:
    with (data / "gnomad" / "gnomad_v4_counts_37records.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 37
    return rows


def table_rows(captured: list[dict[str, str]]) -> list[dict[str, Any]]:
    """As rows of the table, in the order of their ids."""
    return [
        {
            "locus.contig": row["locus.contig"],
            "locus.position": int(row["locus.position"]),
            "alleles": row["alleles"],
            "caid": f"CA{FIRST_ID + n}",
            "joint.freq.all.ac": int(row["ac"]),
            "joint.freq.all.an": int(row["an"]),
            "joint.fafmax.faf95_max_gen_anc": row["faf95_max_gen_anc"] or None,
            "joint.fafmax.faf95_max": float(row["faf95_max"]) if row["faf95_max"] else None,
        }
        for n, row in enumerate(captured)
    ]


def fill(url: str, rows: list[dict[str, Any]], *, as_text: bool = False) -> None:
    psycopg_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    with create_engine(psycopg_url, poolclass=NullPool).begin() as connection:
        create_table(connection, "v4.1", as_text=as_text)
        insert_rows(connection, "v4.1", rows)


@pytest.mark.parametrize("as_text", [False, True], ids=["numbers", "text"])
def test_real_counts_are_read_as_they_were_captured(
    tmp_path: Path, captured: list[dict[str, str]], as_text: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'gnomad.db'}"
    fill(url, table_rows(captured), as_text=as_text)

    answers = fetch(url, "v4.1", [f"CA0{FIRST_ID + n}" for n in range(37)], timeout=20)

    records = {answer.identifier: answer for answer in answers if isinstance(answer, GnomadRecord)}
    assert len(answers) == 37
    assert records.keys() == {row["variant_id"] for row in captured}
    for row in captured:
        record = records[row["variant_id"]]
        assert (record.allele_count, record.allele_number) == (int(row["ac"]), int(row["an"]))
    common = records["1-55039774-C-T"]
    assert common.allele_frequency == pytest.approx(0.13283607182809884, rel=1e-15)
    assert records["1-11994-T-C"].allele_frequency == 0.0
    with_faf = [r for r in records.values() if r.faf95_max is not None]
    assert [(r.identifier, r.faf95_max, r.faf95_max_ancestry) for r in with_faf] == [
        ("1-10057-A-C", 6.27e-06, "nfe")
    ]
    assert max(map(len, records)) > 50, "the long insertion"


def test_frequencies_agree_with_those_that_gnomad_gave_itself(data: Path, tmp_path: Path) -> None:
    """Hundreds of exome counts of an older release, which came with their frequencies."""
    packed = data / "gnomad" / "clinvar_with_gnomad_exomes_r2_750rows.b37.tsv.gz"
    with gzip.open(packed, "rt", newline="") as file:
        given = [row for row in csv.DictReader(file, delimiter="\t") if row["AC"] and row["AN"]]
    rows = [
        {
            "locus.contig": f"chr{row['chrom']}",
            "locus.position": int(row["pos"]),
            "alleles": f"[{row['ref']}, {row['alt']}]",
            "caid": f"CA{FIRST_ID + n}",
            "joint.freq.all.ac": int(row["AC"]),
            "joint.freq.all.an": int(row["AN"]),
            "joint.fafmax.faf95_max_gen_anc": None,
            "joint.fafmax.faf95_max": None,
        }
        for n, row in enumerate(given)
    ]
    url = f"sqlite:///{tmp_path / 'gnomad.db'}"
    fill(url, rows)

    answers = fetch(url, "v4.1", [row["caid"] for row in rows], timeout=20, chunk=100)

    found = {a.caid: a.allele_frequency for a in answers if isinstance(a, GnomadRecord)}
    assert len(found) == len(given) > 500
    assert found == {
        row["caid"]: pytest.approx(float(source["AF"]), rel=1e-4, abs=1e-9)
        for row, source in zip(rows, given, strict=True)
    }


@pytest.fixture
def registered(mavedb: MaveDB) -> Submitted:
    """A score set of 40 mapped variants with ids of their own; gnomAD lacks the last three."""
    urn = f"tmp:{uuid4()}"
    with mavedb.engine.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn=urn,
            title=urn,
            target_name="PCSK9",
            sequence="ATGGCT",
            sequence_type="dna",
            user="curator",
        )
    mavedb.execute(
        """
        WITH variant AS (
            INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
            SELECT :urn || '#' || n, '{}', :id, CURRENT_DATE, CURRENT_DATE
              FROM generate_series(0, 39) AS n ORDER BY n
            RETURNING id, CAST(split_part(urn, '#', 2) AS integer) AS n
        )
        INSERT INTO mapped_variants (variant_id, current, vrs_version, clingen_allele_id)
        SELECT id, true, '2', 'CA' || lpad(CAST(:first_id + n AS text), 6, '0') FROM variant
        """,
        urn=urn,
        id=score_set_id,
        first_id=FIRST_ID,
    )
    return Submitted(score_set_id, urn, user_id, 0, "")


def test_real_counts_are_linked_and_stored_as_they_are(
    mavedb: MaveDB, registered: Submitted, captured: list[dict[str, str]]
) -> None:
    fill(mavedb.stack.env["GNOMAD_DATABASE_URL"], table_rows(captured))

    linking = mavedb.request("link_gnomad_variants", registered)
    assert mavedb.wait_for(linking) == "succeeded"

    assert mavedb.account(registered) == {
        ("gnomad_allele_frequency", "success", None): 37,
        ("gnomad_allele_frequency", "skipped", "not_found"): 3,
    }
    stored = mavedb.rows(
        """
        SELECT variants.urn, known.* FROM gnomad_variants AS known
          JOIN gnomad_variants_mapped_variants AS link ON link.gnomad_variant_id = known.id
          JOIN mapped_variants AS mapped ON mapped.id = link.mapped_variant_id
          JOIN variants ON variants.id = mapped.variant_id
         WHERE scoreset_id = :id ORDER BY variants.id
        """,
        id=registered.score_set_id,
    )
    assert [
        (row.urn, row.db_identifier, row.allele_count, row.allele_number) for row in stored
    ] == [
        (f"{registered.score_set_urn}#{n}", row["variant_id"], int(row["ac"]), int(row["an"]))
        for n, row in enumerate(captured)
    ]
    for row in stored:
        expected = row.allele_count / row.allele_number if row.allele_number else 0.0
        assert row.allele_frequency == expected
        if row.db_identifier == "1-10057-A-C":
            assert (row.faf95_max, row.faf95_max_ancestry) == (6.27e-06, "nfe")
        else:
            assert (row.faf95_max, row.faf95_max_ancestry) == (None, None)
