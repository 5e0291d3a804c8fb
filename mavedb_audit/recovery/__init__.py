"""Finds runs whose process is gone, or that stall, and has them tried again or closed.

findings   what the database shows: SQL only
in_prefect what Prefect is told: crashed, cancelled, try again
scan       what is decided about each finding
"""

from mavedb_audit.recovery.scan import recover_once, recover_until

__all__ = ["recover_once", "recover_until"]
