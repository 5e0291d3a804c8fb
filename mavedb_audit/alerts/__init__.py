"""Tells Slack, or any webhook, what somebody should know: what failed for good, and what lasts.

What is worth an alert is found in the database, where each has one key, so that several services
find it once. It is sent from there, after the fact and outside its transactions, at least once.
"""

from mavedb_audit.alerts.loops import alert_until, verify_until

__all__ = ["alert_until", "verify_until"]
