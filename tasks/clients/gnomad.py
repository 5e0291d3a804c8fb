"""gnomAD's allele frequencies by ClinGen allele id, from a table that is asked with SQL.

In production the table lies in S3 and AWS Athena answers for it; any other database that
SQLAlchemy reaches will do.
"""

import math
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.metrics import count_request

SERVICE = "gnomAD"

_CAID = re.compile(r"CA[0-9]+")
_DATA_VERSION = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_CONTIG = re.compile(r"(?:chr)?([0-9A-Z]{1,2})")
#: Digits that a count has at most: the database's integers hold them all.
_LONGEST_COUNT = 9
#: An index of PostgreSQL's takes no text that is much longer.
_LONGEST_IDENTIFIER = 2_000
_TWO_ALLELES = re.compile(r"\[\s*([AGTC]+)\s*,\s*([AGTC]+)\s*\]")

_COLUMNS = (
    "locus.contig",
    "locus.position",
    "alleles",
    "caid",
    "joint.freq.all.ac",
    "joint.freq.all.an",
    "joint.fafmax.faf95_max_gen_anc",
    "joint.fafmax.faf95_max",
)

#: What databases say when a query fails, and what that means; the first match counts. A missing
#: table comes before missing rights, since Athena adds to it "or requester is not authorized".
_FAILURES = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        (
            FailureCategory.CONFIGURATION_ERROR,
            "_NOT_FOUND:|cannot be resolved|does not exist|no such table|no such column"
            "|output location|s3_staging_dir|NoSuchBucket",
        ),
        (FailureCategory.DATA_ERROR, "too long|query text length|syntax"),
        (
            FailureCategory.AUTHENTICATION_FAILED,
            "credential|ExpiredToken|security token|UnrecognizedClient|signature"
            "|authentication failed",
        ),
        (
            FailureCategory.PERMISSION_ERROR,
            "access ?denied|not authorized|permission.denied|insufficient .*permission",
        ),
        (
            FailureCategory.SERVICE_UNAVAILABLE,
            "SlowDown|reduce your request rate|internal.?(server)?.?error|InternalServer"
            "|exhausted resources|service ?unavailable|is starting up|is shutting down"
            "|too many connections",
        ),
        (
            FailureCategory.API_RATE_LIMITED,
            "throttl|too ?many ?requests|rate exceeded|queue",
        ),
        (FailureCategory.QUOTA_EXCEEDED, "bytes scanned limit"),
        (FailureCategory.TIMEOUT, "statement timeout|time.limit|query (timeout|timed out)"),
        (FailureCategory.CANCELLED, "cancel|interrupted"),
        (
            FailureCategory.NETWORK_ERROR,
            "could not connect|connection|endpoint|time.?out|timed out|resol",
        ),
    )
)

_HINTS = {
    FailureCategory.CONFIGURATION_ERROR: (
        "Check GNOMAD_DATA_VERSION, and GNOMAD_DATABASE_URL or ATHENA_SCHEMA_NAME,"
        " ATHENA_S3_STAGING_DIR and AWS_REGION_NAME."
    ),
    FailureCategory.AUTHENTICATION_FAILED: (
        "Check the AWS credentials of this machine, or the password in GNOMAD_DATABASE_URL."
    ),
    FailureCategory.PERMISSION_ERROR: (
        "The account needs Athena's query actions, glue:GetTable, and S3 rights on the data and"
        " on ATHENA_S3_STAGING_DIR."
    ),
}


@dataclass(frozen=True)
class GnomadRecord:
    """One row of gnomAD's joint table (exomes and genomes), on GRCh38.

    `caid` has no leading zeros; `identifier` is such as 10-87961093-A-G. Where no sample could
    be called (`allele_number` 0), `allele_frequency` is 0.0. `faf95_max` is None in most rows: no
    value, not zero.
    """

    caid: str
    identifier: str
    allele_count: int
    allele_number: int
    allele_frequency: float
    faf95_max: float | None
    faf95_max_ancestry: str | None


