"""`make chaos`: many pipelines, while the parts of the deployment are killed at random.

Afterwards every promise of the audit must hold. N= pipelines, SEED= for the same choices again.
Prints one line of figures, and exits 1 with what is wrong.
"""

import os
import sys
import tempfile
from pathlib import Path

from deployments.local import stack
from tests.chaos.driver import Driver, Figures
from tests.chaos.invariants import violations

PATIENCE_SECONDS = 240.0


def main() -> int:
    pipelines = int(os.environ.get("N") or 12)
    seed = int(os.environ.get("SEED") or 1)
    with tempfile.TemporaryDirectory(prefix="mavedb-chaos-", ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        with stack.running(state, retry_delays_seconds=[1.0, 2.0, 4.0]) as running:
            driver = Driver(running, seed)
            driver.run(pipelines)
            driver.wait_for_calm(PATIENCE_SECONDS)
            wrong = violations(driver.mavedb)
            report(driver.figures(), wrong, seed)
            if wrong:
                keep_logs(state)
    return 1 if wrong else 0


def report(figures: Figures, wrong: list[str], seed: int) -> None:
    sys.stdout.write(
        f"pipelines {figures.pipelines}, transitions {figures.transitions},"
        f" kills {figures.kills}, differences {figures.differences}, open {figures.still_open},"
        f" unaccounted {figures.unaccounted}, recovery {figures.recovery_median:.1f} s median,"
        f" {figures.recovery_max:.1f} s at most (SEED={seed})\n"
    )
    for line in wrong:
        sys.stdout.write(f"  {line}\n")


def keep_logs(state: Path) -> None:
    """Show where to look: the last lines of what our own service said."""
    for name in ("audit", "worker"):
        log = state / "logs" / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines()[-40:]
        sys.stdout.write(f"--- {name}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
