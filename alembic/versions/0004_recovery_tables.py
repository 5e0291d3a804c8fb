"""What the mirror, the reconciler, recovery and operators need to remember."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prefect_runs", sa.Column("settled_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_prefect_runs_unsettled",
        "prefect_runs",
        ["first_seen_at"],
        postgresql_where=sa.text("settled_at IS NULL"),
    )
    op.create_table(
        "mirror_checkpoints",
        sa.Column("stream", sa.String(50), primary_key=True),
        sa.Column("occurred", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id", ondelete="SET NULL")),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_index("ix_operator_actions_pipeline_id", "operator_actions", ["pipeline_id"])
    op.create_table(
        "replaced_variant_statuses",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("score_set_id", sa.Integer, nullable=False),
        sa.Column(
            "replaced_by_job_id", sa.Integer, sa.ForeignKey("job_runs.id", ondelete="SET NULL")
        ),
        sa.Column("annotation_type", sa.String(50), nullable=False),
        sa.Column("version", sa.String(50)),
        sa.Column("status", sa.String(50), nullable=False),
        sa.Column("failure_category", sa.String(100)),
        sa.Column("variants", sa.Integer, nullable=False),
        sa.Column(
            "replaced_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_index(
        "ix_replaced_variant_statuses_score_set_id", "replaced_variant_statuses", ["score_set_id"]
    )


def downgrade() -> None:
    op.drop_table("replaced_variant_statuses")
    op.drop_table("operator_actions")
    op.drop_table("mirror_checkpoints")
    op.drop_index("ix_prefect_runs_unsettled", "prefect_runs")
    op.drop_column("prefect_runs", "settled_at")
