"""How many variants have which status. Ours alone."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base


class AccountCount(Base):
    """How many current statuses of a score set's variants are alike, in one block of variant ids.

    `id_block` is the variant's id, divided by account_counts.BLOCK_SIZE. `variant_ids` are whose
    statuses they are, null where they are more than account_counts.MOST_LISTED. `newest_at` is when
    the newest of them was recorded. No foreign key leads to the score set: its row's lock would be
    taken after those of its variants, while a publication takes them the other way round.
    """

    __tablename__ = "account_counts"
    __table_args__ = (
        UniqueConstraint(
            *("score_set_id", "annotation_type", "version", "status", "reason", "id_block"),
            name="uq_account_counts",
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("variants > 0", name="ck_account_counts_variants_positive"),
        CheckConstraint("cardinality(variant_ids) = variants", name="ck_account_counts_all_listed"),
        Index("ix_account_counts_failed", "newest_at", postgresql_where=text("status = 'failed'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    score_set_id: Mapped[int]
    annotation_type: Mapped[str] = mapped_column(String(50))
    version: Mapped[str | None] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(50))
    reason: Mapped[str | None] = mapped_column(Text)
    id_block: Mapped[int]
    variants: Mapped[int]
    variant_ids: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    newest_at: Mapped[datetime]
