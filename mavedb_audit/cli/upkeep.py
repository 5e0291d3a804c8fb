"""The commands that look after the audit itself."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mavedb_audit.cli.application import KEEP, As, Output, Since, command
from mavedb_audit.cli.output import (
    DONE,
    FOUND_PROBLEMS,
    show,
    tell,
    write,
    write_json,
)
from mavedb_audit.cli.reaching import (
    actor_of,
    database,
    expecting_our_database,
    in_utc,
    require_prefect,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mavedb_audit.cli.views import Recovery


@command(
    "verify",
    KEEP,
    "mavedb-audit verify",
    "mavedb-audit verify --since 2026-11-01 --output json",
)
def verify(*, since: Since = None, output: Output = "table") -> int:
    """Compare the audit with Prefect, state by state, and the audit's rows with each other.

    Exits 1 when something is missing or contradicts; what only a process witnessed, because it
    died before Prefect heard of it, is listed as lost by Prefect and is no problem.
    """

    from mavedb_audit import verify as verification
    from mavedb_audit.cli.audit_text import verification_as_table
    from mavedb_audit.histories import prefect_client

    require_prefect()
    with prefect_client() as client:
        found = verification.verify(client, since=in_utc(since))
    if output == "json":
        write_json(found)
    else:
        show(*verification_as_table(found))
    return FOUND_PROBLEMS if found.has_problems else DONE


@command("reconcile", KEEP, "mavedb-audit reconcile", "mavedb-audit reconcile --all")
def reconcile(
    *,
    since: Since = None,
    everything: Annotated[
        bool, Parameter(name="--all", help="All runs that Prefect has, however old.", negative="")
    ] = False,
    output: Output = "table",
) -> int:
    """Ask Prefect for every state of our runs, and record what is missing.

    Of the runs of the last RECONCILE_WINDOW_HOURS, unless told otherwise. With --all it makes the
    transitions again from Prefect's history.
    """
    from dataclasses import asdict

    from mavedb_audit import reconcile as reconciliation
    from mavedb_audit.histories import prefect_client
    from mavedb_audit.settings import settings

    require_prefect()
    window = timedelta(hours=settings().reconcile_window_hours)
    begin = in_utc(since) or (None if everything else datetime.now(UTC) - window)
    with prefect_client() as client:
        done = reconciliation.reconcile(client, since=begin, everything=True)
    if output == "json":
        write_json(done)
    else:
        write("".join(f"{name}: {value}\n" for name, value in asdict(done).items()))
    return FOUND_PROBLEMS if done.unanswered else DONE


@command("recover", KEEP, "mavedb-audit recover", "mavedb-audit recover --output json")
def recover(*, output: Output = "table") -> int:
    """Look once for runs that died or stall, as `serve` does again and again, and settle them.

    What was done to which pipeline is printed; it takes some seconds when something is found.
    """
    from mavedb_audit.cli.audit_text import recoveries
    from mavedb_audit.cli.views import Recovered
    from mavedb_audit.histories import expecting_an_answer, prefect_client
    from mavedb_audit.recovery import recover_once

    require_prefect()
    with database() as connection:
        before = _newest_action(connection)
    with prefect_client() as client, expecting_an_answer("The next scan does the rest"):
        settled = recover_once(client)
    with database() as connection:
        done = Recovered(settled=settled, recoveries=_recoveries_after(connection, before))
    if output == "json":
        write_json(done)
    else:
        show(*recoveries(done))
    return DONE


def _newest_action(connection: "Connection") -> int:
    from sqlalchemy import text

    newest: int = connection.execute(
        text("SELECT coalesce(max(id), 0) FROM operator_actions")
    ).scalar_one()
    return newest


def _recoveries_after(connection: "Connection", action_id: int) -> "list[Recovery]":
    from sqlalchemy import text

    from mavedb_audit.cli.views import Recovery

    rows = connection.execute(
        text(
            """
            SELECT pipelines.urn AS pipeline_urn, action, reason, operator_actions.created_at AS at
              FROM operator_actions LEFT JOIN pipelines ON pipelines.id = pipeline_id
             WHERE operator_actions.id > :after AND actor = 'recovery'
             ORDER BY operator_actions.id
            """
        ),
        {"after": action_id},
    )
    return [Recovery.model_validate(row) for row in rows]


@command(
    "prune",
    KEEP,
    "mavedb-audit prune    # what would go",
    "mavedb-audit prune --yes",
    "PRUNE_SUCCEEDED_DAYS=90 mavedb-audit prune --tracebacks",
)
def prune(
    *,
    yes: Annotated[bool, Parameter(help="Do it. Without, only the counts.", negative="")] = False,
    tracebacks: Annotated[
        bool, Parameter(help="Also the tracebacks of attempts.", negative="")
    ] = False,
    actor: As = None,
    output: Output = "table",
) -> int:
    """Forget the earlier states of runs, and superseded statuses, that are older than the settings.

    After PRUNE_SUCCEEDED_DAYS and PRUNE_UNSUCCESSFUL_DAYS from a pipeline's end, all states of its
    settled runs but the newest; after PRUNE_SUPERSEDED_DAYS a status that a newer one superseded.
    Never a pipeline, a job, an attempt or a current status. Without --yes nothing is changed.
    """
    from mavedb_audit import prune as pruning
    from mavedb_audit.cli.audit_text import pruned

    with expecting_our_database():
        if yes:
            done = pruning.prune(actor=actor_of(actor), tracebacks=tracebacks)
        else:
            done = pruning.prunable(tracebacks=tracebacks)
    if output == "json":
        write_json(done)
    else:
        show(*pruned(done))
    if not yes:
        tell("nothing was changed: --yes does it")
    return DONE


@command("doctor", KEEP, "mavedb-audit doctor", "mavedb-audit doctor --output json")
def doctor(*, output: Output = "table") -> int:
    """Look whether all that the audit counts on is there, and say what to do where it is not.

    The database, its tables, migrations, rights and sessions; Prefect, its deployments, workers and
    limits; Valkey, the services, the store of uploads; clocks; and whether `serve` runs. Exits 1
    when anything is wrong, also where something cannot be reached.
    """
    from mavedb_audit.cli.audit_text import findings
    from mavedb_audit.doctor import examine

    found = examine()
    if output == "json":
        write_json(found)
    else:
        show(*findings(found))
    return FOUND_PROBLEMS if any(finding.ok is False for finding in found) else DONE
