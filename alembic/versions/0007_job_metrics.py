"""What each attempt took."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_metrics",
        sa.Column(
            "attempt_id",
            sa.BigInteger,
            sa.ForeignKey("job_attempts.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("wall_seconds", sa.Double, nullable=False),
        sa.Column("cpu_seconds", sa.Double, nullable=False),
        sa.Column("peak_memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("http_requests", postgresql.JSONB, nullable=False),
        sa.Column("cache_hits", sa.Integer, nullable=False),
        sa.Column("cache_misses", sa.Integer, nullable=False),
        sa.Column("variants", sa.Integer),
    )


def downgrade() -> None:
    op.drop_table("job_metrics")
