"""A score set's account as a curator reads it: which annotation how many lack, and why."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from mavedb_audit.queries.accounts import Account, Count
from mavedb_audit.reasons import AnnotationStatus

#: A cell of the matrix: a status, and the reason of one that is no success.
Column = tuple[str, str | None]


@dataclass(frozen=True)
class Row:
    """One annotation of one version: its counts, and how many variants have none yet."""

    annotation_type: str
    version: str | None
    counts: dict[Column, Count]
    without: int

    def of(self, status: str) -> int:
        """How many variants have the status, whatever the reason."""
        return sum(count.variants for (its, _), count in self.counts.items() if its == status)


@dataclass(frozen=True)
class Earlier:
    """The other versions of an annotation, newest first."""

    annotation_type: str
    rows: list[Row]


@dataclass(frozen=True)
class Matrix:
    """Rows are annotations in the order of their steps, each of its newest version.

    Columns are those statuses and reasons that occur in any row, also of an earlier version:
    success first, then what failed, then what was skipped, the most frequent first.
    """

    rows: list[Row]
    earlier: list[Earlier]
    columns: list[Column]
    meanings: list[Count]

    def span(self, status: str) -> int:
        return sum(its == status for its, _ in self.columns)


def matrix_of(account: Account) -> Matrix:
    rows: list[Row] = []
    earlier: list[Earlier] = []
    # The account has its annotations in the order of their steps, and versions from old to new.
    for annotation_type, counts in groupby(account.counts, key=lambda count: count.annotation_type):
        versions = [
            _row(annotation_type, version, list(its), account.variants)
            for version, its in groupby(counts, key=lambda count: count.version)
        ]
        newest, *others = reversed(versions)
        rows.append(newest)
        if others:
            earlier.append(Earlier(annotation_type, others))
    return Matrix(rows, earlier, *_columns(account.counts))


def _row(annotation_type: str, version: str | None, counts: Sequence[Count], variants: int) -> Row:
    return Row(
        annotation_type,
        version,
        {(count.status, count.reason): count for count in counts},
        max(variants - sum(count.variants for count in counts), 0),
    )


def _columns(counts: Iterable[Count]) -> tuple[list[Column], list[Count]]:
    """The columns, and for each with a reason a count that says what it means."""
    statuses = [str(status) for status in AnnotationStatus]
    totals: dict[Column, int] = defaultdict(int)
    example: dict[Column, Count] = {}
    for count in counts:
        totals[count.status, count.reason] += count.variants
        example[count.status, count.reason] = count
    columns = sorted(totals, key=lambda column: (statuses.index(column[0]), -totals[column]))
    return columns, [example[column] for column in columns if column[1] is not None]
