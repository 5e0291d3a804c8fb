"""How fast variants are accounted for, beside a COPY of the same rows into the same table.

A round writes a status for each variant, the same ones again, and then others in their place; the
baseline copies the first ones, and the others beside them.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from deployments.local.bench.figures import (
    Figure,
    MeasurementError,
    Pair,
    figure_of,
    ratio_at_least,
)
from deployments.local.bench.rows import (
    PAIRS,
    Work,
    insert_bench_job,
    insert_bench_score_set,
    insert_bench_variants,
    vacuum,
)
from mavedb_audit import accounts
from mavedb_audit.accounts import Status
from mavedb_audit.bulk import copy_rows
from mavedb_audit.pipelines import AnnotationType, JobType
from mavedb_audit.reasons import Reason, explain

_GNOMAD = AnnotationType.GNOMAD_ALLELE_FREQUENCY
_VERSION = "v4.1"
_LEAST_FIRST, _LEAST_REPLACED, _LEAST_AGAIN = 0.6, 0.35, 5.0
_MOST_OF_SEVERAL_RUNS = 100_000
_WRITTEN = ("variant_annotation_status", "account_counts", "status_confirmations")


@dataclass(frozen=True)
class _Job:
    """A job whose score set has variants of these ids."""

    job_id: int
    score_set_id: int
    variant_ids: Sequence[int]


def accounting(engine: Engine, variants: int) -> list[Figure]:
    """A status for each variant, the first one and one in the place of another, beside a COPY; and
    the same once more, beside the first."""
    job = _insert_job(engine, variants)
    found, others = _statuses(job, 1), _statuses(job, 0)
    first, again, replaced = [], [], []
    for _ in range(PAIRS):
        _empty(engine)
        ours = variants / _seconds_of(engine, _write(job, found))
        before = _newest(engine)
        repeated = variants / _seconds_of(engine, _write(job, found))
        if _newest(engine) != before:
            raise MeasurementError("Statuses that had not changed were written anew")
        replacing = variants / _seconds_of(engine, _write(job, others))
        _empty(engine)
        baseline = variants / _seconds_of(engine, _copy(_rows(job, found)))
        beside = variants / _seconds_of(engine, _copy(_rows(job, others)))
        first.append(Pair(ours, baseline))
        again.append(Pair(repeated, ours))
        replaced.append(Pair(replacing, beside))
    _empty(engine)
    return [
        figure_of("annotation statuses, first", "rows/s", first, ratio_at_least(_LEAST_FIRST)),
        figure_of(
            "annotation statuses, all replaced", "rows/s", replaced, ratio_at_least(_LEAST_REPLACED)
        ),
        figure_of(
            "annotation statuses, none changed", "rows/s", again, ratio_at_least(_LEAST_AGAIN)
        ),
    ]


def seconds_to_account(engine: Engine, variants: int) -> float:
    """The first status of each variant, which is deleted after it: the fastest of some runs."""
    job = _insert_job(engine, variants)
    statuses = _statuses(job, 1)
    seconds = []
    for _ in range(PAIRS if variants <= _MOST_OF_SEVERAL_RUNS else 1):
        _empty(engine)
        seconds.append(_seconds_of(engine, _write(job, statuses)))
    _empty(engine)
    return min(seconds)


def _insert_job(engine: Engine, variants: int) -> _Job:
    with engine.begin() as connection:
        score_set_id = insert_bench_score_set(connection, f"tmp:{uuid4()}", "ATG")
        insert_bench_variants(connection, score_set_id, variants)
        job_id = insert_bench_job(
            connection, JobType.MAPPED_VARIANT_ANNOTATION, "link_gnomad_variants"
        )
        variant_ids = connection.execute(
            text("SELECT id FROM variants WHERE scoreset_id = :id ORDER BY id"),
            {"id": score_set_id},
        )
        job = _Job(job_id, score_set_id, variant_ids.scalars().all())
    vacuum(engine, "variants")
    return job


def _statuses(job: _Job, found: int) -> list[Status]:
    """Every other variant is found, the odd ones if `found` is 1 and the even ones if it is 0."""
    return [
        Status(n, data={"gnomad_db_identifier": f"1-{n}-A-G"})
        if n % 2 == found
        else Status(n, Reason.NOT_IN_SOURCE)
        for n in job.variant_ids
    ]


def _rows(job: _Job, statuses: Sequence[Status]) -> list[tuple[Any, ...]]:
    absent = explain(Reason.NOT_IN_SOURCE)
    return [
        (s.variant_id, _GNOMAD, _VERSION, "success", None, None, json.dumps(s.data), job.job_id)
        if s.reason is None
        else (s.variant_id, _GNOMAD, _VERSION, "skipped", absent, s.reason, None, job.job_id)
        for s in statuses
    ]


def _write(job: _Job, statuses: Sequence[Status]) -> Work:
    def work(connection: Connection) -> None:
        accounts.write(
            connection,
            job_id=job.job_id,
            score_set_id=job.score_set_id,
            annotation_type=_GNOMAD,
            version=_VERSION,
            statuses=statuses,
        )

    return work


def _copy(rows: Sequence[tuple[Any, ...]]) -> Work:
    def work(connection: Connection) -> None:
        copy_rows(
            connection,
            "variant_annotation_status (variant_id, annotation_type, version, status,"
            " error_message, failure_category, success_data, job_run_id)",
            rows,
        )

    return work


def _seconds_of(engine: Engine, work: Work) -> float:
    """The time of one transaction with its commit, after which the tables are vacuumed."""
    with engine.connect() as connection:
        began = time.perf_counter()
        # Begun here, since a COPY goes past SQLAlchemy, which would have nothing to commit.
        with connection.begin():
            work(connection)
        seconds = time.perf_counter() - began
    vacuum(engine, *_WRITTEN)
    return seconds


def _newest(engine: Engine) -> int:
    with engine.connect() as connection:
        newest = connection.execute(text("SELECT max(id) FROM variant_annotation_status"))
        return int(newest.scalar_one())


def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(_WRITTEN)}"))
    vacuum(engine, *_WRITTEN)
