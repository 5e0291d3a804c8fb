"""Recovery while Prefect's server answers with errors."""

import threading

import prefect.context
import pytest

from deployments.local.stack import Stack
from mavedb_audit.recovery import recover_until
from mavedb_audit.settings import settings
from tests.prefect_proxy import proxy_of
from tests.support import brca1, mavedb_of, wait_until
from tests.support_processes import pid_of, stopped


def test_errors_of_prefect_are_waited_out(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow run had done all, and Prefect was told only that it crashed."""
    mavedb = mavedb_of(stack)
    submitted = mavedb.submit(*brca1(10))
    assert mavedb.wait_for(submitted) == "succeeded"
    flow_run_id = mavedb.flow_run(submitted)["id"]
    crashed = {"state": {"type": "CRASHED"}, "force": True}
    stop = threading.Event()
    with stopped(pid_of(mavedb, "audit")), proxy_of(stack.prefect_api_url) as proxy:
        mavedb.prefect("POST", f"flow_runs/{flow_run_id}/set_state", crashed)
        mavedb.execute(
            "UPDATE prefect_runs SET state_type = 'CRASHED',"
            " state_timestamp = now() - interval '1 minute' WHERE run_id = :id",
            id=flow_run_id,
        )
        mavedb.execute(
            "UPDATE pipelines SET finished_at = finished_at - interval '1 minute' WHERE id = :id",
            id=submitted.pipeline_id,
        )
        proxy.answer = lambda path: (500, b"{}") if "flow_runs/" in path else None
        monkeypatch.setenv("PREFECT_API_URL", proxy.api_url)
        monkeypatch.setenv("RECOVERY_RESTART_GRACE_SECONDS", "0")
        settings.cache_clear()
        prefect.context.refresh_global_settings_context()
        recovery = threading.Thread(target=recover_until, args=(stop,))
        recovery.start()
        try:
            wait_until(lambda: len(proxy.asked) > 1)
            proxy.answer = lambda _: None
            wait_until(lambda: mavedb.flow_run(submitted)["state_type"] == "COMPLETED")
        finally:
            stop.set()
            recovery.join()
            monkeypatch.undo()
            settings.cache_clear()
            prefect.context.refresh_global_settings_context()
