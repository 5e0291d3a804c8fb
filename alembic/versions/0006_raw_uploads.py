"""The digests of uploaded files. No foreign key: the record outlives what it speaks of."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "raw_uploads",
        sa.Column("pipeline_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.Integer),
        sa.Column("score_set_id", sa.Integer, nullable=False, index=True),
        sa.Column("pipeline_urn", sa.String(255), nullable=False, index=True),
        sa.Column("recorded_by", sa.String(20), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.CheckConstraint("kind IN ('scores', 'counts')", name="ck_raw_uploads_kind_valid"),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="ck_raw_uploads_sha256_valid"),
        sa.CheckConstraint("size >= 0", name="ck_raw_uploads_size_positive"),
        sa.CheckConstraint(
            "recorded_by IN ('request', 'first_read')", name="ck_raw_uploads_recorded_by_valid"
        ),
    )


def downgrade() -> None:
    op.drop_table("raw_uploads")
