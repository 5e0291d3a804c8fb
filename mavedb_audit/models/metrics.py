"""What the attempts of jobs took."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mavedb_audit.models.base import Base


class JobMetrics(Base):
    """What an attempt took, as `metrics.Usage` tells it; one that was killed has no row."""

    __tablename__ = "job_metrics"

    attempt_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("job_attempts.id", ondelete="CASCADE"), primary_key=True
    )
    wall_seconds: Mapped[float]
    cpu_seconds: Mapped[float]
    peak_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    http_requests: Mapped[dict[str, Any]] = mapped_column(JSONB)
    cache_hits: Mapped[int]
    cache_misses: Mapped[int]
    variants: Mapped[int | None]
