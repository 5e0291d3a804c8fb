"""How fast rows are written: ours and the baseline in turn, each on a table as empty as it was."""

import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import Figure, Pair, Target, figure_of
from deployments.local.submission import insert_score_set

PAIRS = 5

Work = Callable[[Connection], None]


def measure(
    figure: str, engine: Engine, ours: Work, baseline: Work, rows: int, table: str, target: Target
) -> Figure:
    """Time both in turn, each on a table as empty as the other's."""
    pairs = [
        Pair(rows / seconds_of(engine, ours, table), rows / seconds_of(engine, baseline, table))
        for _ in range(PAIRS)
    ]
    return figure_of(figure, "rows/s", pairs, target)


def seconds_of(engine: Engine, work: Work, table: str) -> float:
    """The time of one transaction with its commit; what it wrote is deleted after it."""
    with engine.connect() as connection:
        newest = connection.execute(text(f"SELECT coalesce(max(id), 0) FROM {table}")).scalar_one()
        connection.commit()
        began = time.perf_counter()
        # Begun here, since a COPY goes past SQLAlchemy, which would have nothing to commit.
        with connection.begin():
            work(connection)
        seconds = time.perf_counter() - began
        connection.execute(text(f"DELETE FROM {table} WHERE id > :newest"), {"newest": newest})
        connection.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM ANALYZE {table}"))
    return seconds


def insert_bench_score_set(connection: Connection, urn: str, sequence: str) -> int:
    score_set_id, _ = insert_score_set(
        connection,
        urn=urn,
        title=urn,
        target_name="bench",
        sequence=sequence,
        sequence_type="dna",
        user="bench",
    )
    return score_set_id
