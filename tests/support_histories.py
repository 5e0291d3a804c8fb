"""The histories of a pipeline's runs, as Prefect has them and as the audit has them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from mavedb_audit.verify import Verification, verify
from tests.support import FINAL, MaveDB, Submitted, wait_until


def runs_of(mavedb: MaveDB, submitted: Submitted) -> list[UUID]:
    """The pipeline's flow run and task runs, once Prefect has the ends of all of them."""

    def ended() -> list[dict[str, Any]] | None:
        runs = [mavedb.flow_run(submitted), *mavedb.task_runs(submitted)]
        is_complete = len(runs) >= 5 and all(
            run["state_type"] in FINAL or run["state_name"] == "NotReady" for run in runs
        )
        return [dict(run) for run in runs] if is_complete else None

    return [UUID(run["id"]) for run in wait_until(ended)]


def in_prefect(mavedb: MaveDB, run_ids: frozenset[UUID]) -> dict[UUID, tuple[UUID, str]]:
    """State id -> (run id, state name), of both kinds of runs."""
    return {
        UUID(state["id"]): (run_id, state["name"])
        for run_id in run_ids
        for kind in ("flow", "task")
        for state in mavedb.prefect("GET", f"{kind}_run_states/?{kind}_run_id={run_id}")
    }


def in_audit(mavedb: MaveDB, run_ids: frozenset[UUID]) -> dict[UUID, tuple[UUID, str]]:
    rows = mavedb.rows(
        "SELECT state_id, run_id, name FROM prefect_transitions WHERE run_id = ANY (:ids)",
        ids=list(run_ids),
    )
    return {row.state_id: (row.run_id, row.name) for row in rows}


def current_columns(mavedb: MaveDB, run_ids: frozenset[UUID]) -> list[Any]:
    return mavedb.rows(
        """
        SELECT run_id, state_id, state_type, state_name, state_timestamp, run_count, job_id
          FROM prefect_runs WHERE run_id = ANY (:ids) ORDER BY run_id
        """,
        ids=list(run_ids),
    )


def verified(client: SyncPrefectClient, since: datetime) -> Verification:
    """The audit against Prefect, but for the runs that Prefect's scheduler makes meanwhile.

    Where RECONCILE_GRACE_SECONDS is 0, those are judged before the mirror can have heard of them.
    """
    found = verify(client, since=since)
    differing = FlowRunFilterId(any_=[each.run_id for each in found.differences])
    of_scheduler = {
        flow_run.id
        for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter(id=differing))
        if flow_run.auto_scheduled
    }
    found.differences = [each for each in found.differences if each.run_id not in of_scheduler]
    return found


def clean(verification: Verification) -> bool:
    assert verification.differences == []
    assert verification.broken == []
    assert verification.unanswered == []
    return not verification.has_problems
