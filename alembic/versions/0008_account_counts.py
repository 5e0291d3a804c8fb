"""How many variants of each score set have which status, and in which blocks of ids."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mavedb_audit.release import release_of

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_counts",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("score_set_id", sa.Integer, nullable=False),
        sa.Column("annotation_type", sa.String(50), nullable=False),
        sa.Column("version", sa.String(50)),
        sa.Column("status", sa.String(50), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("id_block", sa.Integer, nullable=False),
        sa.Column("variants", sa.Integer, nullable=False),
        sa.Column("variant_ids", postgresql.ARRAY(sa.Integer)),
        sa.Column("newest_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint(
            *("score_set_id", "annotation_type", "version", "status", "reason", "id_block"),
            name="uq_account_counts",
            postgresql_nulls_not_distinct=True,
        ),
        sa.CheckConstraint("variants > 0", name="ck_account_counts_variants_positive"),
        sa.CheckConstraint(
            "cardinality(variant_ids) = variants", name="ck_account_counts_all_listed"
        ),
    )
    op.create_index(
        "ix_account_counts_failed",
        "account_counts",
        ["newest_at"],
        postgresql_where=sa.text("status = 'failed'"),
    )
    reason = release_of(op.get_bind()).reason("status")
    op.execute(
        f"""
        INSERT INTO account_counts
               (score_set_id, annotation_type, version, status, reason, id_block, variants,
                variant_ids, newest_at)
        SELECT variant.scoreset_id, status.annotation_type, status.version, status.status,
               {reason}, variant.id / 1024, count(*),
               CASE WHEN count(*) <= 64 THEN array_agg(variant.id ORDER BY variant.id) END,
               max(status.created_at)
          FROM variants AS variant
          JOIN variant_annotation_status AS status ON status.variant_id = variant.id
         WHERE status.current
         GROUP BY variant.scoreset_id, status.annotation_type, status.version, status.status,
                  {reason}, variant.id / 1024
        """
    )


def downgrade() -> None:
    op.drop_table("account_counts")
