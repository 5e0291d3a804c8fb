"""The statements that a function of ours executes, each with the plan that it ran by."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event

_EXPLAINABLE = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class Scan:
    """What a node of a plan took from a table, also what it threw away, and by which indexes."""

    table: str
    node: str
    indexes: tuple[str, ...]
    rows: float


@dataclass(frozen=True)
class Statement:
    sql: str
    scans: tuple[Scan, ...]

    def __str__(self) -> str:
        scans = [
            f"{scan.node} on {scan.table}, {' and '.join(scan.indexes) or 'no index'}:"
            f" {scan.rows:,.0f} rows"
            for scan in self.scans
        ]
        return "\n  ".join([" ".join(self.sql.split()), *scans])


@contextmanager
def explained(target: Connection | Engine) -> Iterator[list[Statement]]:
    """The statements that are executed there meanwhile, each with its plan.

    Each is first run by EXPLAIN ANALYZE, with its own parameters, and rolled back.
    """
    statements: list[Statement] = []

    def explain(connection: Connection, _: Any, sql: str, parameters: Any, *_more: Any) -> None:
        if not _is_explainable(sql):
            return
        with connection.connection.cursor() as cursor:
            cursor.execute("SAVEPOINT explained")
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
            (([explanation],),) = cursor.fetchall()
            cursor.execute("ROLLBACK TO SAVEPOINT explained")
        statements.append(Statement(sql, tuple(_scans(explanation["Plan"]))))

    event.listen(target, "before_cursor_execute", explain)
    try:
        yield statements
    finally:
        event.remove(target, "before_cursor_execute", explain)


def _is_explainable(sql: str) -> bool:
    words = sql.split(maxsplit=1)
    return words[0] in _EXPLAINABLE or (words[0] == "CREATE" and " AS\n" in sql)


def _scans(node: Mapping[str, Any]) -> Iterator[Scan]:
    if "Relation Name" in node and node["Node Type"].endswith("Scan"):
        yield Scan(
            node["Relation Name"], node["Node Type"], tuple(_indexes(node)), _rows_read(node)
        )
    for child in node.get("Plans", []):
        yield from _scans(child)


def _indexes(node: Mapping[str, Any]) -> Iterator[str]:
    """That of an index scan, or those of the bitmaps that a table is read by."""
    if "Index Name" in node:
        yield node["Index Name"]
    for bitmap in _bitmaps(node):
        yield from _indexes(bitmap)


def _rows_read(node: Mapping[str, Any]) -> float:
    """Those that it gave and those that it threw away; or the entries of its bitmaps, if more."""
    a_loop = (
        node["Actual Rows"]
        + node.get("Rows Removed by Filter", 0)
        + node.get("Rows Removed by Index Recheck", 0)
    )
    return max(a_loop * node["Actual Loops"], sum(map(_rows_read, _bitmaps(node))))


def _bitmaps(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [child for child in node.get("Plans", []) if child["Node Type"].startswith("Bitmap")]


#: Tables whose rows become more with every variant, job or state.
GROWING = frozenset(
    {
        "account_counts",
        "job_attempts",
        "job_dependencies",
        "job_metrics",
        "job_runs",
        "mapped_variants",
        "pipeline_requests",
        "pipelines",
        "planned_jobs",
        "prefect_runs",
        "prefect_transitions",
        "variant_annotation_status",
        "variants",
    }
)


def assert_read(statements: Sequence[Statement], most_rows: float, *indexes: str) -> None:
    """No growing table was read as a whole, these indexes served, and so many rows were enough.

    The bound is to be generous: which of two good plans is taken depends on the statistics.
    """
    said = "\n".join(map(str, statements))
    scans = [scan for each in statements for scan in each.scans if scan.table in GROWING]
    assert scans, f"nothing was read:\n{said}"
    whole = {scan.table for scan in scans if scan.node == "Seq Scan"}
    assert not whole, f"{', '.join(sorted(whole))} read as a whole:\n{said}"
    unused = set(indexes) - {index for scan in scans for index in scan.indexes}
    assert not unused, f"{', '.join(sorted(unused))} not used:\n{said}"
    rows = sum(scan.rows for scan in scans)
    assert rows <= most_rows, f"{rows:,.0f} rows read, not {most_rows:,.0f}:\n{said}"
