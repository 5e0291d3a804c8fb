"""What `mavedb-audit serve` runs, each in a thread of its own, until it is told to stop."""

import logging
import threading
from collections.abc import Callable

from mavedb_audit.dispatcher import dispatch_until
from mavedb_audit.mirror import mirror_until
from mavedb_audit.reconcile import reconcile_until
from mavedb_audit.recovery import recover_until

logger = logging.getLogger(__name__)

LOOPS: dict[str, Callable[[threading.Event], None]] = {
    "dispatcher": dispatch_until,
    "mirror": mirror_until,
    "reconciler": reconcile_until,
    "recovery": recover_until,
}


def serve_until(stop: threading.Event) -> None:
    """Run all loops until `stop` is set.

    Each waits out its own outages. An error that none of them expects ends all, and is raised: a
    supervisor starts the service again, and nobody takes half of it for the whole.
    """
    errors: list[Exception] = []

    def run(name: str, loop: Callable[[threading.Event], None]) -> None:
        try:
            loop(stop)
        except Exception as error:
            logger.exception("the %s ended by an error", name)
            errors.append(error)
            stop.set()

    threads = [
        threading.Thread(target=run, args=(name, loop), name=name) for name, loop in LOOPS.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
