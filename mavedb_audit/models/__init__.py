"""Every table that the audit and the steps know, as SQLAlchemy models. `metadata` holds them."""

from mavedb_audit.models import alerts, audit, confirmations, counts, jobs, mavedb, metrics, uploads
from mavedb_audit.models.base import Base

metadata = Base.metadata

#: The tables that our migrations make; all others are MaveDB's.
OUR_TABLES = frozenset(
    model.__tablename__
    for model in (
        audit.PlannedJob,
        audit.PipelineVariant,
        audit.PrefectRun,
        audit.PrefectTransition,
        audit.JobAttempt,
        metrics.JobMetrics,
        audit.PipelineRequest,
        audit.MirrorCheckpoint,
        audit.OperatorAction,
        audit.ReplacedVariantStatus,
        counts.AccountCount,
        confirmations.StatusConfirmation,
        uploads.RawUpload,
        alerts.Alert,
        alerts.AlertDelivery,
        alerts.AlertCheck,
    )
)

__all__ = [
    "OUR_TABLES",
    "alerts",
    "audit",
    "confirmations",
    "counts",
    "jobs",
    "mavedb",
    "metadata",
    "metrics",
    "uploads",
]
