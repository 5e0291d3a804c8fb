"""What Prefect's own UI shows, as its API gives it after real pipelines."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from mavedb_audit import prefect_ui
from mavedb_audit.prefect_ui import StepProgress, summarise
from mavedb_audit.states import Run, RunKind
from tests.prefect_proxy import Proxy, proxy_of
from tests.support import MAIN_JOB, MaveDB, Submitted, brca1, wait_until
from tests.support_mapper import mapper_at_work

#: Where they are made, as a server sees it.
ARTIFACTS = "/api/artifacts/"


@pytest.fixture(scope="module")
def annotated(mavedb: MaveDB) -> Submitted:
    submitted = mavedb.submit(*brca1(40, seed=71))
    assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


@pytest.fixture
def proxy(mavedb: MaveDB) -> Iterator[Proxy]:
    """Prefect's API as this process sees it."""
    with (
        proxy_of(mavedb.stack.prefect_api_url) as proxy,
        temporary_settings({PREFECT_API_URL: proxy.api_url}),
    ):
        yield proxy


def artifacts(mavedb: MaveDB, flow_run_id: str | UUID, kind: str) -> list[Mapping[str, Any]]:
    """The newest first."""
    found: list[Mapping[str, Any]] = mavedb.prefect(
        "POST",
        "artifacts/filter",
        {
            "artifacts": {
                "flow_run_id": {"any_": [str(flow_run_id)]},
                "type": {"any_": [kind]},
            },
            "sort": "CREATED_DESC",
        },
    )
    return found


def summary_of(mavedb: MaveDB, submitted: Submitted) -> str:
    """The pipeline's one summary, where people look for it."""
    found = wait_until(lambda: artifacts(mavedb, mavedb.flow_run(submitted)["id"], "markdown"))
    assert [artifact["key"] for artifact in found] == [
        submitted.pipeline_urn.removeprefix("urn:mavedb:")
    ]
    shown: str = found[0]["data"]
    return shown


