"""The tokens that let somebody ask over HTTP."""

from typing import Annotated, Literal

from cyclopts import Parameter

from mavedb_audit.cli.application import RUN, Output, command
from mavedb_audit.cli.output import tell, write, write_json


@command(
    "token",
    RUN,
    "mavedb-audit token ada",
    "mavedb-audit token grace --role operate",
)
def token(
    name: Annotated[str, Parameter(help="Whose it is; what they change is recorded under it.")],
    *,
    role: Annotated[
        Literal["read", "operate"], Parameter(help="What it allows; operate includes read.")
    ] = "read",
    output: Output = "table",
) -> None:
    """Make a token for asking over HTTP, and the line that lets it in.

    The token is printed once and kept nowhere. The line goes into the file of
    AUDIT_API_TOKENS_FILE; it holds the token's SHA-256, not the token.
    """
    from mavedb_audit.tokens import Role, new_token

    made, line = new_token(name, Role(role))
    if output == "json":
        write_json({"token": made, "line": line})
        return
    write(f"{made}\n")
    tell(f"let it in by this line in the file of AUDIT_API_TOKENS_FILE: {line}")
