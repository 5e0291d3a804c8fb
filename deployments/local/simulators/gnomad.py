"""gnomAD's simulator: the table that Athena answers from, in any database.

Rows are made from the ClinGen allele id alone, so that the same id always has the same rows.
"""

import functools
import random
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
)

_CHUNK = 10_000
_PRESENT, _MALFORMED, _UNCALLED, _TWO_ROWS = 0.6, 0.003, 0.01, 0.01
_ANCESTRIES = ("afr", "amr", "eas", "mid", "nfe", "sas")

_SUBSTITUTION = re.compile(r"([^:]+):([cg])\.(\d+)([ACGT])>([ACGT])")
_CHROMOSOME_NAMES = {23: "X", 24: "Y"}

Row = dict[str, Any]


class Locus(NamedTuple):
    """A place and change on GRCh38; `position` counts from 1."""

    chromosome: str
    position: int
    reference: str
    alternate: str

    @property
    def identifier(self) -> str:
        return "-".join(map(str, self))


def create_table(connection: Connection, data_version: str, *, as_text: bool = False) -> None:
    """The table of a release such as v4.1, unless it is there, with a row that has no CAid.

    `as_text` makes every column text, as Athena's engine may give them.
    """
    name = _table_name(data_version)
    if inspect(connection).has_table(name):
        return
    table = Table(
        name,
        MetaData(),
        *(
            Column(column, Text if as_text else column_type)
            for column, column_type in {
                "locus.contig": Text,
                "locus.position": BigInteger,
                "alleles": Text,
                "caid": Text,
                "joint.freq.all.ac": BigInteger,
                "joint.freq.all.an": BigInteger,
                "joint.fafmax.faf95_max_gen_anc": Text,
                "joint.fafmax.faf95_max": Double,
            }.items()
        ),
    )
    table.create(connection)
    insert_rows(connection, data_version, [_row(None, Locus("1", 10057, "A", "C"), 3, 113_536)])


def insert_rows(connection: Connection, data_version: str, rows: Iterable[Row]) -> None:
    """Rows keyed by column name, written as the table's columns are typed."""
    table = _table(connection, data_version)
    prepared = [
        {
            column.name: str(value)
            if isinstance(column.type, Text) and value is not None
            else value
            for column in table.columns
            for value in (row[column.name],)
        }
        for row in rows
    ]
    if prepared:
        connection.execute(insert(table), prepared)


def fill(
    connection: Connection,
    data_version: str,
    caids: Iterable[str],
    *,
    hgvs_of: Mapping[str, str] | None = None,
) -> None:
    """Add the rows of these alleles, where gnomAD knows them and they are not there yet.

    `hgvs_of` an allele, where given, decides its place. Protein alleles (PA…) are left out.
    """
    table = _table(connection, data_version)
    hgvs_by_id = {
        f"CA{int(caid[2:])}": (hgvs_of or {}).get(caid) for caid in caids if caid.startswith("CA")
    }
    ids = list(hgvs_by_id)
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        known = set(connection.scalars(select(table.c.caid).where(table.c.caid.in_(part))))
        insert_rows(
            connection,
            data_version,
            (
                row
                for caid in part
                if caid not in known
                for row in simulated_rows(caid, hgvs_by_id[caid])
            ),
        )


def simulated_rows(caid: str, hgvs: str | None = None) -> list[Row]:
    """The rows of one allele: none for four in ten, mostly rare ones for the others.

    A few alleles have no called sample, two rows, or alleles that cannot be read.
    """
    draw = random.Random(caid)
    if draw.random() >= _PRESENT:
        return []
    locus = simulated_locus(caid, hgvs)
    allele_number = 2 * draw.randint(700_000, 807_000)
    allele_count = min(int(allele_number ** (draw.random() ** 5)) - 1, allele_number)
    oddity = draw.random()
    if oddity < _UNCALLED:
        return [_row(caid, locus, 0, 0)]
    row = _row(caid, locus, allele_count, allele_number)
    if allele_count > 1 and draw.random() < 0.5:
        row["joint.fafmax.faf95_max"] = draw.uniform(0.2, 0.9) * allele_count / allele_number
        row["joint.fafmax.faf95_max_gen_anc"] = draw.choice(_ANCESTRIES)
    if oddity < _UNCALLED + _MALFORMED:
        return [row | {"alleles": draw.choice(("[A, G, T]", "[A]", "['A', 'G']"))}]
    if oddity < _UNCALLED + _MALFORMED + _TWO_ROWS:
        neighbour = locus._replace(position=locus.position + 1)
        return [row, _row(caid, neighbour, allele_count, allele_number - 2_000)]
    return [row]


def simulated_locus(caid: str, hgvs: str | None) -> Locus:
    """Where an allele lies: as its genomic HGVS says, else a made-up place.

    Changes of one transcript lie beside each other on one chromosome.
    """
    draw = random.Random(f"locus of {caid}")
    accession, _, change = (hgvs or "").partition(":")
    substitution = _SUBSTITUTION.fullmatch(hgvs or "")
    if substitution:
        reference, alternate = substitution.group(4, 5)
    else:
        reference = draw.choice("ACGT")
        alternate = reference + "".join(draw.choices("ACGT", k=7))
    if substitution and accession.startswith("NC_0000") and substitution[2] == "g":
        number = int(accession[3:].partition(".")[0])
        chromosome = _CHROMOSOME_NAMES.get(number, str(number))
        return Locus(chromosome, int(substitution[3]), reference, alternate)
    chromosome, start = _place_of(accession or caid)
    offset = re.search(r"\d+", change)
    return Locus(chromosome, start + (int(offset[0]) if offset else 0), reference, alternate)


@functools.lru_cache
def _place_of(name: str) -> tuple[str, int]:
    draw = random.Random(name)
    return str(draw.randint(1, 22)), draw.randint(1_000_000, 40_000_000)


def _row(caid: str | None, locus: Locus, allele_count: int, allele_number: int) -> Row:
    return {
        "locus.contig": f"chr{locus.chromosome}",
        "locus.position": locus.position,
        "alleles": f"[{locus.reference}, {locus.alternate}]",
        "caid": caid,
        "joint.freq.all.ac": allele_count,
        "joint.freq.all.an": allele_number,
        "joint.fafmax.faf95_max_gen_anc": None,
        "joint.fafmax.faf95_max": None,
    }


def _table(connection: Connection, data_version: str) -> Table:
    return Table(_table_name(data_version), MetaData(), autoload_with=connection)


def _table_name(data_version: str) -> str:
    return data_version.replace(".", "_")