def test_a_requested_run_is_called_by_its_score_set_and_pipeline(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    flow_run = mavedb.flow_run(annotated)
    assert flow_run["name"] == f"{annotated.score_set_urn} {MAIN_JOB.name}"
    assert set(flow_run["tags"]) == {
        annotated.score_set_urn,
        MAIN_JOB.name,
        "score_set",
        "pipeline",
    }
    keys = [step.key for step in MAIN_JOB.steps]
    task_runs = wait_until(
        lambda: [runs for runs in [mavedb.task_runs(annotated)] if len(runs) == len(keys)]
    )[0]
    assert sorted(
        Run(UUID(run["id"]), RunKind.TASK, run["name"]).job_key for run in task_runs
    ) == sorted(keys)
    # Prefect's client asks for a slot of each tag before it begins a task.
    assert [run["tags"] for run in task_runs] == [[]] * len(keys)


def test_a_run_by_hand_is_called_by_its_release_too(mavedb: MaveDB, annotated: Submitted) -> None:
    given = {"score_set_id": annotated.score_set_id, "year": 2025, "month": 1}
    flow_run_id = mavedb.create_flow_run("refresh_clinvar_controls", given)
    parts = [annotated.score_set_urn, "refresh_clinvar_controls", "01_2025"]

    def ended() -> Any:
        run = mavedb.prefect("GET", f"flow_runs/{flow_run_id}")
        return run if run["state_type"] == "COMPLETED" else None

    flow_run = wait_until(ended)
    assert flow_run["name"] == " ".join(parts)
    assert set(flow_run["tags"]) == {*parts, "score_set", "step"}


def test_a_pipelines_summary_says_what_became_of_its_steps_and_variants(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    shown = summary_of(mavedb, annotated)
    assert shown.startswith(f"# {MAIN_JOB.name}: succeeded\n")
    for step in MAIN_JOB.steps:
        assert f"| {step.key} | succeeded | 1 |" in shown
    account = mavedb.account(annotated)
    linked, absent = (
        sum(
            number
            for (annotation_type, status, _), number in account.items()
            if (annotation_type, status) == ("gnomad_allele_frequency", wanted)
        )
        for wanted in ("success", "skipped")
    )
    assert linked > 0
    assert f"| gnomad_allele_frequency | v4.1 | {linked} | 0 | {absent} |" in shown
    assert "What failed" not in shown


def test_a_failed_pipelines_summary_says_why_and_what_to_do(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=503):
        submitted = mavedb.submit(*brca1(10, seed=72))
        assert mavedb.wait_for(submitted) == "failed"
    shown = summary_of(mavedb, submitted)
    assert shown.startswith(f"# {MAIN_JOB.name}: failed\n")
    assert "**submit_score_set_mappings_to_car** (service_unavailable): " in shown
    assert "| link_gnomad_variants | skipped | 0 |" in shown
    assert "- 10 of clingen_allele_id: The step failed before it reached this variant. Run" in shown


def test_a_cancelled_pipeline_has_its_summary_too(mavedb: MaveDB) -> None:
    submitted = mavedb.submit(*brca1(10, seed=73))
    with mapper_at_work(mavedb, submitted.score_set_urn) as mapper:
        mapper.wait_until_it_has_read()
        cancel = {"state": {"type": "CANCELLING"}}
        mavedb.prefect("POST", f"flow_runs/{mavedb.flow_run(submitted)['id']}/set_state", cancel)
        assert mavedb.wait_for(submitted) == "cancelled"
    shown = summary_of(mavedb, submitted)
    assert shown.startswith(f"# {MAIN_JOB.name}: cancelled\n")
    assert "| map_variants_for_score_set | cancelled | 1 |" in shown


def test_a_step_that_takes_long_has_a_bar_that_ends_full(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    """Each look-up is of one allele and takes a second; five are made at once."""
    given = {"score_set_id": annotated.score_set_id}
    env = {"CLINGEN_CACHE_BACKEND": "memory", "CLINGEN_LOOKUP_BATCH_SIZE": "1"}
    with mavedb.fault(mavedb.stack.clingen_url, "slow", seconds=2, match="file=id"):
        flow_run_id = mavedb.create_flow_run("warm_clingen_cache", given, env=env)
        bars = wait_until(lambda: artifacts(mavedb, flow_run_id, "progress"))
    assert 0 < bars[0]["data"] < 100
    assert "ClinGen" in bars[0]["description"]
    assert bars[0]["task_run_id"] is not None
    wait_until(lambda: [bar["data"] for bar in artifacts(mavedb, flow_run_id, "progress")] == [100])


def test_a_prefect_that_refuses_is_asked_once_and_fails_nothing(
    mavedb: MaveDB, annotated: Submitted, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_ui, "_PROGRESS_INTERVAL_SECONDS", 0.0)
    flow_run_id = UUID(mavedb.flow_run(annotated)["id"])
    before = artifacts(mavedb, flow_run_id, "markdown")
    for answer in ((503, b"<html>Bad gateway"), (201, b"{}")):
        proxy.asked.clear()
        proxy.answer = lambda path, answer=answer: answer if path == ARTIFACTS else None
        bar = StepProgress(flow_run_id, flow_run_id)
        for percent in (1, 2, 3):
            bar.show(percent, "Asking")
        bar.end()
        assert proxy.asked.count(ARTIFACTS) == 1
    proxy.answer = lambda _path: (503, b"")
    summarise(flow_run_id)
    assert artifacts(mavedb, flow_run_id, "markdown") == before
    assert artifacts(mavedb, flow_run_id, "progress") == []


def test_a_prefect_that_does_not_answer_holds_up_no_step(
    mavedb: MaveDB, annotated: Submitted, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_ui, "_PROGRESS_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(prefect_ui, "_PATIENCE_SECONDS", 0.2)
    gone_on = threading.Event()

    def wait(_path: str) -> tuple[int, bytes]:
        assert gone_on.wait(timeout=60)
        return 503, b""

    proxy.answer = wait
    flow_run_id = UUID(mavedb.flow_run(annotated)["id"])
    try:
        StepProgress(flow_run_id, flow_run_id).show(1, "Asking")
        summarise(flow_run_id)
        # The proxy may hear of a request only when nobody waits for its answer any more.
        wait_until(lambda: len(proxy.asked) == 2)
    finally:
        gone_on.set()


def test_after_a_retry_the_newest_summary_is_shown(mavedb: MaveDB) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "set_error", body="No BLAT hit"):
        submitted = mavedb.submit(*brca1(10, seed=74))
        assert mavedb.wait_for(submitted) == "failed"
    flow_run_id = mavedb.flow_run(submitted)["id"]
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    mavedb.prefect("POST", f"flow_runs/{flow_run_id}/set_state", again)
    key = submitted.pipeline_urn.removeprefix("urn:mavedb:")
    wait_until(lambda: ": succeeded\n" in mavedb.prefect("GET", f"artifacts/{key}/latest")["data"])
