"""What failed, in groups: jobs by their category and service, variants by reason."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from mavedb_audit.account_counts import BLOCK_SIZE
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.reasons import Reason, meaning_of
from mavedb_audit.release import release_of
from mavedb_audit.services import ASKED_BY, REASON_OF
from mavedb_audit.views import View

By = Literal["reason", "service", "score-set"]

#: The group of what asks no service, and of what MaveDB itself gave no reason for.
NONE = "none"


class FailureGroup(View):
    """`group` is a reason, a service or a score set's URN, whatever was grouped by.

    `variants` failed in it now: one counts for each annotation, and version of a source, that it
    lacks; `reasons` and `annotation_types` say how many of them for what. `jobs` ended failed, and
    no later one did the same work with success; `categories` are theirs. Grouped by reason, a job
    is under the one that it gave its variants, or, if it accounts for none, under its category.
    `hint` is for the reason of most variants. `example` is one message, and `example_urn` the
    variant or job that it is of.
    """

    group: str
    variants: int
    jobs: int
    reasons: dict[str, int]
    annotation_types: dict[str, int]
    categories: dict[str, int]
    hint: str | None
    example: str | None
    example_urn: str | None
    last_at: datetime | None


#: `example` is a count of variants that are as good as any others of the group.
_VARIANTS = """
    SELECT {score_set} AS score_set_urn, counted.annotation_type, counted.reason,
           sum(counted.variants) AS number, max(counted.newest_at) AS last_at,
           max(counted.id) AS example
      FROM account_counts AS counted JOIN scoresets AS score_set
        ON score_set.id = counted.score_set_id
     WHERE counted.status = 'failed'
       AND (CAST(:since AS timestamptz) IS NULL OR counted.newest_at >= :since)
     GROUP BY 1, 2, 3
"""

#: A job's parameters differ from those of the same work at another time by their correlation id.
#: OFFSET 0 has each failed job's plan looked up: the planner would else read all that is planned.
_JOBS = """
    SELECT {score_set} AS score_set_urn, job.job_function,
           coalesce(job.failure_category, 'unknown') AS category, count(*) AS number,
           max(job.finished_at) AS last_at,
           (array_agg(job.error_message ORDER BY job.finished_at DESC NULLS LAST))[1] AS message,
           (array_agg(job.urn ORDER BY job.finished_at DESC NULLS LAST))[1] AS urn
      FROM job_runs AS job
     CROSS JOIN LATERAL (SELECT * FROM planned_jobs WHERE job_id = job.id OFFSET 0) AS planned
      LEFT JOIN scoresets AS score_set ON score_set.id = planned.score_set_id
     WHERE job.status IN ('failed', 'errored')
       AND (CAST(:since AS timestamptz) IS NULL OR job.finished_at >= :since)
       AND (planned.score_set_id IS NULL OR score_set.id IS NOT NULL)
       AND NOT EXISTS (
           SELECT FROM planned_jobs AS later JOIN job_runs AS success ON success.id = later.job_id
            WHERE later.score_set_id = planned.score_set_id AND later.job_key = planned.job_key
              AND later.job_id > planned.job_id AND success.status = 'succeeded' OFFSET 0)
       AND NOT (planned.score_set_id IS NULL AND EXISTS (
           SELECT FROM planned_jobs AS later JOIN job_runs AS success ON success.id = later.job_id
            WHERE later.score_set_id IS NULL AND later.job_key = planned.job_key
              AND later.job_id > planned.job_id AND success.status = 'succeeded'
              AND success.job_params - 'correlation_id' = job.job_params - 'correlation_id'))
     GROUP BY 1, 2, 3
"""

#: OFFSET 0 has each variant looked up: the planner would else read all failed statuses.
_EXAMPLES = f"""
    SELECT counted.id, example.error_message AS message, example.urn
      FROM account_counts AS counted
     CROSS JOIN LATERAL (
        SELECT status.error_message, coalesce(variant.urn, 'variant ' || variant.id) AS urn
          FROM (SELECT * FROM variants
                 WHERE id BETWEEN coalesce(counted.variant_ids[1], counted.id_block * {BLOCK_SIZE})
                              AND coalesce(counted.variant_ids[1],
                                           counted.id_block * {BLOCK_SIZE} + {BLOCK_SIZE - 1})
                 ORDER BY id OFFSET 0) AS variant
         CROSS JOIN LATERAL (
            SELECT * FROM variant_annotation_status AS failed
             WHERE failed.variant_id = variant.id
               AND failed.annotation_type = counted.annotation_type AND failed.current
               AND failed.version IS NOT DISTINCT FROM counted.version
               AND failed.status = 'failed'
               AND {{reason}} IS NOT DISTINCT FROM counted.reason
            OFFSET 0
          ) AS status
         WHERE variant.scoreset_id = counted.score_set_id
         LIMIT 1
      ) AS example
     WHERE counted.id = ANY (:ids)
