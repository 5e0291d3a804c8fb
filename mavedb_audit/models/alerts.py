"""What is told to Slack or a webhook, and how far each message got."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, String, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from mavedb_audit.models.base import Base, one_of

CHANNELS = ("slack", "webhook")


class Alert(Base):
    """Something that somebody should know, once: `key` is the same whoever finds it.

    `is_open` are conditions that last, of which there is one of a kind and subject at a time.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        Index("uq_alerts_open", "kind", "subject", unique=True, postgresql_where=text("is_open")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    key: Mapped[str] = mapped_column(String(500), unique=True)
    kind: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(255))
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    is_open: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AlertDelivery(Base):
    """An alert on its way to a channel, until it was sent or given up.

    Who sends it moves `next_try_at` first, and nobody else tries before then.
    """

    __tablename__ = "alert_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("channel", CHANNELS), name="ck_alert_deliveries_channel_valid"),
        CheckConstraint(
            "sent_at IS NULL OR gave_up_at IS NULL", name="ck_alert_deliveries_one_end"
        ),
        Index(
            "ix_alert_deliveries_next_try_at",
            "next_try_at",
            postgresql_where=text("sent_at IS NULL AND gave_up_at IS NULL"),
        ),
    )

    alert_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True
    )
    channel: Mapped[str] = mapped_column(String(20), primary_key=True)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]
    gave_up_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class AlertCheck(Base):
    """When somebody first and last looked for what is worth an alert, and what a look found."""

    __tablename__ = "alert_checks"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    began_at: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    found: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
