"""Which jobs found of which variants what their current statuses said already."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "status_confirmations",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column(
            "job_id",
            sa.Integer,
            sa.ForeignKey("job_runs.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("score_set_id", sa.Integer, nullable=False),
        sa.Column("annotation_type", sa.String(50), nullable=False),
        sa.Column("version", sa.String(50)),
        sa.Column("id_block", sa.Integer, nullable=False),
        sa.Column("variants", sa.Integer, nullable=False),
        sa.Column("variant_ids", postgresql.INT4MULTIRANGE, nullable=False),
        sa.Column(
            "confirmed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        sa.CheckConstraint("variants > 0", name="ck_status_confirmations_variants_positive"),
    )
    op.create_index(
        "ix_status_confirmations_of_variant",
        "status_confirmations",
        ["score_set_id", "annotation_type", "id_block"],
    )
    op.create_index("ix_status_confirmations_job_id", "status_confirmations", ["job_id"])


def downgrade() -> None:
    op.drop_table("status_confirmations")
