"""One variant's story: what was tried for each annotation, what came of it, and what to do."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from mavedb_audit.confirmations import last_confirmed
from mavedb_audit.errors import NotFoundError
from mavedb_audit.pipelines import KEPT_PER_VERSION, PIPELINES, AnnotationType
from mavedb_audit.queries.accounts import annotation_order, check_known
from mavedb_audit.reasons import Remedy, meaning_of
from mavedb_audit.release import release_of
from mavedb_audit.views import View

#: Statuses before the current one that a chapter tells, the newest first.
MOST_EARLIER = 20
#: How a variant without a URN is shown.
_BY_ID = re.compile(r"variant (\d{1,10})")


class Attempt(View):
    """One try of the job that the status is from."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    failure_category: str | None
    error_message: str | None
    host: str


class EarlierStatus(View):
    """A status that another has replaced. Its version differs where a source keeps one in all."""

    version: str | None
    status: str
    reason: str | None
    message: str | None
    recorded_at: datetime
    job_urn: str | None


class Chapter(View):
    """One annotation of one version: its current status, and how it came to it.

    `said` is what the service or the step added to the reason's sentence. `command` is what an
    operator would run, where the hint is to run something again. `attempts` are those of the job
    that wrote the status. `confirmed_at` and `confirmed_by_job_urn` are of the last later job that
    found the same; None where there was none.
    """

    annotation_type: str
    version: str | None
    status: str
    reason: str | None
    sentence: str | None
    said: str | None
    hint: str | None
    command: str | None
    recorded_at: datetime
    job_urn: str | None
    job_function: str | None
    pipeline_urn: str | None
    confirmed_at: datetime | None
    confirmed_by_job_urn: str | None
    attempts: list[Attempt]
    earlier: list[EarlierStatus]


class Story(View):
    """`clingen_allele_id` is that of the variant's current mapping."""

    variant_urn: str
    score_set_urn: str | None
    hgvs_nt: str | None
    hgvs_pro: str | None
    clingen_allele_id: str | None
    chapters: list[Chapter]


_VARIANT = """
    SELECT variant.id, coalesce(variant.urn, 'variant ' || variant.id) AS urn, variant.hgvs_nt,
           variant.hgvs_pro, variant.scoreset_id, score_set.urn AS score_set_urn,
           (SELECT mapped.clingen_allele_id FROM mapped_variants AS mapped
             WHERE mapped.variant_id = variant.id AND mapped.current
             ORDER BY mapped.id DESC LIMIT 1) AS clingen_allele_id
      FROM variants AS variant JOIN scoresets AS score_set ON score_set.id = variant.scoreset_id
     WHERE {which}
"""

#: All current statuses, and of what they replaced the newest ones. `chapter` is the version where a
#: source keeps a status for each, and null where a new one replaces all.
_STATUSES = f"""
    SELECT status.*, job.urn AS job_urn, job.job_function, pipeline.urn AS pipeline_urn,
           again.confirmed_at, again.job_urn AS confirmed_by_job_urn
      FROM (
        SELECT variant_id, annotation_type, version, status, {{reason}} AS reason,
               error_message AS message, created_at, created_at AS recorded_at, job_run_id, current,
               CASE WHEN annotation_type = ANY (:kept_per_version) THEN version END AS chapter,
               row_number() OVER (
                 PARTITION BY annotation_type, current,
                              CASE WHEN annotation_type = ANY (:kept_per_version) THEN version END
                 ORDER BY created_at DESC, id DESC) AS place
          FROM variant_annotation_status AS recorded
         WHERE variant_id = :variant_id AND annotation_type = ANY (:annotation_types)
      ) AS status
      LEFT JOIN job_runs AS job ON job.id = status.job_run_id
      LEFT JOIN pipelines AS pipeline ON pipeline.id = job.pipeline_id
      LEFT JOIN LATERAL {last_confirmed("status", ":score_set_id")} AS again ON status.current
     WHERE current OR place <= {MOST_EARLIER}
     ORDER BY place
"""

_ATTEMPTS = """
    SELECT job_id, attempt, started_at, finished_at, outcome, failure_category, error_message, host
      FROM job_attempts WHERE job_id = ANY (:job_ids) ORDER BY job_id, attempt
"""


