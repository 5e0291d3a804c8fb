"""MaveDB's job tables and the per-variant status, for a database of our own.

Does nothing without -x standalone=true: in MaveDB's database they exist and are MaveDB's.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if is_standalone():
        create_jobs()
        create_variant_annotation_status()


def downgrade() -> None:
    if is_standalone():
        for table in ("variant_annotation_status", "job_dependencies", "job_runs", "pipelines"):
            op.drop_table(table)


def is_standalone() -> bool:
    return context.get_x_argument(as_dictionary=True).get("standalone") == "true"


def key() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def required(name: str, *definition: Any, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, *definition, nullable=False, **more)


def now(name: str) -> sa.Column[Any]:
    return required(name, sa.DateTime(timezone=True), server_default=sa.func.now())


def time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def create_index_of_each(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, [column])


def create_jobs() -> None:
    op.create_table(
        "pipelines",
        key(),
        sa.Column("urn", sa.String(255), unique=True),
        required("name", sa.String(500)),
        sa.Column("description", sa.Text),
        required("status", sa.String(50)),
        sa.Column("correlation_id", sa.String(255)),
        required("metadata", JSONB, server_default=sa.text("'{}'")),
        now("created_at"),
        time("started_at"),
        time("finished_at"),
        sa.Column("created_by_user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("mavedb_version", sa.String(50)),
        sa.CheckConstraint(
            "status IN ('created', 'running', 'paused', 'succeeded', 'failed', 'cancelled',"
            " 'partial')",
            name="ck_pipelines_status_valid",
        ),
    )
    create_index_of_each(
        "pipelines", "status", "created_at", "correlation_id", "created_by_user_id"
    )
    op.create_table(
        "job_runs",
        key(),
        sa.Column("urn", sa.String(255), unique=True),
        required("job_type", sa.String(100)),
        required("job_function", sa.String(255)),
        sa.Column("job_params", JSONB),
        required("status", sa.String(50)),
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id", ondelete="SET NULL")),
        required("priority", sa.Integer),
        required("max_retries", sa.Integer),
        required("retry_count", sa.Integer),
        sa.Column("retry_delay_seconds", sa.Integer),
        now("scheduled_at"),
        time("started_at"),
        time("finished_at"),
        now("created_at"),
        sa.Column("error_message", sa.Text),
        sa.Column("error_traceback", sa.Text),
        sa.Column("failure_category", sa.String(100)),
        sa.Column("progress_current", sa.Integer),
        sa.Column("progress_total", sa.Integer),
        sa.Column("progress_message", sa.String(500)),
        sa.Column("correlation_id", sa.String(255)),
        required("metadata", JSONB, server_default=sa.text("'{}'")),
        sa.Column("mavedb_version", sa.String(50)),
        sa.CheckConstraint(
            "status IN ('pending', 'queued', 'running', 'succeeded', 'failed', 'cancelled',"
            " 'skipped')",
            name="ck_job_runs_status_valid",
        ),
        sa.CheckConstraint("priority >= 0", name="ck_job_runs_priority_positive"),
        sa.CheckConstraint("max_retries >= 0", name="ck_job_runs_max_retries_positive"),
        sa.CheckConstraint("retry_count >= 0", name="ck_job_runs_retry_count_positive"),
    )
    create_index_of_each(
        "job_runs",
        *("status", "job_type", "pipeline_id", "scheduled_at", "created_at", "correlation_id"),
    )
    op.create_index("ix_job_runs_status_scheduled", "job_runs", ["status", "scheduled_at"])
    op.create_table(
        "job_dependencies",
        sa.Column(
            "id", sa.Integer, sa.ForeignKey("job_runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column(
            "depends_on_job_id",
            sa.Integer,
            sa.ForeignKey("job_runs.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        required("dependency_type", sa.String(50)),
        now("created_at"),
        sa.Column("metadata", JSONB),
        sa.CheckConstraint(
            "dependency_type IS NULL"
            " OR dependency_type IN ('success_required', 'completion_required')",
            name="ck_job_dependencies_type_valid",
        ),
    )
    create_index_of_each("job_dependencies", "depends_on_job_id", "created_at")


def create_variant_annotation_status() -> None:
    table = "variant_annotation_status"
    op.create_table(
        table,
        key(),
        required("variant_id", sa.Integer, sa.ForeignKey("variants.id", ondelete="CASCADE")),
        required("annotation_type", sa.String(50)),
        sa.Column("version", sa.String(50)),
        required("status", sa.String(50)),
        sa.Column("error_message", sa.Text),
        sa.Column("failure_category", sa.String(100)),
        sa.Column("success_data", JSONB),
        required("current", sa.Boolean, server_default=sa.true()),
        sa.Column("job_run_id", sa.Integer, sa.ForeignKey("job_runs.id", ondelete="SET NULL")),
        now("created_at"),
        now("updated_at"),
        sa.CheckConstraint(
            "annotation_type IN ('vrs_mapping', 'clingen_allele_id', 'mapped_hgvs',"
            " 'variant_translation', 'gnomad_allele_frequency', 'clinvar_control',"
            " 'vep_functional_consequence', 'ldh_submission')",
            name="ck_variant_annotation_type_valid",
        ),
        sa.CheckConstraint(
            "status IN ('success', 'failed', 'skipped')", name="ck_variant_annotation_status_valid"
        ),
    )
    create_index_of_each(
        table,
        *("variant_id", "annotation_type", "status", "job_run_id"),
        *("created_at", "current", "version"),
    )
    op.create_index(
        "ix_variant_annotation_status_variant_type_version_current",
        table,
        ["variant_id", "annotation_type", "version", "current"],
    )
    op.create_index(
        "ix_variant_annotation_variant_type_status",
        table,
        ["variant_id", "annotation_type", "status"],
    )
    op.create_index("ix_variant_annotation_type_status", table, ["annotation_type", "status"])
