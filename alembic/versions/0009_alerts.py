"""Alerts, what becomes of each on its way to Slack or a webhook, and when was looked for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("key", sa.String(500), nullable=False, unique=True),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("payload", postgresql.JSONB, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=sa.func.now()),
    )
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["kind", "subject"],
        unique=True,
        postgresql_where=sa.text("is_open"),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column(
            "alert_id",
            sa.BigInteger,
            sa.ForeignKey("alerts.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("channel", sa.String(20), primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_try_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("sent_at", moment),
        sa.Column("gave_up_at", moment),
        sa.Column("last_error", sa.Text),
        sa.CheckConstraint(
            "channel IN ('slack', 'webhook')", name="ck_alert_deliveries_channel_valid"
        ),
        sa.CheckConstraint(
            "sent_at IS NULL OR gave_up_at IS NULL", name="ck_alert_deliveries_one_end"
        ),
    )
    op.create_index(
        "ix_alert_deliveries_next_try_at",
        "alert_deliveries",
        ["next_try_at"],
        postgresql_where=sa.text("sent_at IS NULL AND gave_up_at IS NULL"),
    )
    op.create_table(
        "alert_checks",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("began_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("checked_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("found", postgresql.JSONB),
    )


def downgrade() -> None:
    op.drop_table("alert_checks")
    op.drop_table("alert_deliveries")
    op.drop_table("alerts")
