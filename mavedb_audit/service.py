"""What `mavedb-audit serve` runs, each in a thread of its own, until it is told to stop."""

import threading
from collections.abc import Callable

from mavedb_audit.alerts import alert_until, verify_until
from mavedb_audit.dispatcher import dispatch_until
from mavedb_audit.logs import logger_of
from mavedb_audit.mirror import mirror_until
from mavedb_audit.reconcile import reconcile_until
from mavedb_audit.recovery import recover_until
from mavedb_audit.server import serve_http_until
from mavedb_audit.settings import settings

logger = logger_of(__name__)

LOOPS: dict[str, Callable[[threading.Event], None]] = {
    "dispatcher": dispatch_until,
    "mirror": mirror_until,
    "reconciler": reconcile_until,
    "recovery": recover_until,
    "alerts": alert_until,
    "verifier": verify_until,
}


def serve_until(stop: threading.Event) -> None:
    """Run all loops until `stop` is set, and the HTTP server, where it has a port.

    Each waits out its own outages. An error that none of them expects ends all, and is raised: a
    supervisor starts the service again, and nobody takes half of it for the whole.
    """
    errors: list[Exception] = []

    def run(name: str, loop: Callable[[threading.Event], None]) -> None:
        try:
            loop(stop)
        except Exception as error:  # raised below, where the main thread sees it
            logger.exception("service.loop_died", loop=name)
            errors.append(error)
            stop.set()

    loops = dict(LOOPS)
    if settings().audit_http_port is not None:
        loops["http"] = serve_http_until
    threads = [
        threading.Thread(target=run, args=(name, loop), name=name) for name, loop in loops.items()
    ]
    logger.info("service.started", loops=sorted(loops))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    logger.info("service.stopped")
