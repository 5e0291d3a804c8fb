"""The application that commands register with, and the options that several of them share."""

import inspect
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from cyclopts import App, Group, Parameter

Command = TypeVar("Command", bound=Callable[..., int | None])

_HELP = """MaveDB's pipelines: how they do, why a variant lacks an annotation, and what to do.

Data goes to stdout, messages to stderr. With --output json what is printed keeps to a schema.

Exit codes: 0 done, 1 found problems, 2 wrong usage, 3 cannot reach what it needs.
"""


def examples_text(examples: tuple[str, ...]) -> str:
    """The examples as they stand at the beginning of a command's help."""
    return "\n".join(["Examples:", *(f"  {example}" for example in examples)])


app = App(
    name="mavedb-audit",
    help=_HELP,
    help_format="plaintext",
    help_prologue=examples_text(
        (
            "mavedb-audit status",
            "mavedb-audit why 'urn:mavedb:00000001-a-1#17'",
            "mavedb-audit COMMAND --help",
        )
    ),
)
app.register_install_completion_command()

LOOK = Group.create_ordered("Look")
OPERATE = Group.create_ordered("Operate")
KEEP = Group.create_ordered("Look after the audit")
RUN = Group.create_ordered("Run")

#: Each command's examples, by its name; a subcommand's is "limits apply".
EXAMPLES: dict[str, tuple[str, ...]] = {}


def command(name: str, group: Group, *examples: str, to: App = app) -> Callable[[Command], Command]:
    """Register a function as the command `name`, whose help begins with the examples.

    `to` is the application itself, or a command of it that has commands of its own.
    """

    def register(function: Command) -> Command:
        EXAMPLES[name if to is app else f"{to.name[0]} {name}"] = examples
        to.command(
            function,
            name=name,
            group=group,
            help=_paragraphs(function.__doc__ or ""),
            help_prologue=examples_text(examples),
        )
        return function

    return register


def _paragraphs(docstring: str) -> str:
    """The docstring without its line breaks, since a terminal has its own."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(docstring))


Output = Annotated[Literal["table", "json"], Parameter(help="How to print what was found.")]
As = Annotated[
    str | None, Parameter(name="--as", help="Who does it, for the audit; by default you.")
]
Reason = Annotated[str | None, Parameter(help="Why, for the audit.")]
Since = Annotated[
    datetime | None, Parameter(help="Only what is open, began or ended since then (UTC).")
]
PipelineURN = Annotated[str, Parameter(help="URN of a pipeline.")]
ScoreSetURN = Annotated[str, Parameter(help="URN of a score set.")]
