"""Which jobs found what was known already. Ours alone."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, String, func
from sqlalchemy.dialects.postgresql import INT4MULTIRANGE
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base


class StatusConfirmation(Base):
    """A job found for these variants what their current statuses said already.

    One row for each block of variant ids: `id_block` is the variant's id, divided by
    account_counts.BLOCK_SIZE. It is about the status that was current at `confirmed_at`.
    """

    __tablename__ = "status_confirmations"
    __table_args__ = (
        CheckConstraint("variants > 0", name="ck_status_confirmations_variants_positive"),
        Index("ix_status_confirmations_of_variant", "score_set_id", "annotation_type", "id_block"),
        Index("ix_status_confirmations_job_id", "job_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job_runs.id", ondelete="CASCADE"))
    score_set_id: Mapped[int]
    annotation_type: Mapped[str] = mapped_column(String(50))
    version: Mapped[str | None] = mapped_column(String(50))
    id_block: Mapped[int]
    variants: Mapped[int]
    variant_ids: Mapped[Any] = mapped_column(INT4MULTIRANGE)
    confirmed_at: Mapped[datetime] = mapped_column(server_default=func.now())
