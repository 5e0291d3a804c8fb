"""Which runs' earlier states were forgotten on purpose, so that nobody reads them anew."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prefect_runs", sa.Column("pruned_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("prefect_runs", "pruned_at")