@dataclass(frozen=True)
class Malformed:
    """A row that cannot be read; `message` says which column holds what."""

    caid: str
    message: str


Answer = GnomadRecord | Malformed


def unpadded(caid: str) -> str:
    """The id as gnomAD writes it: CA025094 becomes CA25094."""
    if not _CAID.fullmatch(caid):
        raise ValueError(f"{caid!r} is not a ClinGen allele id of a nucleotide change (CA…)")
    return f"CA{int(caid[2:])}"


def athena_url(region: str, schema: str, staging_dir: str) -> str:
    """The SQLAlchemy URL of Athena; credentials come from AWS's usual chain."""
    if not staging_dir.startswith("s3://"):
        raise ConfigurationError(
            f"ATHENA_S3_STAGING_DIR is {staging_dir!r}: it must look like s3://bucket/prefix/"
        )
    return (
        f"awsathena+rest://:@athena.{region}.amazonaws.com:443/{quote_plus(schema)}"
        f"?s3_staging_dir={quote_plus(staging_dir)}"
    )


def fetch(
    url: str | URL,
    data_version: str,
    caids: Collection[str],
    *,
    timeout: float,
    chunk: int = 16_250,
    on_chunk: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """The rows of the table of `data_version` for these ids; an id without a row is not in gnomAD.

    One query a chunk, each stopped after `timeout` seconds where the driver can stop a query (all
    of Athena's, PostgreSQL's, SQLite's can). The default chunk keeps a query below Athena's limit
    of 262,144 bytes. `on_chunk` is told how many ids were asked for so far. Raises ServiceError
    when a query fails.
    """
    ids = sorted({unpadded(caid) for caid in caids})
    table = _table(data_version)
    if not ids:
        return []
    engine = _engine(url)
    answers: list[Answer] = []
    for start in range(0, len(ids), chunk):
        part = ids[start : start + chunk]
        rows = _run(engine, query(table, part), timeout)
        answers.extend(_answers(rows, frozenset(part)))
        on_chunk(start + len(part))
    return answers


def failure_category(message: str) -> FailureCategory:
    """What a failed query's message means; Athena says "None" of a query that somebody stopped."""
    if message in ("", "None"):
        return FailureCategory.CANCELLED
    for category, pattern in _FAILURES:
        if pattern.search(message):
            return category
    return FailureCategory.UNKNOWN


def _table(data_version: str) -> str:
    if not _DATA_VERSION.fullmatch(data_version):
        raise ConfigurationError(
            f"GNOMAD_DATA_VERSION is {data_version!r}: it must look like v4.1"
            " (the table is then v4_1)"
        )
    return data_version.replace(".", "_")


def query(table: str, caids: Collection[str]) -> str:
    """Column names hold dots. The ids were checked; Athena's driver binds no parameters."""
    columns = ", ".join(f'"{column}"' for column in _COLUMNS)
    quoted = ",".join(f"'{caid}'" for caid in caids)
    return f"SELECT {columns} FROM {table} WHERE caid IN ({quoted})"


def _engine(url: str | URL) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "GNOMAD_DATABASE_URL is not a database URL: it must look like"
            " postgresql://user:password@host:5432/gnomad"
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return create_engine(parsed, poolclass=NullPool)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        if parsed.drivername.startswith("awsathena"):
            raise ConfigurationError(
                "Athena's driver is not installed: pip install 'mavedb-audit[athena]'"
            ) from error
        raise ConfigurationError(
            f"The database driver {parsed.drivername} of GNOMAD_DATABASE_URL is not installed."
        ) from error


def _run(engine: Engine, query: str, timeout: float) -> list[dict[str, Any]]:
    """The rows, by column name.

    The driver is used directly: SQLAlchemy would put the whole query, up to a quarter of a
    megabyte, into the message of every error.
    """
    driver_error = engine.dialect.loaded_dbapi.Error
    outcome = "failed"
    try:
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            with _deadline(connection.dbapi_connection, cursor, driver_error, timeout):
                cursor.execute(query)
                names = [column[0] for column in cursor.description]
                rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
                outcome = "answered"
                return rows
        finally:
            connection.close()
    except driver_error as error:
        raise _failure(error) from error
    finally:
        count_request(SERVICE, outcome)


@contextmanager
def _deadline(
    connection: Any, cursor: Any, driver_error: type[Exception], seconds: float
) -> Iterator[None]:
    """Stops the query in the database after `seconds`, and when this thread is interrupted."""
    stop = (
        getattr(cursor, "cancel", None)  # PyAthena
        or getattr(connection, "cancel_safe", None)  # psycopg
        or getattr(connection, "interrupt", None)  # sqlite3
    )
    passed = threading.Event()

    def stop_query() -> None:
        passed.set()
        if stop is not None:
            with suppress(driver_error):
                stop()

    timer = threading.Timer(seconds, stop_query)
    timer.daemon = True
    timer.start()
    try:
        yield
    except driver_error as error:
        if not passed.is_set():
            raise
        raise ServiceError(
            SERVICE,
            f"no answer within {seconds:g} seconds, so the query was stopped.",
            FailureCategory.TIMEOUT,
        ) from error
    except BaseException:
        stop_query()
        raise
    finally:
        timer.cancel()


def _failure(error: Exception) -> ServiceError:
    text = " ".join(str(error).split())
    category = failure_category(text)
    if category is FailureCategory.CANCELLED:
        text = f"somebody stopped the query ({text})"
    hint = _HINTS.get(category, "")
    return ServiceError(SERVICE, f"the query failed: {text[:1_000]} {hint}".rstrip(), category)


def _answers(rows: Iterable[Mapping[str, Any]], asked: Collection[str]) -> Iterator[Answer]:
    """What the rows say; the query engine decides whether numbers arrive as numbers or as text.

    A row of an id that nobody asked for is nobody's.
    """
    for row in rows:
        caid = str(row["caid"]).strip()
        if caid in asked:
            try:
                yield _record(caid, row)
            except ValueError as error:
                yield Malformed(caid, str(error))


def _record(caid: str, row: Mapping[str, Any]) -> GnomadRecord:
    contig = _match(_CONTIG, row, "locus.contig")[1]
    reference, alternate = _match(_TWO_ALLELES, row, "alleles").groups()
    position = _count(row, "locus.position")
    allele_count = _count(row, "joint.freq.all.ac")
    allele_number = _count(row, "joint.freq.all.an")
    if allele_count > allele_number:
        raise ValueError(f"joint.freq.all.ac {allele_count} exceeds joint.freq.all.an")
    identifier = f"{contig}-{position}-{reference}-{alternate}"
    if len(identifier) > _LONGEST_IDENTIFIER:
        raise ValueError(f"alleles are too long: {identifier[:50]}…")
    return GnomadRecord(
        caid=caid,
        identifier=identifier,
        allele_count=allele_count,
        allele_number=allele_number,
        allele_frequency=allele_count / allele_number if allele_number else 0.0,
        faf95_max=_optional_frequency(row, "joint.fafmax.faf95_max"),
        faf95_max_ancestry=str(row["joint.fafmax.faf95_max_gen_anc"] or "") or None,
    )


def _match(pattern: re.Pattern[str], row: Mapping[str, Any], column: str) -> re.Match[str]:
    if match := pattern.fullmatch(str(row[column]).strip()):
        return match
    raise ValueError(f"{column} is {row[column]!r}")


def _count(row: Mapping[str, Any], column: str) -> int:
    text = str(row[column]).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_COUNT):
        raise ValueError(f"{column} is {text}, not a count")
    return int(text)


def _optional_frequency(row: Mapping[str, Any], column: str) -> float | None:
    if row[column] in (None, ""):
        return None
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        raise ValueError(f"{column} is {row[column]!r}, not a number") from None
    if math.isnan(value):
        return None
    if not 0 <= value <= 1:
        raise ValueError(f"{column} is {value}, not a frequency")
    return value
