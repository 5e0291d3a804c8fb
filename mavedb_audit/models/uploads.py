"""The files that pipelines were given. Ours alone."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, String, func
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base, one_of
from mavedb_audit.uploads import RecordedBy, UploadKind


class RawUpload(Base):
    """An uploaded file as it was when its pipeline first had to do with it.

    No foreign key leads anywhere: the record outlives its pipeline, score set and user. A URN of a
    pipeline never changes; that of a score set does when it is published, and is looked up by id.
    """

    __tablename__ = "raw_uploads"
    __table_args__ = (
        CheckConstraint(one_of("kind", UploadKind), name="ck_raw_uploads_kind_valid"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="ck_raw_uploads_sha256_valid"),
        CheckConstraint("size >= 0", name="ck_raw_uploads_size_positive"),
        CheckConstraint(one_of("recorded_by", RecordedBy), name="ck_raw_uploads_recorded_by_valid"),
    )

    pipeline_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int | None]
    score_set_id: Mapped[int] = mapped_column(index=True)
    pipeline_urn: Mapped[str] = mapped_column(String(255), index=True)
    recorded_by: Mapped[str] = mapped_column(String(20))
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
