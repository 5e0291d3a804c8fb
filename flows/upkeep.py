"""The flows that look after the audit, on a schedule. `mavedb-audit serve` does the same, sooner:
with these it is done even while no `serve` runs."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from mavedb_audit.histories import prefect_client
from mavedb_audit.reconcile import reconcile
from mavedb_audit.recovery import recover_once


@flow(name="recover_stalled_runs")
def recover_stalled_runs() -> State[int]:
    """Have dead and stalled pipelines tried again, or closed."""
    with prefect_client() as client:
        settled = recover_once(client)
    return Completed(message=f"Settled: {settled}", data=settled)


@flow(name="reconcile_audit")
def reconcile_audit() -> State[int]:
    """Record the states that Prefect has and the audit lacks."""
    with prefect_client() as client:
        done = reconcile(client)
    return Completed(message=f"{done}", data=done.states_recorded)
