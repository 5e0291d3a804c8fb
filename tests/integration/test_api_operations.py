"""The operators' verbs over HTTP, on real pipelines in Prefect."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from deployments.local.stack import Stack
from mavedb_audit.tokens import Role, new_token
from tests.support import MaveDB, Submitted, brca1, no_worker_takes_runs, wait_until
from tests.support_http import bearer
from tests.support_processes import pid_of, stopped

MAPPER_LATENCY_SECONDS = 2.0


@pytest.fixture
def operator(stack: Stack) -> Iterator[httpx.Client]:
    """Somebody who asks the `serve` of the deployment."""
    with httpx.Client(
        base_url=f"{stack.audit_url}/api/v1", headers=bearer(stack.audit_token), timeout=90
    ) as client:
        yield client


@pytest.fixture
def act(operator: httpx.Client) -> Callable[..., httpx.Response]:
    def act_on(submitted: Submitted, verb: str, **body: Any) -> httpx.Response:
        return operator.post(f"/pipelines/{submitted.pipeline_urn}/{verb}", json=body or None)

    return act_on


def actions(operator: httpx.Client, submitted: Submitted) -> list[tuple[str, str, str | None]]:
    """What was done to the pipeline, by whom and why, as the steps' route tells it."""
    detail = operator.get(f"/pipelines/{submitted.pipeline_urn}/steps").raise_for_status().json()
    return [(one["action"], one["actor"], one["reason"]) for one in detail["actions"]]


def test_a_pipeline_is_paused_resumed_cancelled_and_retried(
    mavedb: MaveDB, operator: httpx.Client, act: Callable[..., httpx.Response]
) -> None:
    with no_worker_takes_runs(mavedb):
        submitted = mavedb.submit(*brca1(5))
        paused = act(submitted, "pause", reason="the wrong file")
        assert paused.status_code == 200, paused.text
        assert paused.json() == {"urn": submitted.pipeline_urn, "status": "paused"}
        again = act(submitted, "pause")
        assert again.status_code == 409
        assert "which is paused" in again.json()["detail"]
        resumed = act(submitted, "resume")
        assert resumed.status_code == 200, resumed.text
        cancelled = act(submitted, "cancel", reason="after all")
        assert cancelled.json()["status"] == "cancelled"
    assert mavedb.wait_for(submitted) == "cancelled"
    retried = act(submitted, "retry", onlyFailed=False)
    assert retried.status_code == 200, retried.text
    assert mavedb.wait_for(submitted) == "succeeded"
    assert actions(operator, submitted) == [
        ("pause", "local", "the wrong file"),
        ("resume", "local", None),
        ("cancel", "local", "after all"),
        ("retry_unsuccessful", "local", None),
    ]
    mavedb.assert_every_variant_is_accounted_for(submitted)


def test_failed_variants_are_annotated_again_and_failed_jobs_run_again(
    mavedb: MaveDB, operator: httpx.Client, act: Callable[..., httpx.Response]
) -> None:
    with mavedb.fault(mavedb.stack.clingen_url, "rejected", times=1):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "succeeded"
    no_job_failed = act(submitted, "retry")
    assert no_job_failed.status_code == 409

    path = f"/score-sets/{submitted.score_set_urn}/rerun-failed"
    rerun = operator.post(path, json={"reason": "ClinGen is back"})
    assert rerun.status_code == 201, rerun.text
    with operator.stream("GET", f"/pipelines/{rerun.json()['urn']}/events") as events:
        told = [line for line in events.iter_lines() if line.startswith("event: ")]
    assert told[-1] == "event: ended"
    assert set(told[:-1]) == {"event: progress"}
    assert operator.post(path).status_code == 409

    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403):
        assert act(submitted, "restart", reason="anew").status_code == 200
        assert mavedb.wait_for(submitted) == "failed"
    assert act(submitted, "retry").status_code == 200
    assert mavedb.wait_for(submitted) == "succeeded"
    assert actions(operator, submitted) == [
        ("restart", "local", "anew"),
        ("retry_failed", "local", None),
    ]


def test_steps_tell_of_a_running_pipeline(
    mavedb: MaveDB, operator: httpx.Client, act: Callable[..., httpx.Response]
) -> None:
    with mavedb.fault(mavedb.stack.mapper_url, "slow", seconds=MAPPER_LATENCY_SECONDS):
        submitted = mavedb.submit(*brca1(5))
        running = wait_until(lambda: _running(operator, submitted))
        assert running["elapsedSeconds"] >= 0
        assert act(submitted, "retry").status_code == 409
        assert mavedb.wait_for(submitted) == "succeeded"


def _running(operator: httpx.Client, submitted: Submitted) -> dict[str, Any] | None:
    """The step that runs now, once it has begun its first attempt."""
    detail = operator.get(f"/pipelines/{submitted.pipeline_urn}/steps").json()
    steps = (step for step in detail["steps"] if step["status"] == "running")
    return next((step for step in steps if step["attempts"] == 1), None)


def test_the_deployment_lets_in_who_has_its_token_alone(stack: Stack) -> None:
    stranger, _ = new_token("stranger", Role.OPERATE)
    url = f"{stack.audit_url}/api/v1/system"
    assert httpx.get(url, headers=bearer(stack.audit_token)).status_code == 200
    assert httpx.get(url, headers=bearer(stranger)).status_code == 401
    assert httpx.get(url).status_code == 401


def test_verbs_without_prefect_are_503_and_change_nothing(
    mavedb: MaveDB, operator: httpx.Client, act: Callable[..., httpx.Response]
) -> None:
    submitted = mavedb.submit(*brca1(5))
    assert mavedb.wait_for(submitted) == "succeeded"
    with stopped(pid_of(mavedb, "prefect")):
        answer = act(submitted, "restart")
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "5"
    assert actions(operator, submitted) == []
    assert mavedb.wait_for(submitted) == "succeeded"
