"""Bring the Prefect server of PREFECT_API_URL up to the files of deployments/production.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 cannot reach Prefect.
"""

import os
import sys
from typing import Annotated

from cyclopts import App, Parameter

from deployments.production import apply as production
from mavedb_audit.errors import ConfigurationError, MaveDBAuditError, PrefectUnreachableError
from mavedb_audit.histories import expecting_an_answer, prefect_client

app = App(name="deployments.production", help=__doc__)


@app.command
def apply(
    *,
    dry_run: Annotated[bool, Parameter(help="Say what would be done, and do nothing.")] = False,
    reset: Annotated[
        bool, Parameter(help="Also set limits that were changed in Prefect back to limits.yaml.")
    ] = False,
) -> None:
    """Make work pools, limits, deployments with their schedules, and automations, or change them.

    Prints each, and what was done with it. May be run again at any time.
    """
    if "PREFECT_API_URL" not in os.environ:
        raise ConfigurationError(
            "PREFECT_API_URL is not set: it must be the API of the Prefect servers, such as"
            " http://prefect:4200/api"
        )
    webhook_url = os.environ.get("SLACK_WEBHOOK_URL") or None
    what_stands = "What was printed so far was done"
    with prefect_client() as client, expecting_an_answer(what_stands):
        for change in production.apply(client, webhook_url, dry_run=dry_run, reset=reset):
            sys.stdout.write(f"{change}\n")
            sys.stdout.flush()


def main() -> None:
    try:
        app()
    except MaveDBAuditError as error:
        sys.stderr.write(f"{error}\n")
        is_unreachable = isinstance(error, PrefectUnreachableError)
        sys.exit(3 if is_unreachable else 2 if isinstance(error, ConfigurationError) else 1)


if __name__ == "__main__":
    main()