def why(
    connection: Connection, variant_urn: str, annotation_types: Sequence[str] | None = None
) -> Story:
    """The variant's story, of the given types or of all.

    Raises NotFoundError for an unknown variant, and RequestError for an unknown type.
    """
    known = [str(annotation_type) for annotation_type in AnnotationType]
    for annotation_type in annotation_types or ():
        check_known("annotation type", annotation_type, known)
    variant = _variant(connection, variant_urn)
    statuses = connection.execute(
        text(_STATUSES.format(reason=release_of(connection).reason("recorded"))),
        {
            "variant_id": variant.id,
            "score_set_id": variant.scoreset_id,
            "annotation_types": list(annotation_types or known),
            "kept_per_version": sorted(KEPT_PER_VERSION),
        },
    ).all()
    current = [status for status in statuses if status.current]
    attempts = _attempts(connection, current)
    earlier: dict[tuple[str, str | None], list[EarlierStatus]] = defaultdict(list)
    for status in statuses:
        if not status.current:
            earlier[status.annotation_type, status.chapter].append(
                EarlierStatus.model_validate(status)
            )
    chapters = [
        _chapter(
            status,
            variant.score_set_urn,
            attempts.get(status.job_run_id, []),
            earlier[status.annotation_type, status.chapter],
        )
        for status in current
    ]
    return Story(
        variant_urn=variant.urn,
        score_set_urn=variant.score_set_urn,
        hgvs_nt=variant.hgvs_nt,
        hgvs_pro=variant.hgvs_pro,
        clingen_allele_id=variant.clingen_allele_id,
        chapters=sorted(
            chapters, key=lambda chapter: annotation_order(chapter.annotation_type, chapter.version)
        ),
    )


def _variant(connection: Connection, urn: str) -> Row[Any]:
    by_id = _BY_ID.fullmatch(urn)
    if by_id is None:
        rows = connection.execute(text(_VARIANT.format(which="variant.urn = :urn")), {"urn": urn})
    else:
        which = "variant.id = CAST(:id AS bigint) AND variant.urn IS NULL"
        rows = connection.execute(text(_VARIANT.format(which=which)), {"id": int(by_id[1])})
    variant = rows.one_or_none()
    if variant is None:
        raise NotFoundError(f"There is no variant {urn}")
    return variant


def _attempts(
    connection: Connection, statuses: Sequence[Row[Any]]
) -> Mapping[int | None, list[Attempt]]:
    """The attempts of the jobs that the statuses are from, by the job's id."""
    attempts: dict[int | None, list[Attempt]] = defaultdict(list)
    job_ids = sorted({s.job_run_id for s in statuses if s.job_run_id is not None})
    for row in connection.execute(text(_ATTEMPTS), {"job_ids": job_ids}):
        attempts[row.job_id].append(Attempt.model_validate(row))
    return attempts


def _chapter(
    status: Row[Any],
    score_set_urn: str | None,
    attempts: list[Attempt],
    earlier: list[EarlierStatus],
) -> Chapter:
    meaning = meaning_of(status.reason)
    sentence = None if meaning is None else meaning.sentence
    remedy = None if meaning is None else meaning.remedy
    return Chapter(
        annotation_type=status.annotation_type,
        version=status.version,
        status=status.status,
        reason=status.reason,
        sentence=sentence,
        said=_said(status.message, sentence),
        hint=None if meaning is None else meaning.hint,
        command=remedy and _command(remedy, status, score_set_urn),
        recorded_at=status.recorded_at,
        job_urn=status.job_urn,
        job_function=status.job_function,
        pipeline_urn=status.pipeline_urn,
        confirmed_at=status.confirmed_at,
        confirmed_by_job_urn=status.confirmed_by_job_urn,
        attempts=attempts,
        earlier=earlier,
    )


def _said(message: str | None, sentence: str | None) -> str | None:
    if message is None:
        return None
    return message.removeprefix(sentence or "").strip() or None


def _command(remedy: Remedy, status: Row[Any], score_set_urn: str | None) -> str | None:
    """What an operator runs for the remedy; None where nothing tells on what."""
    if remedy is Remedy.RETRY_PIPELINE:
        urn = status.pipeline_urn
        return None if urn is None else f"mavedb-audit retry {urn} --all-unsuccessful"
    if score_set_urn is None:
        return None
    if remedy is Remedy.MAP_AGAIN:
        return f"mavedb-audit request map_annotate_score_set --score-set {score_set_urn}"
    if status.annotation_type in _annotated_again():
        return f"mavedb-audit rerun-failed {score_set_urn}"
    if status.job_function is None:
        return None
    return (
        f"mavedb-audit request {status.job_function} --score-set {score_set_urn}"
        """ --params '{"only_failed_variants": true}'"""
    )


def _annotated_again() -> set[AnnotationType]:
    """What `rerun-failed` writes."""
    steps = PIPELINES["annotate_score_set"].steps
    return {annotation_type for step in steps for annotation_type in step.annotation_types}
