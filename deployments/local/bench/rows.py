"""How fast rows are written: ours and the baseline in turn, each on a table as empty as it was.

And the rows that must be there before: a score set, its variants, a job that works on them.
"""

import time
from collections.abc import Callable
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import Figure, Pair, Target, figure_of
from deployments.local.submission import insert_score_set
from mavedb_audit.pipelines import JobType

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
    vacuum(engine, table)
    return seconds


def vacuum(engine: Engine, *tables: str) -> None:
    """As autovacuum would some time: so that no run finds what another one left. All, if none."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM ANALYZE {', '.join(tables)}"))


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


def insert_bench_variants(connection: Connection, score_set_id: int, variants: int) -> None:
    """Variants `#1` and so on of the score set, without data."""
    connection.execute(
        text(
            """
            INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
            SELECT urn || '#' || number, '{}', id, CURRENT_DATE, CURRENT_DATE
              FROM scoresets CROSS JOIN generate_series(1, :variants) AS number
             WHERE id = :score_set_id ORDER BY number
            """
        ),
        {"score_set_id": score_set_id, "variants": variants},
    )


def insert_bench_job(connection: Connection, job_type: JobType, job_function: str) -> int:
    """A job that runs, and that no pipeline has planned. Returns its id."""
    job_id: int = connection.execute(
        text(
            """
            INSERT INTO job_runs (urn, job_type, job_function, status, priority, max_retries,
                                  retry_count)
            VALUES (:urn, :job_type, :job_function, 'running', 0, 0, 0) RETURNING id
            """
        ),
        {
            "urn": f"urn:mavedb:job-{uuid4()}",
            "job_type": job_type,
            "job_function": job_function,
        },
    ).scalar_one()
    return job_id
