"""The flows that look after the audit: scheduled, and able to run."""

from datetime import datetime

import pytest

from deployments.local.stack import Stack
from tests.support import FINAL, MaveDB, mavedb_of, wait_until

FLOWS = ["recover_stalled_runs", "reconcile_audit"]


@pytest.fixture(scope="module")
def mavedb(stack: Stack) -> MaveDB:
    return mavedb_of(stack)


@pytest.mark.parametrize("flow", FLOWS)
def test_its_schedule_makes_a_run_every_ten_minutes(mavedb: MaveDB, flow: str) -> None:
    scheduled = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"}

    def times() -> list[datetime]:
        runs = mavedb.prefect("POST", "flow_runs/filter", scheduled)
        return [
            datetime.fromisoformat(run["expected_start_time"])
            for run in runs
            if run["auto_scheduled"]
        ]

    first, second, *_ = wait_until(
        lambda: found if len(found := times()) > 1 else None, within_seconds=90
    )
    assert first.minute % 5 == 0
    assert (second - first).total_seconds() == 600


@pytest.mark.parametrize("flow", FLOWS)
def test_its_deployment_runs(mavedb: MaveDB, flow: str) -> None:
    deployment = mavedb.prefect("GET", f"deployments/name/{flow}/mavedb")["id"]
    flow_run = mavedb.prefect("POST", f"deployments/{deployment}/create_flow_run", {})["id"]
    ended = wait_until(
        lambda: (
            run
            if (run := mavedb.prefect("GET", f"flow_runs/{flow_run}"))["state_type"] in FINAL
            else None
        ),
        within_seconds=60,
    )
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
