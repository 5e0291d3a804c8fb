"""The flows that nobody asks for: scheduled, and able to run."""

from datetime import datetime

import pytest

from tests.support import FINAL, MaveDB, wait_until

FLOWS = ["recover_stalled_runs", "reconcile_audit"]


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

    first, second, *_ = wait_until(lambda: found if len(found := times()) > 1 else None)
    assert first.minute % 5 == 0
    assert (second - first).total_seconds() == 600


@pytest.mark.parametrize("flow", FLOWS)
def test_its_deployment_runs(mavedb: MaveDB, flow: str) -> None:
    run_to_its_end(mavedb, flow)


def test_every_view_is_refreshed_whether_it_can_be_read_meanwhile_or_not(mavedb: MaveDB) -> None:
    mavedb.execute("CREATE MATERIALIZED VIEW seen_at AS SELECT now() AS moment")
    try:
        before = mavedb.value("SELECT moment FROM seen_at")
        run_to_its_end(mavedb, "refresh_materialized_views")
        assert mavedb.value("SELECT moment FROM seen_at") > before
    finally:
        mavedb.execute("DROP MATERIALIZED VIEW seen_at")
    refreshed = mavedb.value(
        """
        SELECT metadata -> 'result' -> 'data' FROM job_runs
         WHERE job_function = 'refresh_materialized_views' ORDER BY id DESC LIMIT 1
        """
    )
    assert refreshed["refreshed"] == [
        "public.published_variants_materialized_view",
        "public.seen_at",
    ]


def run_to_its_end(mavedb: MaveDB, flow: str) -> None:
    flow_run = mavedb.create_flow_run(flow, {})
    ended = wait_until(
        lambda: (
            run
            if (run := mavedb.prefect("GET", f"flow_runs/{flow_run}"))["state_type"] in FINAL
            else None
        )
    )
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
