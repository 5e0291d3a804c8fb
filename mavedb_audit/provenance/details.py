"""Every current annotation of a score set, one row each, as a Parquet file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from sqlalchemy import Connection, text

from mavedb_audit.provenance import names
from mavedb_audit.release import release_of

#: With twenty annotations each, a chunk is some tens of megabytes in Python.
_VARIANTS_A_CHUNK = 1_000
_ROWS_A_GROUP = 100_000

_MOMENT = pl.Datetime("us", "UTC")
#: What the database gives.
_SELECTED = {
    "variant_urn": pl.String(),
    "hgvs_nt": pl.String(),
    "hgvs_pro": pl.String(),
    "annotation_type": pl.String(),
    "version": pl.String(),
    "status": pl.String(),
    "reason": pl.String(),
    "message": pl.String(),
    "data": pl.String(),
    "recorded_at": _MOMENT,
    "job_id": pl.Int64(),
    "job_urn": pl.String(),
    "job_function": pl.String(),
    "pipeline_urn": pl.String(),
    "attempt": pl.Int32(),
    "attempt_started_at": _MOMENT,
    "attempt_finished_at": _MOMENT,
}
#: What tells one collection from another.
_OUTCOME = ["annotation_type", "version", "job_id", "job_urn", "attempt", "status", "reason"]


@dataclass(frozen=True)
class Outcome:
    """What one job, by one of its attempts, made of some variants: they are a collection.

    `reason` is None exactly for success. Statuses of old may name no job.
    """

    annotation_type: str
    version: str | None
    job_id: int | None
    job_urn: str | None
    attempt: int | None
    status: str
    reason: str | None

    @property
    def activity(self) -> str | None:
        """The name of what generated the annotations: an attempt, or a job that made none."""
        if self.job_id is None:
            return None
        job = names.of_row("job", self.job_urn, self.job_id)
        return job if self.attempt is None else names.of_attempt(job, self.attempt)

    def name(self, score_set_urn: str) -> str:
        return names.of_collection(
            score_set_urn,
            self.annotation_type,
            self.version,
            self.activity or "",
            self.reason or self.status,
        )


@dataclass(frozen=True)
class Collection:
    """How many variants share an outcome, and when the last of them was recorded."""

    variants: int
    recorded_at: datetime


@dataclass(frozen=True)
class Written:
    rows: int
    collections: Mapping[Outcome, Collection]


def write(connection: Connection, score_set_id: int, score_set_urn: str, file: Path) -> Written:
    """Write the file, sorted by variant, type and version. Holds one chunk in memory at a time."""
    rows = 0
    collections: dict[Outcome, Collection] = {}
    with TemporaryDirectory(dir=file.parent) as folder:
        parts: list[Path] = []
        for chunk in _chunks(connection, score_set_id):
            named = _name(chunk, score_set_urn, collections)
            parts.append(Path(folder, f"{len(parts):06}.parquet"))
            named.write_parquet(parts[-1], compression="lz4")
            rows += named.height
        if not parts:
            parts.append(Path(folder, "none.parquet"))
            empty = _name(pl.DataFrame(schema=_SELECTED), score_set_urn, collections)
            empty.write_parquet(parts[0])
        pl.scan_parquet(parts).sink_parquet(file, row_group_size=_ROWS_A_GROUP)
    return Written(rows, collections)


def _chunks(connection: Connection, score_set_id: int) -> Iterator[pl.DataFrame]:
    release = release_of(connection)
    select = text(_SELECT.format(reason=release.reason("status"), data=release.status_data))
    bounds = connection.execute(
        text(_BOUNDS), {"score_set_id": score_set_id, "size": _VARIANTS_A_CHUNK}
    ).all()
    for first, last in bounds:
        given = {"score_set_id": score_set_id, "first": first, "last": last}
        found = connection.execute(select, given).all()
        yield pl.DataFrame([tuple(row) for row in found], schema=_SELECTED, orient="row")


_BOUNDS = """
    SELECT min(id), max(id)
      FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / :size AS chunk
              FROM variants WHERE scoreset_id = :score_set_id) AS numbered
     GROUP BY chunk ORDER BY chunk
"""

#: A status is of the last attempt that had begun when it was recorded.
_SELECT = """
    WITH tried AS (
        SELECT job_id, attempt, started_at, finished_at,
               lead(started_at) OVER (PARTITION BY job_id ORDER BY attempt) AS next_started_at
          FROM job_attempts
         WHERE job_id IN (SELECT job_id FROM planned_jobs WHERE score_set_id = :score_set_id)
    )
    SELECT variant.urn, variant.hgvs_nt, variant.hgvs_pro, status.annotation_type, status.version,
           status.status, {reason}, status.error_message, CAST(status.{data} AS text),
           status.created_at, status.job_run_id, job.urn, job.job_function, pipeline.urn,
           tried.attempt, tried.started_at, tried.finished_at
      FROM variants AS variant
      JOIN variant_annotation_status AS status ON status.variant_id = variant.id AND status.current
      LEFT JOIN job_runs AS job ON job.id = status.job_run_id
      LEFT JOIN pipelines AS pipeline ON pipeline.id = job.pipeline_id
      LEFT JOIN tried ON tried.job_id = job.id AND tried.started_at <= status.created_at
       AND (tried.next_started_at IS NULL OR status.created_at < tried.next_started_at)
     WHERE variant.scoreset_id = :score_set_id AND variant.id BETWEEN :first AND :last
     ORDER BY variant.id, status.annotation_type, status.version, status.id
"""


def _name(
    chunk: pl.DataFrame, score_set_urn: str, collections: dict[Outcome, Collection]
) -> pl.DataFrame:
    """The chunk with the name of each row's collection, which is counted into `collections`."""
    found = chunk.group_by(_OUTCOME, maintain_order=True).agg(
        pl.len().alias("variants"), pl.max("recorded_at")
    )
    entities = []
    for *key, variants, recorded_at in found.iter_rows():
        outcome = Outcome(*key)
        entities.append(outcome.name(score_set_urn))
        known = collections.get(outcome, Collection(0, recorded_at))
        collections[outcome] = Collection(
            known.variants + variants, max(known.recorded_at, recorded_at)
        )
    named = found.select(_OUTCOME).with_columns(pl.Series("entity", entities, dtype=pl.String()))
    return chunk.join(named, on=_OUTCOME, how="left", nulls_equal=True, maintain_order="left").drop(
        "job_id"
    )
