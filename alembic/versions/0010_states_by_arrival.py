"""How late states are recorded is asked every few seconds; the table of states is the largest."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_prefect_transitions_recorded_at",
        "prefect_transitions",
        ["recorded_at"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 32},
    )


def downgrade() -> None:
    op.drop_index("ix_prefect_transitions_recorded_at", table_name="prefect_transitions")
