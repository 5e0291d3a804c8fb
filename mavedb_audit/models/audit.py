"""The audit's own tables, which our migrations make.

No foreign key leads to Prefect, which forgets its runs: the audit does not.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base, one_of
from mavedb_audit.states import FINAL_STATE_TYPES, RunKind, Source

ATTEMPT_OUTCOMES = ("succeeded", "failed", "cancelled", "skipped", "abandoned")
PREFECT_STATE_TYPES = (
    "SCHEDULED",
    "PENDING",
    "RUNNING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "CRASHED",
    "PAUSED",
    "CANCELLING",
)


class PlannedJob(Base):
    """A job's place in its pipeline's plan. The score set may be deleted meanwhile."""

    __tablename__ = "planned_jobs"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "job_key"),
        Index("ix_planned_jobs_score_set_id_job_key", "score_set_id", "job_key", "job_id"),
    )

    job_id: Mapped[int] = mapped_column(
        ForeignKey("job_runs.id", ondelete="CASCADE"), primary_key=True
    )
    pipeline_id: Mapped[int] = mapped_column(ForeignKey("pipelines.id", ondelete="CASCADE"))
    job_key: Mapped[str] = mapped_column(String(255))
    score_set_id: Mapped[int | None]


class PipelineVariant(Base):
    """A variant that a pipeline is limited to; without any, it works on whole score sets.

    No foreign key leads to the variant, which a new upload may replace meanwhile.
    """

    __tablename__ = "pipeline_variants"

    pipeline_id: Mapped[int] = mapped_column(
        ForeignKey("pipelines.id", ondelete="CASCADE"), primary_key=True
    )
    variant_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class PrefectRun(Base):
    """A flow run or task run of Prefect with its newest state, and what it runs for.

    Of the states that it entered before `pruned_at` only the newest is kept.
    """

    __tablename__ = "prefect_runs"
    __table_args__ = (
        CheckConstraint(one_of("kind", RunKind), name="ck_prefect_runs_kind_valid"),
        CheckConstraint(
            one_of("state_type", PREFECT_STATE_TYPES), name="ck_prefect_runs_state_type_valid"
        ),
        Index(
            "ix_prefect_runs_unsettled",
            "first_seen_at",
            postgresql_where=text("settled_at IS NULL"),
        ),
        Index(
            "ix_prefect_runs_open",
            "state_timestamp",
            postgresql_where=text(
                f"state_type IS NULL OR NOT {one_of('state_type', sorted(FINAL_STATE_TYPES))}"
            ),
        ),
        Index(
            "ix_prefect_runs_crashed",
            "state_timestamp",
            postgresql_where=text("state_type = 'CRASHED'"),
        ),
        Index(
            "ix_prefect_runs_unpruned",
            "state_timestamp",
            postgresql_where=text("pruned_at IS NULL AND settled_at IS NOT NULL"),
        ),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    flow_run_id: Mapped[UUID | None] = mapped_column(index=True)
    name: Mapped[str] = mapped_column(String(500))
    pipeline_id: Mapped[int | None] = mapped_column(
        ForeignKey("pipelines.id", ondelete="SET NULL"), index=True
    )
    job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job_runs.id", ondelete="SET NULL"), index=True
    )
    state_id: Mapped[UUID | None]
    state_type: Mapped[str | None] = mapped_column(String(20))
    state_name: Mapped[str | None] = mapped_column(String(255))
    state_timestamp: Mapped[datetime | None]
    run_count: Mapped[int] = mapped_column(server_default=text("0"))
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]
    pruned_at: Mapped[datetime | None]


class PrefectTransition(Base):
    """One state that a run entered, under Prefect's own id of that state."""

    __tablename__ = "prefect_transitions"
    __table_args__ = (
        CheckConstraint(
            one_of("type", PREFECT_STATE_TYPES), name="ck_prefect_transitions_type_valid"
        ),
        CheckConstraint(one_of("source", Source), name="ck_prefect_transitions_source_valid"),
        Index("ix_prefect_transitions_run_id_timestamp", "run_id", "timestamp", "state_id"),
        Index(
            "ix_prefect_transitions_recorded_at",
            "recorded_at",
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 32},
        ),
    )

    state_id: Mapped[UUID] = mapped_column(primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("prefect_runs.run_id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(255))
    timestamp: Mapped[datetime]
    run_count: Mapped[int | None]
    message: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(20))
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JobAttempt(Base):
    """One try at a job. It stays as it ended, whatever comes after it."""

    __tablename__ = "job_attempts"
    __table_args__ = (
        CheckConstraint("attempt > 0", name="ck_job_attempts_attempt_positive"),
        CheckConstraint("run_count >= 0", name="ck_job_attempts_run_count_positive"),
        CheckConstraint(one_of("outcome", ATTEMPT_OUTCOMES), name="ck_job_attempts_outcome_valid"),
        CheckConstraint(
            "(outcome IS NULL) = (finished_at IS NULL)",
            name="ck_job_attempts_finished_exactly_if_outcome",
        ),
        UniqueConstraint("job_id", "attempt"),
        UniqueConstraint("task_run_id", "run_count"),
        Index(
            "ix_job_attempts_with_traceback",
            "job_id",
            postgresql_where=text("error_traceback IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job_runs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    flow_run_id: Mapped[UUID | None]
    task_run_id: Mapped[UUID | None]
    run_count: Mapped[int]
    host: Mapped[str] = mapped_column(String(255))
    process_id: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(20))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    failure_category: Mapped[str | None] = mapped_column(String(100))
    progress_current: Mapped[int | None]
    progress_total: Mapped[int | None]
    progress_message: Mapped[str | None] = mapped_column(String(500))


class PipelineRequest(Base):
    """A pipeline that was asked for, until and after the dispatcher took it to Prefect."""

    __tablename__ = "pipeline_requests"
    __table_args__ = (
        CheckConstraint(
            "(dispatched_at IS NULL) = (flow_run_id IS NULL)",
            name="ck_pipeline_requests_dispatched_exactly_if_flow_run",
        ),
        Index(
            "ix_pipeline_requests_next_dispatch_at",
            "next_dispatch_at",
            postgresql_where=text("dispatched_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    pipeline_id: Mapped[int] = mapped_column(
        ForeignKey("pipelines.id", ondelete="CASCADE"), unique=True
    )
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dispatched_at: Mapped[datetime | None]
    flow_run_id: Mapped[UUID | None] = mapped_column(index=True)
    dispatch_count: Mapped[int] = mapped_column(server_default=text("0"))
    next_dispatch_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_error: Mapped[str | None] = mapped_column(Text)


class MirrorCheckpoint(Base):
    """How far the event stream was recorded: nothing before `occurred` is missed on a reconnect."""

    __tablename__ = "mirror_checkpoints"

    stream: Mapped[str] = mapped_column(String(50), primary_key=True)
    occurred: Mapped[datetime]


class OperatorAction(Base):
    """What somebody, or recovery, did to a pipeline, and why."""

    __tablename__ = "operator_actions"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    pipeline_id: Mapped[int | None] = mapped_column(
        ForeignKey("pipelines.id", ondelete="SET NULL"), index=True
    )
    action: Mapped[str] = mapped_column(String(50))
    actor: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReplacedVariantStatus(Base):
    """How many variants had which status when a new upload replaced them."""

    __tablename__ = "replaced_variant_statuses"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    score_set_id: Mapped[int] = mapped_column(index=True)
    replaced_by_job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job_runs.id", ondelete="SET NULL")
    )
    annotation_type: Mapped[str] = mapped_column(String(50))
    version: Mapped[str | None] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(50))
    failure_category: Mapped[str | None] = mapped_column(String(100))
    variants: Mapped[int]
    replaced_at: Mapped[datetime] = mapped_column(server_default=func.now())