"""


@dataclass
class _Group:
    """A group while it is added up. `of_variants` is the count of most variants."""

    reasons: Counter[str] = field(default_factory=Counter)
    annotation_types: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    times: list[datetime] = field(default_factory=list)
    of_variants: Row[Any] | None = None
    of_jobs: Row[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.reasons.total(), self.categories.total()


def failures(
    connection: Connection,
    *,
    by: By = "reason",
    since: datetime | None = None,
    limit: int = 100,
) -> Sequence[FailureGroup]:
    """The failures that still stand, those with most variants first; at most `limit` groups.

    With `since`, jobs that ended since then, and variants of counts with a failure since then.
    """
    score_set = "score_set.urn" if by == "score-set" else "CAST(NULL AS text)"
    groups: dict[str, _Group] = {}
    for row in connection.execute(text(_VARIANTS.format(score_set=score_set)), {"since": since}):
        group = groups.setdefault(_VARIANTS_BY[by](row), _Group())
        group.reasons[row.reason or NONE] += row.number
        group.annotation_types[row.annotation_type] += row.number
        group.times.append(row.last_at)
        if group.of_variants is None or row.number > group.of_variants.number:
            group.of_variants = row
    for row in connection.execute(text(_JOBS.format(score_set=score_set)), {"since": since}):
        group = groups.setdefault(_JOBS_BY[by](row), _Group())
        group.categories[row.category] += row.number
        if row.last_at is not None:
            group.times.append(row.last_at)
        if group.of_jobs is None or row.number > group.of_jobs.number:
            group.of_jobs = row
    largest = sorted(groups.items(), key=lambda item: ([-n for n in item[1].size], item[0]))[:limit]
    examples = _examples(connection, [group for _, group in largest])
    return [_view(name, group, examples) for name, group in largest]


def _view(name: str, group: _Group, examples: Mapping[int, Row[Any]]) -> FailureGroup:
    example = group.of_jobs
    if group.of_variants is not None:
        # None where the variant was deleted since, by MaveDB itself.
        example = examples.get(group.of_variants.example, example)
    variants, jobs = group.size
    meaning = meaning_of(max(group.reasons, key=group.reasons.__getitem__, default=None))
    return FailureGroup(
        group=name,
        variants=variants,
        jobs=jobs,
        reasons=dict(group.reasons.most_common()),
        annotation_types=dict(group.annotation_types.most_common()),
        categories=dict(group.categories.most_common()),
        hint=None if meaning is None else meaning.hint,
        example=None if example is None else example.message,
        example_urn=None if example is None else example.urn,
        last_at=max(group.times, default=None),
    )


def _examples(connection: Connection, groups: Sequence[_Group]) -> Mapping[int, Row[Any]]:
    """A failed status of each group that has variants, by the id of its count."""
    ids = [group.of_variants.example for group in groups if group.of_variants is not None]
    reason = release_of(connection).reason("failed")
    rows = connection.execute(text(_EXAMPLES.format(reason=reason)), {"ids": ids})
    return {row.id: row for row in rows}


def _service_of_variants(row: Row[Any]) -> str:
    reason = REASON_OF.get(row.reason)
    return _SERVICE_OF_TYPE.get(row.annotation_type, NONE) if reason is None else str(reason)


def _service_of_function(function: str) -> str:
    return str(ASKED_BY[function][0]) if function in ASKED_BY else NONE


def _reason_of_job(row: Row[Any]) -> str:
    return str(Reason.STEP_FAILED) if row.job_function in _ACCOUNTING else str(row.category)


_STEPS = {step.function: step for pipeline in PIPELINES.values() for step in pipeline.steps}
#: Functions that account for variants, and by annotation type the service of the one that does.
_ACCOUNTING = frozenset(name for name, step in _STEPS.items() if step.annotation_types)
_SERVICE_OF_TYPE = {
    str(annotation_type): _service_of_function(function)
    for function, step in _STEPS.items()
    for annotation_type in step.annotation_types
}
_VARIANTS_BY: Mapping[By, Callable[[Row[Any]], str]] = {
    "reason": lambda row: row.reason or NONE,
    "service": _service_of_variants,
    "score-set": lambda row: row.score_set_urn or NONE,
}
_JOBS_BY: Mapping[By, Callable[[Row[Any]], str]] = {
    "reason": _reason_of_job,
    "service": lambda row: _service_of_function(row.job_function),
    "score-set": lambda row: row.score_set_urn or NONE,
}
