"""What of the system's figures a person should look at."""

from typing import TYPE_CHECKING

from mavedb_audit.cli.output import duration
from mavedb_audit.settings import settings

if TYPE_CHECKING:
    from mavedb_audit.queries.system import System

#: A dispatcher takes a request within seconds.
LONGEST_WAIT_SECONDS = 60.0


def problems_of(system: "System") -> list[str]:
    """A sentence for each, with what to do."""
    found = []
    if (system.oldest_request_seconds or 0.0) > LONGEST_WAIT_SECONDS:
        found.append(
            f"{system.requests_waiting} requests wait, one for"
            f" {duration(system.oldest_request_seconds)}: does `mavedb-audit serve` run, and does"
            " Prefect answer? `mavedb-audit doctor` tells"
        )
    if (system.mirror_lag_seconds or 0.0) > settings().alert_mirror_lag_seconds:
        found.append(
            f"states were recorded up to {duration(system.mirror_lag_seconds)} late:"
            " `mavedb-audit doctor` looks for the cause"
        )
    found += [
        f"{service.service} cannot be reached: {service.last_error or 'no answer'}"
        for service in system.services
        if service.circuit_open
    ]
    if system.alert_error:
        found.append(
            f"alerts are not taken ({system.alerts_waiting} wait, {system.alerts_given_up} were"
            f" given up today), the last error: {system.alert_error}"
        )
    for status in ("failed", "partial"):
        if number := system.pipelines_by_status.get(status):
            found.append(
                f"{number} pipelines of the last day ended {status}: `mavedb-audit failures` says"
                " why"
            )
    return found
