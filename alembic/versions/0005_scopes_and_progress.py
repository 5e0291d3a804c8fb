"""Pipelines that are limited to some variants, and how far each attempt got."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pipeline_variants",
        sa.Column(
            "pipeline_id",
            sa.Integer,
            sa.ForeignKey("pipelines.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("variant_id", sa.Integer, primary_key=True, autoincrement=False),
    )
    op.add_column("job_attempts", sa.Column("progress_current", sa.Integer))
    op.add_column("job_attempts", sa.Column("progress_total", sa.Integer))
    op.add_column("job_attempts", sa.Column("progress_message", sa.String(500)))


def downgrade() -> None:
    for column in ("progress_message", "progress_total", "progress_current"):
        op.drop_column("job_attempts", column)
    op.drop_table("pipeline_variants")
