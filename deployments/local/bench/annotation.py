"""What annotating a score set takes: time, beside a COPY of the rows that it writes, requests to
each service, and memory of each step."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, TextClause, text

from deployments.local.bench.figures import (
    Figure,
    Pair,
    figure_of,
    ratio_at_most,
)
from deployments.local.bench.pipelines import run_pipelines, upload_score_set
from deployments.local.bench.rows import vacuum
from deployments.local.stack import Stack
from deployments.local.submission import PIPELINE
from mavedb_audit.bulk import copy_rows
from mavedb_audit.pipelines import (
    ANNOTATION,
    CREATE,
    MAP,
    REFRESH_CLINVAR,
    REFRESH_CLINVAR_RELEASES,
    REFRESH_PUBLISHED,
    SUBMIT_LDH,
)

_MOST = 10
#: What a pipeline takes however few variants it has would rule the ratio of a smaller score set.
_FEWEST_FOR_TARGET = 12_000
_ANNOTATE = "annotate_score_set"
_FIRST_VARIANTS = 40

#: The steps after mapping as the pipelines of their own that they are, too: of ClinVar's one.
_ALONE = (
    *(step.function for step in ANNOTATION if step not in REFRESH_CLINVAR_RELEASES),
    REFRESH_CLINVAR.function,
    SUBMIT_LDH.function,
)

_OF_SCORE_SET = """
    mapped_variant_id IN (
        SELECT mapped.id FROM mapped_variants AS mapped JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :score_set_id)
"""
#: What annotation writes for each variant: of each table the columns, and which rows.
_WRITTEN = {
    "variant_annotation_status": (
        "variant_id, annotation_type, version, status, error_message, failure_category,"
        " success_data, current, job_run_id",
        "job_run_id IN (SELECT id FROM job_runs WHERE pipeline_id = :pipeline_id)",
    ),
    "gnomad_variants_mapped_variants": ("mapped_variant_id, gnomad_variant_id", _OF_SCORE_SET),
    "mapped_variants_clinical_controls": ("mapped_variant_id, clinical_control_id", _OF_SCORE_SET),
}

_METRICS = """
      FROM job_metrics JOIN job_attempts AS attempt ON attempt.id = attempt_id
      JOIN job_runs AS job ON job.id = job_id AND job.pipeline_id = :pipeline_id
"""
#: From the flow's first move to the commit of its last step.
_SECONDS = text(
    f"""
    SELECT extract(epoch FROM max(pg_xact_commit_timestamp(job_metrics.xmin))
                              - min(pipeline.started_at))
    {_METRICS} JOIN pipelines AS pipeline ON pipeline.id = job.pipeline_id
    """
)
_PEAK_MEGABYTES = text(f"SELECT max(peak_memory_bytes) / 1e6 {_METRICS}")
#: Of every service that any step has asked: how often the pipeline's steps did.
_REQUESTS = text(
    f"""
    SELECT service, (
           SELECT coalesce(sum(CAST(outcome.value AS integer)), 0) {_METRICS}
            CROSS JOIN LATERAL jsonb_each_text(http_requests -> service) AS outcome)
      FROM (SELECT DISTINCT jsonb_object_keys(http_requests) AS service FROM job_metrics) AS asked
     ORDER BY service
    """
)


def annotating(stack: Stack, engine: Engine, variants: int, score_sets: int) -> list[Figure]:
    """Each score set has a target of its own, so that its alleles are in no cache. The releases of
    ClinVar are loaded beforehand, by the pipeline of a small one.

    The database must track the times of commits.
    """
    run_pipelines(stack, engine, [PIPELINE], upload_score_set(stack, engine, 0, _FIRST_VARIANTS))
    pairs = []
    for seed in range(1, score_sets + 1):
        score_set = upload_score_set(stack, engine, seed, variants)
        runs = {
            name: run_pipelines(stack, engine, [name], score_set)[name]
            for name in (CREATE.function, MAP.function, _ANNOTATE)
        }
        seconds = _value(engine, _SECONDS, runs[_ANNOTATE])
        pairs.append(Pair(seconds, _copy_again(engine, runs[_ANNOTATE], score_set)))
    target = ratio_at_most(_MOST) if variants >= _FEWEST_FOR_TARGET else None
    return [
        figure_of(f"annotation of {variants:,} variants", "s", pairs, target),
        *_requests(engine, runs[_ANNOTATE], variants),
        *_memory(stack, engine, score_set, runs),
    ]


def _requests(engine: Engine, pipeline_id: int, variants: int) -> Iterator[Figure]:
    """Beside a request for each variant, which is what it takes without asking about many at
    once."""
    with engine.connect() as connection:
        rows = connection.execute(_REQUESTS, {"pipeline_id": pipeline_id}).all()
    for service, requests in rows:
        pair = Pair(1000 * requests / variants, 1000)
        yield figure_of(f"requests to {service}", "a 1,000 variants", [pair], None)


def _memory(
    stack: Stack, engine: Engine, score_set: Mapping[str, Any], runs: Mapping[str, int]
) -> Iterator[Figure]:
    """The peak of the processes of these pipelines, and of one for each step after mapping, beside
    that of a step that holds no variants."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE scoresets SET private = false, published_date = CURRENT_DATE"
                " WHERE id = :score_set_id"
            ),
            score_set,
        )
    alone = run_pipelines(stack, engine, [REFRESH_PUBLISHED.function, *_ALONE], score_set)
    least = _value(engine, _PEAK_MEGABYTES, alone.pop(REFRESH_PUBLISHED.function))
    for name, pipeline_id in {**runs, **alone}.items():
        pair = Pair(_value(engine, _PEAK_MEGABYTES, pipeline_id), least)
        yield figure_of(f"peak memory of {name}", "MB", [pair], None)


def _value(engine: Engine, query: TextClause, pipeline_id: int) -> float:
    with engine.connect() as connection:
        return float(connection.execute(query, {"pipeline_id": pipeline_id}).scalar_one())


def _copy_again(engine: Engine, pipeline_id: int, score_set: Mapping[str, Any]) -> float:
    """Take what annotation wrote for each variant out of its tables, and COPY it there again.

    Returns the seconds of the COPY with its commit.
    """
    which = {"pipeline_id": pipeline_id, "score_set_id": score_set["score_set_id"]}
    taken: dict[str, list[Sequence[Any]]] = {}
    with engine.begin() as connection:
        for table, (columns, condition) in _WRITTEN.items():
            as_text = columns.replace("success_data", "CAST(success_data AS text)")
            rows = connection.execute(
                text(f"DELETE FROM {table} WHERE {condition} RETURNING {as_text}"), which
            )
            taken[f"{table} ({columns})"] = list(rows)
    vacuum(engine, *_WRITTEN)
    began = time.monotonic()
    with engine.begin() as connection:
        for target, rows_taken in taken.items():
            copy_rows(connection, target, rows_taken)
    return time.monotonic() - began
