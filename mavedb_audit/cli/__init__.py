"""The command `mavedb-audit`: what people and scripts ask the audit, and have it do.

Each module registers its commands when it is imported. What a command needs is imported when it
runs, so that `--help` and completion are at once there.
"""

import sys

from cyclopts import CycloptsError

from mavedb_audit.cli import (  # noqa: F401 - their commands
    files,
    looking,
    moving,
    operating,
    serving,
    tokens,
    upkeep,
    watching,
)
from mavedb_audit.cli.application import EXAMPLES, app
from mavedb_audit.cli.output import WRONG_USAGE, exit_code, tell
from mavedb_audit.errors import MaveDBAuditError

__all__ = ["EXAMPLES", "app", "main"]


def main() -> None:
    """The entry point: a mistake that a person can mend is one message, without a traceback."""
    try:
        code = app(
            exit_on_error=False,
            print_error=False,
            result_action="return_int_as_exit_code_else_zero",
        )
    except CycloptsError as error:
        tell(f"{error} See --help", style="red")
        code = WRONG_USAGE
    except MaveDBAuditError as error:
        tell(str(error), style="red")
        code = exit_code(error)
    sys.exit(code)
