"""What `serve` runs for alerts: one loop finds and sends them, another verifies the audit."""

import threading
import time
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy.exc import OperationalError

from mavedb_audit import verify as verification
from mavedb_audit.alerts import delivery, findings
from mavedb_audit.database import connect
from mavedb_audit.errors import DatabaseUnreachableError
from mavedb_audit.histories import PrefectUnansweredError, prefect_client
from mavedb_audit.logs import logger_of
from mavedb_audit.settings import settings
from mavedb_audit.verify import Verification

logger = logger_of(__name__)

#: What lasts is looked for less often than what happens.
_CONDITIONS_EVERY_SECONDS = 30.0


def alert_until(stop: threading.Event) -> None:
    """Find what is worth an alert and send it. Outages of the database are waited out.

    Without SLACK_WEBHOOK_URL and ALERT_WEBHOOK_URL there is nothing to do.
    """
    names = delivery.channels().keys()
    if not names:
        stop.wait()
        return
    next_conditions = time.monotonic()
    answering = True
    while not stop.is_set():
        with_conditions = time.monotonic() >= next_conditions
        try:
            find(names, with_conditions=with_conditions)
            while delivery.send_due() and not stop.is_set():
                pass
        except (DatabaseUnreachableError, OperationalError) as error:
            if answering:
                logger.warning("alerts.interrupted", error=str(error))
            answering = False
        else:
            answering = True
            if with_conditions:
                next_conditions = time.monotonic() + _CONDITIONS_EVERY_SECONDS
        stop.wait(settings().alert_interval_seconds)


def find(names: Collection[str], *, with_conditions: bool = True) -> int:
    """Record what is worth an alert now, to go to these channels. Returns how much it is."""
    with connect() as connection, connection.begin():
        found = findings.find_pipelines(connection, names)
    if with_conditions:
        with connect() as connection, connection.begin():
            found += findings.find_conditions(connection, names)
    return found


def verify_until(stop: threading.Event) -> None:
    """Verify the audit of the last hours again and again, one service at a time."""
    every = settings().verify_interval_seconds
    if not every:
        stop.wait()
        return
    while not stop.is_set():
        try:
            verify_once(stop, every)
        except (PrefectUnansweredError, DatabaseUnreachableError, OperationalError) as error:
            logger.warning("audit.not_verified", error=str(error))
        stop.wait(every / 10)


def verify_once(stop: threading.Event, every_seconds: float) -> bool:
    """Verify what went on since the time before last, if it is time. Returns whether it was done.

    What is found is looked for again after the reconciler had its turn: only what lasts counts.
    """
    with connect() as connection, connection.begin():
        since = findings.claim_verification(connection, every_seconds)
    if since is None:
        return False
    found = _verify(since)
    if found.has_problems:
        patience = 2 * settings().reconcile_interval_seconds + settings().reconcile_grace_seconds
        if stop.wait(patience):
            return False
        found = _verify(since - timedelta(seconds=patience))
    counted = {
        "differences": len(found.differences),
        "broken": sum(broken.rows for broken in found.broken),
        "unanswered": len(found.unanswered),
    }
    with connect() as connection, connection.begin():
        findings.note_verification(connection, counted)
    log = logger.error if found.has_problems else logger.info
    log("audit.verified", runs=found.runs, **counted)
    return True


def _verify(since: datetime) -> Verification:
    with prefect_client() as client:
        return verification.verify(client, since=since)
