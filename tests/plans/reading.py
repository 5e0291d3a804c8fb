"""What people, the page and `serve` ask again and again, and what may be read for each answer."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from mavedb_audit import settling
from mavedb_audit.alerts import findings as alerts
from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries import accounts as score_sets
from mavedb_audit.queries import failures, histories, jobs, pipelines, releases, stories, system
from mavedb_audit.queries.jobs import JobFilter
from mavedb_audit.queries.pipelines import PipelineFilter
from mavedb_audit.reasons import Reason
from mavedb_audit.recorder.superseding import superseded
from mavedb_audit.recovery import findings
from tests.plans.years import Years

CLINVAR, GNOMAD = AnnotationType.CLINVAR_CONTROL, AnnotationType.GNOMAD_ALLELE_FREQUENCY
STATUSES_OF_VARIANT = "ix_variant_annotation_status_variant_id"
A_VERSION_OF_VARIANT = "ix_variant_annotation_status_variant_type_version_current"
A_TYPE_OF_VARIANT = "ix_variant_annotation_variant_type_status"

Asks = Callable[[Connection, Years], object]


def variants_of(urn: str, **narrowed: Any) -> Asks:
    return lambda connection, years: score_sets.variants(
        connection, getattr(years, urn), **narrowed
    )


def second_page(connection: Connection, years: Years) -> object:
    first = score_sets.variants(connection, years.large, CLINVAR)
    return score_sets.variants(connection, years.large, CLINVAR, cursor=first.next_cursor)


def pipelines_by(offset: int = 0, **narrowed: Any) -> Asks:
    return lambda connection, _: pipelines.summaries(
        connection, PipelineFilter(**narrowed), offset=offset
    )


def jobs_by(**narrowed: Any) -> Asks:
    return lambda connection, _: jobs.find(connection, JobFilter(**narrowed))


#: What is asked -> how, the rows that may be read for it, and the indexes that must serve.
READING: Mapping[str, tuple[Asks, int, tuple[str, ...]]] = {
    "why has a variant this status": (
        lambda connection, years: stories.why(connection, f"{years.small}#7"),
        500,
        ("variants_urn_key", STATUSES_OF_VARIANT, "job_attempts_job_id_attempt_key"),
    ),
    "why, of one type": (
        lambda connection, years: stories.why(connection, f"{years.large}#7", [GNOMAD]),
        50,
        ("variants_urn_key",),
    ),
    "the account of a large score set": (
        lambda connection, years: score_sets.account(connection, years.large),
        10_000,
        ("uq_account_counts",),
    ),
    "the account of a small score set": (
        lambda connection, years: score_sets.account(connection, years.small),
        500,
        ("uq_account_counts",),
    ),
    "variants with a rare reason": (
        variants_of(
            "large", annotation_type=GNOMAD, version="v4.1", reason=Reason.MALFORMED_RECORD
        ),
        500,
        ("uq_account_counts", "variants_pkey"),
    ),
    "variants with a common reason": (
        variants_of(
            "large", annotation_type=CLINVAR, version="01_2020", reason=Reason.NOT_IN_SOURCE
        ),
        2_000,
        ("uq_account_counts", "variants_pkey"),
    ),
    "variants of a type, page two": (second_page, 20_000, ("uq_account_counts", "variants_pkey")),
    "variants of a small score set": (
        variants_of("small", annotation_type=CLINVAR, status="success"),
        1_000,
        ("uq_account_counts", "variants_pkey"),
    ),
    "what changed between two releases": (
        lambda connection, years: releases.diff(
            connection, years.small, from_version="01_2020", to_version="01_2025"
        ),
        1_000,
        ("ix_variants_scoreset_id", A_VERSION_OF_VARIANT),
    ),
    "more of what changed": (
        lambda connection, years: releases.changes(
            connection,
            years.large,
            from_version="01_2020",
            to_version="01_2025",
            only=[releases.Change.NEVER],
        ),
        20_000,
        ("uq_account_counts", "variants_pkey"),
    ),
    "failures by reason": (
        lambda connection, _: failures.failures(connection),
        20_000,
        ("ix_account_counts_failed", "ix_planned_jobs_score_set_id_job_key"),
    ),
    "failures by score set": (
        lambda connection, _: failures.failures(connection, by="score-set"),
        20_000,
        ("ix_account_counts_failed", A_TYPE_OF_VARIANT),
    ),
    "failures of the last week": (
        lambda connection, _: failures.failures(
            connection, since=datetime.now(UTC) - timedelta(days=7)
        ),
        20_000,
        ("ix_account_counts_failed",),
    ),
    "the newest pipelines": (pipelines_by(), 10_000, ("ix_pipelines_created_at",)),
    "the tenth page of pipelines": (pipelines_by(450), 10_000, ("ix_pipelines_created_at",)),
    "the pipelines that run": (pipelines_by(status="running"), 1_000, ("ix_pipelines_status",)),
    "the pipelines of a score set": (
        pipelines_by(score_set_urn="urn:mavedb:00900000-a-77"),
        10_000,
        ("ix_planned_jobs_score_set_id_job_key",),
    ),
    "the pipelines of a request": (
        pipelines_by(correlation_id="filled-77"),
        100,
        ("ix_pipelines_correlation_id",),
    ),
    "a pipeline's progress": (
        lambda connection, years: pipelines.one(connection, years.failed.urn),
        50,
        ("pipelines_urn_key", "ix_job_runs_pipeline_id"),
    ),
    "a pipeline that ended": (
        lambda connection, years: pipelines.detail(connection, years.failed.urn),
        500,
        ("pipelines_urn_key", "ix_job_runs_pipeline_id"),
    ),
    "a pipeline that runs": (
        lambda connection, years: pipelines.detail(connection, years.running.urn),
        10_000,
        ("pipelines_urn_key", "ix_job_runs_pipeline_id", "ix_prefect_runs_job_id"),
    ),
    "all that befell a pipeline": (
        lambda connection, years: histories.history(connection, years.failed.urn),
        500,
        ("ix_prefect_runs_pipeline_id", "ix_prefect_transitions_run_id_timestamp"),
    ),
    "the newest jobs": (jobs_by(), 100, ("ix_job_runs_created_at",)),
    "the jobs that run": (jobs_by(status="running"), 50, ()),
    "the jobs of a pipeline": (jobs_by(pipeline_id=77), 50, ("ix_job_runs_pipeline_id",)),
    "how the whole does": (
        lambda connection, _: system.system(connection),
        20_000,
        (
            "ix_prefect_transitions_recorded_at",
            "ix_prefect_runs_open",
            "ix_prefect_runs_unsettled",
            "ix_pipeline_requests_next_dispatch_at",
        ),
    ),
    "which flow runs seem dead": (
        lambda connection, _: findings.suspects(connection, by_time=True),
        200,
        ("ix_pipelines_status", "ix_prefect_runs_pipeline_id"),
    ),
    "which task runs are left over": (
        lambda connection, _: findings.left_task_runs(connection),
        100,
        ("ix_prefect_runs_open",),
    ),
    "which cancellations are stuck": (
        lambda connection, _: findings.stuck_cancellations(connection),
        100,
        ("ix_prefect_runs_open",),
    ),
    "which ends Prefect has not heard of": (
        lambda connection, _: findings.unreported_ends(connection),
        200,
        ("ix_prefect_runs_open", "ix_prefect_runs_crashed"),
    ),
    "which runs Prefect is to be asked for": (
        lambda connection, _: settling.unsettled_runs(connection),
        100,
        ("ix_prefect_runs_unsettled",),
    ),
    "which pipelines failed since the last look": (
        lambda connection, _: alerts.find_pipelines(connection, ["slack"]),
        1_000,
        ("ix_pipelines_status",),
    ),
    "which conditions last": (
        lambda connection, _: alerts.find_conditions(connection, ["slack"]),
        20_000,
        ("ix_prefect_transitions_recorded_at",),
    ),
    "whether a newer upload is there": (
        lambda connection, years: superseded(connection, years.running.id),
        10,
        ("ix_planned_jobs_score_set_id_job_key",),
    ),
}
