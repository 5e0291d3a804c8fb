"""Every table that the audit and the steps know, as SQLAlchemy models. `metadata` holds them."""

from mavedb_audit.models import audit, mavedb
from mavedb_audit.models.base import Base

metadata = Base.metadata

__all__ = ["audit", "mavedb", "metadata"]
