"""`make chaos`: many pipelines, while the parts of the deployment are killed.

Afterwards every promise of the audit must hold. Without N= it goes on until each kind of fault
and each failpoint has struck once, which takes about three minutes; with N= for so many pipelines
at least. SEED= chooses the order. KEEP=1 leaves everything up. TOPOLOGY=production breaks what
deployments/production describes, with every part that it has twice.

Prints a line of figures, and exits 1 with what is wrong.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deployments.local import processes, stack
from tests.chaos import invariants
from tests.chaos.driver import Driver, summary
from tests.chaos.histories import of_concerned
from tests.chaos.invariants import Violation
from tests.chaos.topologies import TOPOLOGIES
from tests.support import raise_limits

_MOST_SHOWN = 20
_CALM_SECONDS = 240.0
#: So long may it take until Prefect has all states, and the reconciler what it missed.
_SETTLING_SECONDS = 120.0


def main() -> int:
    pipelines = int(os.environ.get("N") or 0)
    seed = int(os.environ.get("SEED") or 1)
    topology = TOPOLOGIES[os.environ.get("TOPOLOGY") or "local"]
    state = Path(tempfile.mkdtemp(prefix="mavedb-chaos-"))
    try:
        with topology.running(state) as running:
            raise_limits(running)
            driver = Driver(topology, running, seed)
            invariants.install_witness(driver.mavedb)
            driver.run(pipelines, seconds=480 + 30 * pipelines)
            driver.calm_down(_CALM_SECONDS)
            is_right = judge(driver)
            if os.environ.get("KEEP"):
                stack.keep(running)
                sys.stdout.write(f"Left up; `make demo-stop STATE={state}` ends it.\n")
    finally:
        if not processes.is_kept(state):
            shutil.rmtree(state, ignore_errors=True)
    return 0 if is_right else 1


def judge(driver: Driver) -> bool:
    """Print the figures, and what is wrong. Gives whether nothing is."""
    mavedb, topology = driver.mavedb, driver.topology
    deadline = time.monotonic() + _SETTLING_SECONDS
    while (differences := invariants.differences(driver.stack)) and time.monotonic() < deadline:
        time.sleep(2)
    still_open = invariants.open_rows(mavedb)
    unaccounted = invariants.unaccounted(mavedb)
    wrong = [
        *still_open,
        *unaccounted,
        *differences,
        *invariants.contradictions(mavedb),
        *invariants.ends_by_error(driver.stack),
        *(Violation("never struck", name) for name in driver.not_struck()),
    ]
    counts = driver.counts()
    sys.stdout.write(
        f"pipelines {mavedb.value('SELECT count(*) FROM pipelines')},"
        f" transitions {mavedb.value('SELECT count(*) FROM prefect_transitions')},"
        f" {', '.join(f'{name} {counts[name]}' for name in topology.faults)},"
        f" killed at failpoints {sum(counts[name] for name in topology.failpoints)},"
        f" differences {len(differences)}, open {len(still_open)},"
        f" unaccounted {len(unaccounted)}, {summary(driver.recovery_seconds())}"
        f" (SEED={driver.seed})\n"
        f"Killed {', '.join(f'{name} {counts[name]}' for name in topology.failpoints)}\n"
    )
    for violation in wrong[:_MOST_SHOWN]:
        sys.stdout.write(f"  {violation}\n")
    for line in of_concerned(mavedb, wrong, driver.journal):
        sys.stdout.write(f"{line}\n")
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
