"""The commands that only look."""

from typing import Annotated, Literal

from cyclopts import Parameter

from mavedb_audit.cli.application import LOOK, Output, ScoreSetURN, Since, command
from mavedb_audit.cli.output import (
    DONE,
    FOUND_PROBLEMS,
    show,
    tell,
    write_json,
)
from mavedb_audit.cli.reaching import database, in_utc
from mavedb_audit.errors import RequestError

_PIPELINE, _JOB = "urn:mavedb:pipeline-", "urn:mavedb:job-"

Types = Annotated[
    list[str] | None,
    Parameter(name="--type", help="An annotation type; may be given again.", negative=""),
]


@command(
    "status",
    LOOK,
    "mavedb-audit status",
    "mavedb-audit status urn:mavedb:pipeline-0c5d…    # its steps",
    "mavedb-audit status urn:mavedb:00000001-a-1    # what became of its variants",
    "mavedb-audit status --output json | jq -r '.problems[]'",
)
def status(
    urn: Annotated[str | None, Parameter(help="URN of a pipeline or of a score set.")] = None,
    /,
    *,
    limit: Annotated[int, Parameter(help="How many pipelines to list.")] = 20,
    output: Output = "table",
) -> int:
    """Show how the whole does and the newest pipelines, or one pipeline, or one score set.

    A pipeline is shown with its steps, a score set with the number of its variants by annotation
    and reason. Without a URN, what is wrong comes first; it is told, and does not change the exit
    code: `doctor` and `verify` do.
    """
    if urn is None:
        return _overview(limit, output)
    if "#" in urn:
        raise RequestError(f"{urn} is a variant: mavedb-audit why '{urn}'")
    if urn.startswith(_JOB):
        raise RequestError(f"{urn} is a job: mavedb-audit history {urn}")
    return (_pipeline if urn.startswith(_PIPELINE) else _account)(urn, output)


def _pipeline(urn: str, output: str) -> int:
    from mavedb_audit.cli import pipelines_text
    from mavedb_audit.queries.pipelines import detail

    with database() as connection:
        pipeline = detail(connection, urn)
    if output == "json":
        write_json(pipeline)
    else:
        show(*pipelines_text.detail(pipeline))
    return DONE


def _account(urn: str, output: str) -> int:
    from mavedb_audit.cli import pipelines_text
    from mavedb_audit.queries.accounts import account

    with database() as connection:
        found = account(connection, urn)
    if output == "json":
        write_json(found)
    else:
        show(*pipelines_text.account(found))
    return DONE


def _overview(limit: int, output: str) -> int:
    from mavedb_audit.cli import pipelines_text
    from mavedb_audit.cli.problems import problems_of
    from mavedb_audit.cli.views import Overview
    from mavedb_audit.queries import pipelines
    from mavedb_audit.queries.system import system

    with database() as connection:
        figures = system(connection)
        newest = pipelines.summaries(connection, pipelines.PipelineFilter(), limit=limit)
    found = Overview(problems=problems_of(figures), system=figures, pipelines=list(newest))
    if output == "json":
        write_json(found)
    else:
        show(*pipelines_text.overview(found))
    return DONE


@command(
    "why",
    LOOK,
    "mavedb-audit why 'urn:mavedb:00000001-a-1#17'",
    "mavedb-audit why 'urn:mavedb:00000001-a-1#17' --type gnomad_allele_frequency",
)
def why(
    variant_urn: Annotated[str, Parameter(help="URN of a variant; quote its # for your shell.")],
    /,
    *,
    types: Types = None,
    output: Output = "table",
) -> int:
    """Tell why a variant lacks an annotation, or how it came to it.

    For each annotation: its status and reason, what the service said, of which release, by which
    job and attempt, what was there before, and what to do. With --type also successes in full.
    """
    from mavedb_audit.cli.story_text import story
    from mavedb_audit.queries import stories

    with database() as connection:
        found = stories.why(connection, variant_urn, types)
    if output == "json":
        write_json(found)
    else:
        show(*story(found, with_successes=bool(types)))
    return DONE


@command(
    "failures",
    LOOK,
    "mavedb-audit failures",
    "mavedb-audit failures --by service --since 2026-11-01",
)
def failures(
    *,
    since: Since = None,
    by: Annotated[
        Literal["reason", "service", "score-set"], Parameter(help="What to group by.")
    ] = "reason",
    output: Output = "table",
) -> int:
    """List what failed and still stands, in groups. Exits 1 when there is anything."""
    from mavedb_audit.cli import pipelines_text
    from mavedb_audit.queries import failures as failed

    with database() as connection:
        groups = failed.failures(connection, by=by, since=in_utc(since))
    if output == "json":
        write_json(groups)
    elif groups:
        show(*pipelines_text.failures(groups, by))
    else:
        tell("nothing failed")
    return FOUND_PROBLEMS if groups else DONE


@command(
    "history",
    LOOK,
    "mavedb-audit history urn:mavedb:pipeline-0c5d…",
    "mavedb-audit history urn:mavedb:job-7a11…",
)
def history(
    urn: Annotated[str, Parameter(help="URN of a pipeline or of a job.")],
    /,
    *,
    output: Output = "table",
) -> int:
    """List all that befell a pipeline or a job: states, attempts, and what operators did."""
    from mavedb_audit.cli import pipelines_text
    from mavedb_audit.queries import histories

    with database() as connection:
        found = histories.history(connection, urn)
    if output == "json":
        write_json(found)
    else:
        show(pipelines_text.history(found))
    return DONE


@command(
    "diff",
    LOOK,
    "mavedb-audit diff urn:mavedb:00000001-a-1 --from 01_2025 --to 01_2026",
    "mavedb-audit diff urn:mavedb:00000001-a-1 --from 01_2025 --to 01_2026 --limit 1000",
)
def diff(
    score_set_urn: ScoreSetURN,
    /,
    *,
    from_version: Annotated[str, Parameter(name="--from", help="The earlier release.")],
    to_version: Annotated[str, Parameter(name="--to", help="The later release.")],
    annotation_type: Annotated[
        str, Parameter(name="--type", help="Which annotation.")
    ] = "clinvar_control",
    limit: Annotated[int, Parameter(help="How many variants to list.")] = 50,
    output: Output = "table",
) -> int:
    """Show what changed for a score set's variants between two releases of a source."""
    from mavedb_audit.cli.releases_text import differences
    from mavedb_audit.queries import releases

    with database() as connection:
        found = releases.diff(
            connection,
            score_set_urn,
            annotation_type=annotation_type,
            from_version=from_version,
            to_version=to_version,
            limit=limit,
        )
    if output == "json":
        write_json(found)
    else:
        show(*differences(found))
    return DONE
