"""MaveDB's job system, in its own shape: what the audit writes, and MaveDB owns and reads."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base, one_of
from mavedb_audit.pipelines import AnnotationType, DependencyType
from mavedb_audit.reasons import AnnotationStatus
from mavedb_audit.states import JobStatus, PipelineStatus


def _pipeline_urn() -> str:
    return f"urn:mavedb:pipeline-{uuid4()}"


def _job_urn() -> str:
    return f"urn:mavedb:job-{uuid4()}"


class Pipeline(Base):
    """One run of a named set of jobs."""

    __tablename__ = "pipelines"
    __table_args__ = (
        CheckConstraint(one_of("status", PipelineStatus), name="ck_pipelines_status_valid"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    urn: Mapped[str | None] = mapped_column(String(255), unique=True, default=_pipeline_urn)
    name: Mapped[str] = mapped_column(String(500))
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(50), default=PipelineStatus.CREATED, index=True)
    correlation_id: Mapped[str | None] = mapped_column(String(255), index=True)
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_by_user_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    mavedb_version: Mapped[str | None] = mapped_column(String(50))


class JobRun(Base):
    """One logical job, whatever the number of its attempts. It shows the last."""

    __tablename__ = "job_runs"
    __table_args__ = (
        CheckConstraint(
            one_of("status", [s for s in JobStatus if s is not JobStatus.ERRORED]),
            name="ck_job_runs_status_valid",
        ),
        CheckConstraint("priority >= 0", name="ck_job_runs_priority_positive"),
        CheckConstraint("max_retries >= 0", name="ck_job_runs_max_retries_positive"),
        CheckConstraint("retry_count >= 0", name="ck_job_runs_retry_count_positive"),
        Index("ix_job_runs_status_scheduled", "status", "scheduled_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    urn: Mapped[str | None] = mapped_column(String(255), unique=True, default=_job_urn)
    job_type: Mapped[str] = mapped_column(String(100), index=True)
    job_function: Mapped[str] = mapped_column(String(255))
    job_params: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    status: Mapped[str] = mapped_column(String(50), default=JobStatus.PENDING, index=True)
    pipeline_id: Mapped[int | None] = mapped_column(
        ForeignKey("pipelines.id", ondelete="SET NULL"), index=True
    )
    priority: Mapped[int] = mapped_column(default=0)
    max_retries: Mapped[int] = mapped_column(default=3)
    retry_count: Mapped[int] = mapped_column(default=0)
    retry_delay_seconds: Mapped[int | None]
    scheduled_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    failure_category: Mapped[str | None] = mapped_column(String(100))
    progress_current: Mapped[int | None]
    progress_total: Mapped[int | None]
    progress_message: Mapped[str | None] = mapped_column(String(500))
    correlation_id: Mapped[str | None] = mapped_column(String(255), index=True)
    metadata_: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'")
    )
    mavedb_version: Mapped[str | None] = mapped_column(String(50))


class JobDependency(Base):
    """The job `id` waits for the job `depends_on_job_id`."""

    __tablename__ = "job_dependencies"
    __table_args__ = (
        CheckConstraint(
            f"dependency_type IS NULL OR {one_of('dependency_type', DependencyType)}",
            name="ck_job_dependencies_type_valid",
        ),
    )

    id: Mapped[int] = mapped_column(ForeignKey("job_runs.id", ondelete="CASCADE"), primary_key=True)
    depends_on_job_id: Mapped[int] = mapped_column(
        ForeignKey("job_runs.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    dependency_type: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB(none_as_null=True))


class VariantAnnotationStatus(Base):
    """Whether a variant has an annotation, and if not, why. One row is current for each version."""

    __tablename__ = "variant_annotation_status"
    __table_args__ = (
        CheckConstraint(
            one_of("annotation_type", AnnotationType), name="ck_variant_annotation_type_valid"
        ),
        CheckConstraint(
            one_of("status", AnnotationStatus), name="ck_variant_annotation_status_valid"
        ),
        Index(
            "ix_variant_annotation_status_variant_type_version_current",
            "variant_id",
            "annotation_type",
            "version",
            "current",
        ),
        Index(
            "ix_variant_annotation_variant_type_status", "variant_id", "annotation_type", "status"
        ),
        Index("ix_variant_annotation_type_status", "annotation_type", "status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    variant_id: Mapped[int] = mapped_column(
        ForeignKey("variants.id", ondelete="CASCADE"), index=True
    )
    annotation_type: Mapped[str] = mapped_column(String(50), index=True)
    version: Mapped[str | None] = mapped_column(String(50), index=True)
    status: Mapped[str] = mapped_column(String(50), index=True)
    error_message: Mapped[str | None] = mapped_column(Text)
    failure_category: Mapped[str | None] = mapped_column(String(100))
    success_data: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    current: Mapped[bool] = mapped_column(server_default=true(), index=True)
    job_run_id: Mapped[int | None] = mapped_column(
        ForeignKey("job_runs.id", ondelete="SET NULL"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
