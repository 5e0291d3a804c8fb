"""The commands that change a pipeline. Each is audited, with who did it and why."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

from cyclopts import Parameter

from mavedb_audit.cli.application import (
    OPERATE,
    As,
    Output,
    PipelineURN,
    Reason,
    ScoreSetURN,
    command,
)
from mavedb_audit.cli.output import DONE, write, write_json
from mavedb_audit.cli.reaching import actor_of, database, require_prefect
from mavedb_audit.errors import RequestError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mavedb_audit.states import PipelineStatus

_URN = "urn:mavedb:pipeline-0c5d…"


@command(
    "request",
    OPERATE,
    "mavedb-audit request annotate_score_set --score-set urn:mavedb:00000001-a-1",
)
def request(
    pipeline: str,
    *,
    score_set: Annotated[str, Parameter(help="URN of the score set.")],
    params: Annotated[str, Parameter(help="The pipeline's other parameters, as JSON.")] = "{}",
    user_id: Annotated[int | None, Parameter(help="Who asks: users.id.")] = None,
    output: Output = "table",
) -> int:
    """Ask for a pipeline, as MaveDB's API does, and print the pipeline's URN."""
    from sqlalchemy import text

    from mavedb_audit.database import check_schema
    from mavedb_audit.trigger import request_pipeline

    given = _json_object(params)
    with database() as connection:
        check_schema(connection)
        score_set_id = connection.execute(
            text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": score_set}
        ).scalar_one_or_none()
        if score_set_id is None:
            raise RequestError(f"There is no score set {score_set}")
        if user_id is not None and not _is_user(connection, user_id):
            raise RequestError(f"There is no user with the id {user_id}")
        asked = {"score_set_id": score_set_id, "updater_id": user_id, **given}
        planned = request_pipeline(connection, pipeline, asked, user_id, uuid4().hex)
        connection.commit()
    return _print_asked(planned.pipeline_urn, output)


@command("pause", OPERATE, f"mavedb-audit pause {_URN} --reason 'ClinGen is down'")
def pause(
    pipeline_urn: PipelineURN,
    /,
    *,
    reason: Reason = None,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Let no further step of a pipeline start. A step that runs ends first."""
    from mavedb_audit import operations

    return _do(operations.pause, pipeline_urn, actor, reason, output)


@command("resume", OPERATE, f"mavedb-audit resume {_URN}")
def resume(
    pipeline_urn: PipelineURN,
    /,
    *,
    reason: Reason = None,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Let a paused pipeline go on."""
    from mavedb_audit import operations

    return _do(operations.resume, pipeline_urn, actor, reason, output)


@command("cancel", OPERATE, f"mavedb-audit cancel {_URN} --reason 'the wrong file'")
def cancel(
    pipeline_urn: PipelineURN,
    /,
    *,
    reason: Reason = None,
    actor: As = None,
    output: Output = "table",
) -> int:
    """End a pipeline. What its variants lack is accounted for at once."""
    from mavedb_audit import operations

    return _do(operations.cancel, pipeline_urn, actor, reason, output)


@command(
    "retry",
    OPERATE,
    f"mavedb-audit retry {_URN} --reason 'ClinGen is up again'",
    f"mavedb-audit retry {_URN} --all-unsuccessful",
)
def retry(
    pipeline_urn: PipelineURN,
    /,
    *,
    all_unsuccessful: Annotated[
        bool, Parameter(help="Also the steps that were cancelled or skipped.", negative="")
    ] = False,
    reason: Reason = None,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Run the failed steps of an ended pipeline again, and those skipped because of them."""
    from mavedb_audit import operations

    verb = operations.retry_unsuccessful if all_unsuccessful else operations.retry_failed
    return _do(verb, pipeline_urn, actor, reason, output)


@command("restart", OPERATE, f"mavedb-audit restart {_URN} --reason 'a new mapper'")
def restart(
    pipeline_urn: PipelineURN,
    /,
    *,
    reason: Reason = None,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Run all steps of a pipeline again. One that has not ended is cancelled first."""
    from mavedb_audit import operations

    return _do(operations.restart, pipeline_urn, actor, reason, output)


@command("rerun-failed", OPERATE, "mavedb-audit rerun-failed urn:mavedb:00000001-a-1")
def rerun_failed(
    score_set_urn: ScoreSetURN,
    /,
    *,
    reason: Reason = None,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Annotate the failed variants of a score set again, and print the new pipeline's URN."""
    from mavedb_audit import operations

    planned = operations.rerun_failed_variants(score_set_urn, actor=actor_of(actor), reason=reason)
    return _print_asked(planned.pipeline_urn, output)


def _do(
    verb: "Callable[..., PipelineStatus]",
    pipeline_urn: str,
    actor: str | None,
    reason: str | None,
    output: str,
) -> int:
    from mavedb_audit.cli.views import Outcome
    from mavedb_audit.histories import prefect_client

    require_prefect()
    with prefect_client() as client:
        status = verb(client, pipeline_urn, actor=actor_of(actor), reason=reason)
    if output == "json":
        write_json(Outcome(pipeline_urn=pipeline_urn, status=status))
    else:
        write(f"{pipeline_urn} is {status}\n")
    return DONE


def _print_asked(pipeline_urn: str, output: str) -> int:
    if output == "json":
        from mavedb_audit.cli.views import Asked

        write_json(Asked(pipeline_urn=pipeline_urn))
    else:
        write(f"{pipeline_urn}\n")
    return DONE


def _json_object(params: str) -> dict[str, Any]:
    try:
        given = json.loads(params)
    except json.JSONDecodeError as error:
        raise RequestError(f"--params is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError('--params must be a JSON object, such as {"updater_id": 3}')
    return given


def _is_user(connection: "Connection", user_id: int) -> bool:
    from sqlalchemy import text

    found = connection.execute(text("SELECT true FROM users WHERE id = :id"), {"id": user_id})
    return found.scalar_one_or_none() is True
