"""The pages of the command line: its commands, and what they print as JSON."""

import re
from collections.abc import Mapping
from typing import Any

from cyclopts import App
from pydantic import TypeAdapter

from docs.generate.schemas import schema_section, type_of
from docs.generate.text import table
from mavedb_audit.cli import EXAMPLES
from mavedb_audit.cli import app as command_line
from mavedb_audit.cli import views as cli_views
from mavedb_audit.doctor import Finding
from mavedb_audit.limits import AppliedLimit
from mavedb_audit.provenance import Exported
from mavedb_audit.prune import Pruned
from mavedb_audit.queries import accounts, failures, histories, pipelines, releases, stories
from mavedb_audit.reconcile import Reconciled
from mavedb_audit.taking_over import TakenOver
from mavedb_audit.uploads import Upload
from mavedb_audit.verify import Verification

#: What each command prints with --output json, by when it does.
_ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "status": {
        "without a URN": cli_views.Overview,
        "of a pipeline": pipelines.Detail,
        "of a score set": accounts.Account,
    },
    "watch": {"a line for each change": cli_views.StepChange},
    "why": {"": stories.Story},
    "failures": {"": list[failures.FailureGroup]},
    "history": {"": histories.History},
    "diff": {"": releases.ReleaseDiff},
    "uploads": {"": list[Upload]},
    "export": {"": Exported},
    "request": {"": cli_views.Asked},
    "rerun-failed": {"": cli_views.Asked},
    **{verb: {"": cli_views.Outcome} for verb in ("pause", "resume", "cancel", "retry", "restart")},
    "verify": {"": Verification},
    "reconcile": {"": Reconciled},
    "recover": {"": cli_views.Recovered},
    "prune": {"": list[Pruned]},
    "take-over": {"": list[TakenOver]},
    "doctor": {"": list[Finding]},
    "limits apply": {"": list[AppliedLimit]},
    "token": {"": dict[str, str]},
}


def cli() -> str:
    _, _, described = command_line.generate_docs().partition("## mavedb-audit ")
    commands = re.sub(
        r"^#+ mavedb-audit (.+)$",
        lambda heading: _with_examples(heading[1]),
        f"## mavedb-audit {described}",
        flags=re.M,
    )
    listed = table(
        ("command", "what"),
        (
            (f"[`{name}`](#{name.replace(' ', '-')})", _command(name).help.partition("\n")[0])
            for name in sorted(EXAMPLES)
        ),
    )
    codes = table(
        ("exit code", "when"),
        (
            ("0", "it is done, and nothing is wrong"),
            (
                "1",
                "`failures`, `verify`, `reconcile`, `doctor` and `uploads` found problems;"
                " of `watch`: the pipeline did not succeed",
            ),
            (
                "2",
                "wrong usage: a command, an option, a URN or a setting; a table that is missing, or"
                " a right that the database's role lacks",
            ),
            ("3", "the database, Prefect or the store of uploads cannot be reached"),
            ("130, 141", "Ctrl-C; who reads the output reads no further"),
        ),
    )
    return f"""# The command line

Made from `mavedb_audit/cli/` by `make docs`.

{listed}

Data goes to stdout, messages to stderr. A terminal that is too narrow for a table breaks the lines
itself, so a URN is copied in one piece. What is no terminal gets each row in one line, and no
colours; nor does a terminal where `NO_COLOR` is set. With `--output json` what is printed keeps to
[a schema](cli-output.md).

{codes}

What changes a pipeline is written to `operator_actions`, under the name that `--as` gives, or that
of the process's user. `mavedb-audit --install-completion` completes commands and options in bash,
zsh, fish and PowerShell.

{commands.rstrip()}
"""


def _command(name: str) -> App:
    found = command_line
    for part in name.split():
        found = found[part]
    return found


def _with_examples(name: str) -> str:
    examples = "".join(f"    {example}\n" for example in EXAMPLES.get(name, ()))
    return f"## {name}\n\n{examples}".rstrip()


def cli_output() -> str:
    given = {
        (command, when): TypeAdapter(answer)
        for command, answers in _ANSWERS.items()
        for when, answer in answers.items()
    }
    schemas, defined = TypeAdapter.json_schemas(
        [(key, "serialization", adapter) for key, adapter in given.items()], by_alias=False
    )
    answers = table(
        ("command", "", "prints"),
        (
            (f"`{command}`", when, type_of(schemas[(command, when), "serialization"]))
            for command, when in given
        ),
    )
    described = "\n\n".join(
        schema_section(name, schema) for name, schema in defined["$defs"].items()
    )
    page = f"""# What the command line prints as JSON

Made from what the [commands](cli.md) answer with, by `make docs`. Within a major version
keys may come, and none goes or changes its meaning. Times are ISO 8601 in UTC, durations in
seconds; what is unknown is null. `watch` prints an object a line, the others one value.

{answers}

{described}
"""
    # What two modules call the same is called by its module, too.
    return re.sub(r"mavedb_audit__\w+", lambda name: name[0][14:].replace("__", "-"), page)
