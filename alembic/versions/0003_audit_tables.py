"""The audit's own tables, beside MaveDB's."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from mavedb_audit.errors import SchemaError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NEEDED = (
    "pipelines",
    "job_runs",
    "job_dependencies",
    "variant_annotation_status",
    "scoresets",
    "variants",
)
STATE_TYPES = (
    "('SCHEDULED', 'PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED',"
    " 'PAUSED', 'CANCELLING')"
)


def upgrade() -> None:
    there = sa.inspect(op.get_bind()).get_table_names()
    for table in NEEDED:
        if table not in there:
            raise SchemaError(
                f"The table {table} is missing. Is this MaveDB's database? In an empty database"
                " of your own, run `alembic -x standalone=true upgrade head`, which makes"
                " MaveDB's tables, too"
            )
    create_prefect_runs()
    create_attempts()
    create_requests()


def downgrade() -> None:
    for table in (
        "pipeline_requests",
        "planned_jobs",
        "job_attempts",
        "prefect_transitions",
        "prefect_runs",
    ):
        op.drop_table(table)


def required(name: str, *definition: Any, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, *definition, nullable=False, **more)


def reference(target: str, ondelete: str) -> sa.ForeignKey:
    return sa.ForeignKey(target, ondelete=ondelete)


def now(name: str) -> sa.Column[Any]:
    return required(name, sa.DateTime(timezone=True), server_default=sa.func.now())


def time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def create_prefect_runs() -> None:
    op.create_table(
        "prefect_runs",
        sa.Column("run_id", sa.Uuid, primary_key=True),
        required("kind", sa.String(10)),
        sa.Column("flow_run_id", sa.Uuid),
        required("name", sa.String(500)),
        sa.Column("pipeline_id", sa.Integer, reference("pipelines.id", "SET NULL")),
        sa.Column("job_id", sa.Integer, reference("job_runs.id", "SET NULL")),
        sa.Column("state_id", sa.Uuid),
        sa.Column("state_type", sa.String(20)),
        sa.Column("state_name", sa.String(255)),
        time("state_timestamp"),
        required("run_count", sa.Integer, server_default=sa.text("0")),
        now("first_seen_at"),
        sa.CheckConstraint("kind IN ('flow', 'task')", name="ck_prefect_runs_kind_valid"),
        sa.CheckConstraint(f"state_type IN {STATE_TYPES}", name="ck_prefect_runs_state_type_valid"),
    )
    for column in ("flow_run_id", "pipeline_id", "job_id"):
        op.create_index(f"ix_prefect_runs_{column}", "prefect_runs", [column])
    op.create_index(
        "ix_prefect_runs_open",
        "prefect_runs",
        ["state_timestamp"],
        postgresql_where=sa.text(
            "state_type IS NULL"
            " OR NOT state_type IN ('CANCELLED', 'COMPLETED', 'CRASHED', 'FAILED')"
        ),
    )
    op.create_table(
        "prefect_transitions",
        sa.Column("state_id", sa.Uuid, primary_key=True),
        required("run_id", sa.Uuid, reference("prefect_runs.run_id", "CASCADE")),
        required("type", sa.String(20)),
        required("name", sa.String(255)),
        required("timestamp", sa.DateTime(timezone=True)),
        sa.Column("run_count", sa.Integer),
        sa.Column("message", sa.Text),
        required("source", sa.String(20)),
        now("recorded_at"),
        sa.CheckConstraint(f"type IN {STATE_TYPES}", name="ck_prefect_transitions_type_valid"),
        sa.CheckConstraint(
            "source IN ('step', 'hook', 'mirror', 'reconciler', 'recovery')",
            name="ck_prefect_transitions_source_valid",
        ),
    )
    op.create_index(
        "ix_prefect_transitions_run_id_timestamp",
        "prefect_transitions",
        ["run_id", "timestamp", "state_id"],
    )


def create_attempts() -> None:
    op.create_table(
        "job_attempts",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        required("job_id", sa.Integer, reference("job_runs.id", "CASCADE")),
        required("attempt", sa.Integer),
        sa.Column("flow_run_id", sa.Uuid),
        sa.Column("task_run_id", sa.Uuid),
        required("run_count", sa.Integer),
        required("host", sa.String(255)),
        required("process_id", sa.Integer),
        now("started_at"),
        time("finished_at"),
        sa.Column("outcome", sa.String(20)),
        sa.Column("error_message", sa.Text),
        sa.Column("error_traceback", sa.Text),
        sa.Column("failure_category", sa.String(100)),
        sa.CheckConstraint("attempt > 0", name="ck_job_attempts_attempt_positive"),
        sa.CheckConstraint("run_count >= 0", name="ck_job_attempts_run_count_positive"),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'cancelled', 'skipped', 'abandoned')",
            name="ck_job_attempts_outcome_valid",
        ),
        sa.CheckConstraint(
            "(outcome IS NULL) = (finished_at IS NULL)",
            name="ck_job_attempts_finished_exactly_if_outcome",
        ),
        sa.UniqueConstraint("job_id", "attempt"),
        sa.UniqueConstraint("task_run_id", "run_count"),
    )


def create_requests() -> None:
    op.create_table(
        "planned_jobs",
        sa.Column("job_id", sa.Integer, reference("job_runs.id", "CASCADE"), primary_key=True),
        required("pipeline_id", sa.Integer, reference("pipelines.id", "CASCADE")),
        required("job_key", sa.String(255)),
        sa.Column("score_set_id", sa.Integer),
        sa.UniqueConstraint("pipeline_id", "job_key"),
    )
    op.create_index("ix_planned_jobs_score_set_id", "planned_jobs", ["score_set_id"])
    op.create_table(
        "pipeline_requests",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        required("pipeline_id", sa.Integer, reference("pipelines.id", "CASCADE"), unique=True),
        now("requested_at"),
        time("dispatched_at"),
        sa.Column("flow_run_id", sa.Uuid),
        required("dispatch_count", sa.Integer, server_default=sa.text("0")),
        now("next_dispatch_at"),
        sa.Column("last_error", sa.Text),
        sa.CheckConstraint(
            "(dispatched_at IS NULL) = (flow_run_id IS NULL)",
            name="ck_pipeline_requests_dispatched_exactly_if_flow_run",
        ),
    )
    op.create_index(
        "ix_pipeline_requests_next_dispatch_at",
        "pipeline_requests",
        ["next_dispatch_at"],
        postgresql_where=sa.text("dispatched_at IS NULL"),
    )
