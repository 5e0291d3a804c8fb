"""The command for the move from MaveDB's earlier job system."""

from typing import Annotated

from cyclopts import Parameter

from mavedb_audit.cli.application import KEEP, As, Output, command
from mavedb_audit.cli.output import DONE, show, tell, write_json
from mavedb_audit.cli.reaching import actor_of, database


@command("take-over", KEEP, "mavedb-audit take-over", "mavedb-audit take-over --yes")
def take_over(
    *,
    yes: Annotated[
        bool, Parameter(negative=(), help="Do it. Without it, what would be done is shown.")
    ] = False,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Close what MaveDB's earlier job system left open, and ask for its pipelines again.

    What had succeeded in a pipeline is not done again. Stop the earlier system first: it would go
    on with what is closed here.
    """
    from mavedb_audit import taking_over
    from mavedb_audit.cli.audit_text import taken_over
    from mavedb_audit.database import check_schema

    with database() as connection:
        check_schema(connection)
        done = taking_over.take_over(connection, actor=actor_of(actor))
        if yes:
            connection.commit()
        else:
            connection.rollback()
    if output == "json":
        write_json(done)
    else:
        show(*taken_over(done))
    if not yes:
        tell("nothing was changed: say --yes to do it")
    return DONE
