"""A step as it is seen from outside, in the whole deployment: its alert, its log, its spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mavedb_audit.alerts import alert_until
from mavedb_audit.alerts.findings import last_verification
from mavedb_audit.alerts.loops import find, verify_once
from mavedb_audit.settings import settings
from tests.support import FINAL, MaveDB, Submitted, brca1, wait_until
from tests.support_receiver import receiving
from tests.support_servers import served

STEP = "submit_score_set_mappings_to_car"


@contextmanager
def collecting() -> Iterator[tuple[str, list[Span]]]:
    """A collector of OTLP over HTTP: its address, and the spans that it got."""
    spans: list[Span] = []

    async def take(request: Request) -> Response:
        sent = ExportTraceServiceRequest.FromString(await request.body())
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                spans.extend(scope.spans)
        return Response()

    with served(Starlette(routes=[Route("/v1/traces", take, methods=["POST"])])) as server:
        yield server.url, spans


@contextmanager
def two_alert_loops() -> Iterator[None]:
    stop = threading.Event()
    loops = [threading.Thread(target=alert_until, args=(stop,)) for _ in range(2)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        stop.set()
        for loop in loops:
            loop.join()


@pytest.fixture(scope="module")
def mapped(mavedb: MaveDB) -> Submitted:
    submitted = mavedb.submit(*brca1(5))
    assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def run(mavedb: MaveDB, mapped: Submitted, correlation_id: str, **env: str) -> str:
    """Run the step by hand, to its end; the flow run's id."""
    parameters = {
        "score_set_id": mapped.score_set_id,
        "updater_id": mapped.user_id,
        "correlation_id": correlation_id,
    }
    flow_run_id = mavedb.create_flow_run(STEP, parameters, env=env)
    wait_until(lambda: mavedb.prefect("GET", f"flow_runs/{flow_run_id}")["state_type"] in FINAL)
    return str(flow_run_id)


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_what_fails_for_good_is_told_once_and_what_succeeds_in_the_end_never(
    mavedb: MaveDB, mapped: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("SLACK_WEBHOOK_URL", receiver.url)
        monkeypatch.setenv("ALERT_INTERVAL_SECONDS", "0.2")
        monkeypatch.setenv("ALERT_DELAY_SECONDS", "1")
        settings.cache_clear()
        find(["slack"])
        with two_alert_loops():
            with mavedb.fault(mavedb.stack.clingen_url, "status", status=503, times=1):
                recovered = run(mavedb, mapped, "recovers")
            with mavedb.fault(mavedb.stack.clingen_url, "status", status=503):
                failed = run(mavedb, mapped, "fails")
            wait_until(lambda: receiver.received)
            # Whoever reports the same end: hooks, the mirror, and the reconciler after a while.
            settled = """
                SELECT bool_and(settled_at IS NOT NULL) FROM prefect_runs
                  JOIN pipelines ON pipelines.id = pipeline_id WHERE urn = :urn
            """
            urn = f"urn:mavedb:pipeline-{failed}"
            wait_until(lambda: mavedb.value(settled, urn=urn))
            assert find(["slack"]) == 0
    monkeypatch.undo()
    settings.cache_clear()
    attempts = """
        SELECT count(*) FROM job_attempts JOIN job_runs ON job_runs.id = job_id
          JOIN pipelines ON pipelines.id = pipeline_id WHERE pipelines.urn = :urn
    """
    assert mavedb.value(attempts, urn=f"urn:mavedb:pipeline-{recovered}") == 2
    # The service that was asked in vain may be told, too.
    (told,) = [one.json for one in receiver.received if " ended " in one.json["text"]]
    assert told["text"] == f"{STEP} of {mapped.score_set_urn} ended failed"
    assert "correlation id fails" in str(told["blocks"])
    assert "failed after 3 attempts, service_unavailable" in str(told["blocks"])


def test_its_log_and_its_spans_carry_the_correlation_id(mavedb: MaveDB, mapped: Submitted) -> None:
    with collecting() as (endpoint, spans):
        flow_run_id = run(
            mavedb,
            mapped,
            "correlation-17",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            PREFECT_LOGGING_ROOT_LEVEL="INFO",
            PREFECT_LOGGING_EXTRA_LOGGERS="mavedb_audit",
        )
        wait_until(lambda: {"step", "service.request"} <= {s.name for s in spans})
    pipeline_urn = f"urn:mavedb:pipeline-{flow_run_id}"
    assert {attributes(span)["correlation_id"] for span in spans} == {"correlation-17"}
    (step,) = [span for span in spans if span.name == "step"]
    requests = [span for span in spans if span.name == "service.request"]
    assert attributes(step)["step"] == STEP
    assert attributes(step)["pipeline_urn"] == pipeline_urn
    assert {request.parent_span_id for request in requests} == {step.span_id}
    assert attributes(requests[0])["method"] == "PUT"

    def lines() -> list[str]:
        of_run = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}}
        logs = mavedb.prefect("POST", "logs/filter", of_run)
        return [log["message"] for log in logs if log["message"].startswith("attempt.")]

    began, ended = wait_until(lambda: found if len(found := lines()) == 2 else None)
    job_urn = mavedb.value(
        "SELECT job.urn FROM job_runs AS job JOIN pipelines ON pipelines.id = pipeline_id"
        " WHERE pipelines.urn = :urn AND job_function = :step",
        urn=pipeline_urn,
        step=STEP,
    )
    for said in (
        "correlation_id=correlation-17",
        f"pipeline_urn={pipeline_urn}",
        f"job_urn={job_urn}",
    ):
        assert said in began
        assert said in ended
    assert "state=Completed" in ended


def test_what_lasts_of_what_verify_finds_is_written_down(
    mavedb: MaveDB, mapped: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_INTERVAL_SECONDS", "0.5")
    monkeypatch.setenv("RECONCILE_GRACE_SECONDS", "0.5")
    settings.cache_clear()

    def broken() -> int:
        mavedb.execute("DELETE FROM alert_checks WHERE name = 'verification'")
        assert verify_once(threading.Event(), 3600)
        with mavedb.engine.connect() as connection:
            verified = last_verification(connection)
        assert verified is not None
        return verified[1]["broken"]

    before = broken()
    off = "UPDATE job_runs SET retry_count = retry_count + {} WHERE pipeline_id = :id"
    mavedb.execute(off.format(1), id=mapped.pipeline_id)
    jobs = len(mavedb.jobs(mapped))
    assert broken() == before + jobs
    mavedb.execute(off.format(-1), id=mapped.pipeline_id)
    assert broken() == before
    monkeypatch.undo()
    settings.cache_clear()
