"""Looks whether all that the audit and the steps count on is there, and says what to do.

findings   what is found, and how a check says so
database   MaveDB's database
prefect    the Prefect server
services   what the steps ask
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from mavedb_audit.doctor import database, prefect, services
from mavedb_audit.doctor.findings import Check, Finding, first_line, wrong
from mavedb_audit.errors import ConfigurationError

__all__ = ["Finding", "examine"]

_CHECKS: Mapping[str, Check] = {
    "database": database.reachable,
    "tables": database.schema,
    "migrations": database.migrations,
    "rights": database.rights,
    "sessions": database.pooler,
    "clock of the database": database.clock,
    "mirror": database.mirror,
    "Prefect": prefect.reachable,
    "clock of Prefect": prefect.clock,
    "deployments": prefect.deployments_and_workers,
    "limits of services": prefect.service_limits,
    "Prefect's database": prefect.storage,
}


def examine() -> Sequence[Finding]:
    """Everything, all at once, each within its own time-outs. None hides another."""
    checks = {**_CHECKS, **services.checks()}
    with ThreadPoolExecutor(len(checks), "doctor") as pool:
        begun = {
            name: pool.submit(copy_context().run, _all_of, check) for name, check in checks.items()
        }
    return [finding for name, done in begun.items() for finding in _result(name, done)]


def _all_of(check: Check) -> list[Finding]:
    return list(check())


def _result(name: str, done: Future[list[Finding]]) -> list[Finding]:
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, ConfigurationError):
        return [wrong(name, first_line(error), "Mend the variable that is named")]
    found = f"the check failed by itself ({type(error).__name__}: {first_line(error)})"
    return [wrong(name, found, "Report it; the others are not touched by it")]
