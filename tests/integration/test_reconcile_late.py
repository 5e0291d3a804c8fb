"""Task runs that Prefect's server lists only after their flow run was settled."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from deployments.local.stack import Stack
from mavedb_audit.histories import prefect_client
from mavedb_audit.reconcile import reconcile
from mavedb_audit.settings import settings
from tests.support import MAIN_JOB, MaveDB, brca1, mavedb_of, wait_until

RECORDED = """
    SELECT count(*) FROM prefect_transitions JOIN prefect_runs USING (run_id)
     WHERE flow_run_id = :id
"""


@pytest.fixture
def mavedb(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[MaveDB]:
    monkeypatch.setenv("RECONCILE_GRACE_SECONDS", "0")
    settings.cache_clear()
    yield mavedb_of(stack)
    monkeypatch.undo()
    settings.cache_clear()


def test_a_task_run_of_a_settled_flow_run_is_found_though_no_event_told_of_it(
    mavedb: MaveDB,
) -> None:
    steps = len(MAIN_JOB.steps)
    submitted = mavedb.submit(*brca1(10))
    assert mavedb.wait_for(submitted) == "succeeded"
    flow_run_id = mavedb.flow_run(submitted)["id"]
    wait_until(
        lambda: [run["state_type"] for run in mavedb.task_runs(submitted)] == ["COMPLETED"] * steps
    )
    recent = datetime.now(UTC) - timedelta(minutes=5)
    settled = "SELECT count(settled_at) FROM prefect_runs WHERE :id IN (run_id, flow_run_id)"
    with prefect_client() as client:
        wait_until(
            lambda: (
                reconcile(client, since=recent)
                and mavedb.value(settled, id=flow_run_id) == 1 + steps
            )
        )
        recorded = mavedb.value(RECORDED, id=flow_run_id)
        # As if the stream had dropped the events of one, and the server had listed it late.
        mavedb.execute(
            "DELETE FROM prefect_runs WHERE run_id ="
            " (SELECT min(run_id::text)::uuid FROM prefect_runs WHERE flow_run_id = :id)",
            id=flow_run_id,
        )
        assert mavedb.value(RECORDED, id=flow_run_id) < recorded
        reconcile(client, since=recent)
    assert mavedb.value(RECORDED, id=flow_run_id) == recorded
