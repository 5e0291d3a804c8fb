"""What is worth an alert: once each, and never what is tried again."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from mavedb_audit import alerts as alerting
from mavedb_audit.alerts.findings import claim_verification, note_verification
from mavedb_audit.alerts.loops import find
from mavedb_audit.cli.problems import problems_of
from mavedb_audit.metrics import Meter
from mavedb_audit.queries.system import system
from mavedb_audit.recorder import attempts
from mavedb_audit.recorder.closing import lock_pipeline
from mavedb_audit.recorder.resetting import Selection, reopen_pipeline, reset_jobs
from mavedb_audit.settings import settings
from tests.support import insert_numbered_variants, wait_until
from tests.support_receiver import Receiver, receiving
from tests.support_recorder import CAR, GNOMAD, Pipeline, plan, plan_two_steps

SLACK = ["slack"]


@pytest.fixture
def engine(
    domain_database: str,
    use_database: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Engine]:
    monkeypatch.setenv("ALERT_DELAY_SECONDS", "0")
    use_database(domain_database)
    engine = create_engine(domain_database)
    yield engine
    engine.dispose()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def plan_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Pipeline]:
    """Plans a pipeline of two steps on the same score set, and opens it, after a first look."""
    plan_two_steps(monkeypatch)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)
    find(SLACK)

    def plan_one() -> Pipeline:
        with engine.begin() as connection:
            planned = plan(connection, score_set_id)
        pipeline = Pipeline(engine, score_set_id, planned)
        pipeline.open()
        return pipeline

    return plan_one


def found(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT * FROM alerts ORDER BY id")))


def test_a_pipeline_that_failed_is_one_alert_however_often_it_is_looked_for(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    pipeline = plan_one()
    pipeline.fail(pipeline.begin(CAR))
    looks = [threading.Thread(target=find, args=(SLACK,)) for _ in range(4)]
    for look in looks:
        look.start()
    for look in looks:
        look.join()
    assert find(SLACK) == 0
    (alert,) = found(engine)
    assert (alert.kind, alert.subject) == ("pipeline_failed", pipeline.planned.pipeline_urn)
    said = alert.payload
    assert said["title"] == "annotate_score_set of tmp:numbered ended failed"
    assert said["text"] == f"{CAR} failed after 1 attempt, service_unavailable: ClinGen is down"
    assert said["hint"].startswith("Once the service answers again, `mavedb-audit retry ")
    assert [step["jobKey"] for step in said["pipeline"]["failedSteps"]] == [CAR]


def test_a_failed_leaf_is_told_as_partial(engine: Engine, plan_one: Callable[[], Pipeline]) -> None:
    pipeline = plan_one()
    pipeline.finish(pipeline.begin(CAR))
    pipeline.fail(pipeline.begin(GNOMAD))
    assert find(SLACK) == 1
    assert found(engine)[0].payload["pipeline"]["status"] == "partial"


def test_what_is_tried_again_is_no_alert(engine: Engine, plan_one: Callable[[], Pipeline]) -> None:
    pipeline = plan_one()
    pipeline.fail(pipeline.begin(CAR), will_be_retried=True)
    assert find(SLACK) == 0
    pipeline.finish(pipeline.begin(CAR, run_count=2))
    pipeline.finish(pipeline.begin(GNOMAD))
    assert pipeline.statuses["pipeline"] == "succeeded"
    assert find(SLACK) == 0
    assert found(engine) == []


def test_a_pipeline_that_is_run_again_and_fails_anew_is_another_alert(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    pipeline = plan_one()
    pipeline.fail(pipeline.begin(CAR))
    find(SLACK)
    with engine.begin() as connection:
        lock_pipeline(connection, pipeline.planned.pipeline_id)
        reset_jobs(connection, pipeline.planned.pipeline_id, Selection.FAILED)
        reopen_pipeline(connection, pipeline.planned.pipeline_id)
    assert find(SLACK) == 0
    pipeline.fail(pipeline.begin(CAR, run_count=2))
    assert find(SLACK) == 1
    first, second = found(engine)
    assert first.subject == second.subject
    assert first.key != second.key


def test_a_step_that_is_switched_off_is_no_failure(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    pipeline = plan_one()
    attempt = pipeline.begin(CAR)
    with engine.begin() as connection:
        attempts.skip_attempt(connection, attempt, "switched off", Meter().usage())
    assert pipeline.statuses["pipeline"] == "partial"
    assert find(SLACK) == 0


def test_what_had_failed_before_anybody_looked_is_no_news(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    pipeline = plan_one()
    pipeline.fail(pipeline.begin(CAR))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM alert_checks"))
    assert find(SLACK) == 0
    another = plan_one()
    another.fail(another.begin(CAR))
    assert find(SLACK) == 1
    assert found(engine)[0].subject == another.planned.pipeline_urn


def test_a_failure_is_told_only_after_the_delay(
    plan_one: Callable[[], Pipeline], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_DELAY_SECONDS", "3600")
    settings.cache_clear()
    pipeline = plan_one()
    pipeline.fail(pipeline.begin(CAR))
    assert find(SLACK) == 0
    with engine.begin() as connection:
        connection.execute(
            text(
                """
                UPDATE pipelines SET finished_at = finished_at - interval '1 hour';
                UPDATE alert_checks SET began_at = began_at - interval '1 day',
                                        checked_at = checked_at - interval '1 day'
                """
            )
        )
    assert find(SLACK) == 1


def ask(engine: Engine, pipeline: Pipeline, outcome: str) -> None:
    """An attempt that asked ClinGen once, with this outcome."""
    attempt = pipeline.begin(CAR)
    pipeline.fail(attempt)
    with engine.begin() as connection:
        connection.execute(
            text(
                """
                UPDATE job_metrics
                   SET http_requests = jsonb_build_object('ClinGen',
                                                          jsonb_build_object(:outcome, 1))
                 WHERE attempt_id = :id
                """
            ).bindparams(outcome=outcome, id=attempt.attempt_id)
        )


def test_a_service_out_of_reach_is_told_once_and_so_is_its_return(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    def kinds() -> list[tuple[str, str]]:
        return [
            (alert.kind, alert.subject)
            for alert in found(engine)
            if alert.kind.startswith("circuit")
        ]

    ask(engine, plan_one(), "5xx")
    ask(engine, plan_one(), "no answer")
    find(SLACK)
    assert kinds() == []
    ask(engine, plan_one(), "5xx")
    looks = [threading.Thread(target=find, args=(SLACK,)) for _ in range(4)]
    for look in looks:
        look.start()
    for look in looks:
        look.join()
    assert kinds() == [("circuit_open", "ClinGen")]
    assert "ClinGen is down" in found(engine)[-1].payload["text"]
    ask(engine, plan_one(), "2xx")
    find(SLACK)
    find(SLACK)
    assert kinds() == [("circuit_open", "ClinGen"), ("circuit_closed", "ClinGen")]
    for _ in range(3):
        ask(engine, plan_one(), "5xx")
    find(SLACK)
    assert kinds()[2:] == [("circuit_open", "ClinGen")]


def test_a_mirror_that_lags_and_catches_up_is_told(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    pipeline = plan_one()
    pipeline.task(CAR, "RUNNING")
    assert find(SLACK) == 0
    late = "UPDATE prefect_transitions SET timestamp = recorded_at - interval '{} seconds'"
    with engine.begin() as connection:
        connection.execute(text(late.format(500)))
    assert find(SLACK) == 1
    assert find(SLACK) == 0
    assert found(engine)[0].payload["title"] == "The audit is 500 seconds behind Prefect"
    with engine.begin() as connection:
        connection.execute(text(late.format(100)))
    assert find(SLACK) == 0, "100 seconds are less than the limit, but not less than its half"
    with engine.begin() as connection:
        connection.execute(text(late.format(1)))
    assert find(SLACK) == 1
    assert [alert.kind for alert in found(engine)] == ["mirror_lag", "mirror_caught_up"]


def test_what_verify_found_is_told_until_it_finds_nothing(engine: Engine) -> None:
    def verified(**found: int) -> list[str]:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM alert_checks"))
            assert claim_verification(connection, 3600) is not None
            assert claim_verification(connection, 3600) is None, "one service does it"
            note_verification(connection, {"differences": 0, "broken": 0, "unanswered": 0} | found)
        find(SLACK)
        with engine.connect() as connection:
            return list(connection.execute(text("SELECT kind FROM alerts ORDER BY id")).scalars())

    assert verified() == []
    assert verified(broken=2, differences=1) == ["audit_differs"]
    assert "broken: 2, differences: 1" in found(engine)[0].payload["text"]
    assert verified(broken=2) == ["audit_differs"]
    assert verified() == ["audit_differs", "audit_agrees"]
    assert verified(unanswered=1) == ["audit_differs", "audit_agrees", "audit_differs"]


def test_an_alert_that_is_not_taken_is_shown(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                """
                INSERT INTO alerts (key, kind, subject, payload, is_open)
                VALUES ('k', 'mirror_lag', 'audit', '{}', false);
                INSERT INTO alert_deliveries (alert_id, channel, gave_up_at, last_error)
                SELECT id, 'slack', now(), 'HTTP 404: no_team' FROM alerts;
                """
            )
        )
        shown = system(connection)
    assert (shown.alerts_waiting, shown.alerts_given_up) == (0, 1)
    assert shown.alert_error == "slack: HTTP 404: no_team"
    assert any("HTTP 404: no_team" in problem for problem in problems_of(shown))


def test_the_loop_tells_slack_of_a_failure(
    plan_one: Callable[[], Pipeline],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLACK_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("AUDIT_PAGE_URL", "https://audit.example.org")
    monkeypatch.setenv("ALERT_INTERVAL_SECONDS", "0.1")
    settings.cache_clear()
    stop = threading.Event()
    # As two services do.
    loops = [threading.Thread(target=alerting.alert_until, args=(stop,)) for _ in range(2)]
    for loop in loops:
        loop.start()
    try:
        pipelines = [plan_one() for _ in range(12)]
        for pipeline in pipelines:
            pipeline.fail(pipeline.begin(CAR))
        wait_until(lambda: len(receiver.received) >= 12)
        unsent = "SELECT count(*) FROM alert_deliveries WHERE sent_at IS NULL"
        wait_until(lambda: pipelines[0].rows(unsent) == [(0,)])
    finally:
        stop.set()
        for loop in loops:
            loop.join()
    assert len(receiver.keys) == len(set(receiver.keys)) == 12
    body = receiver.received[0].json
    assert body["text"] == "annotate_score_set of tmp:numbered ended failed"
    shown = str(body["blocks"])
    assert "ClinGen is down" in shown
    assert "<https://audit.example.org/pipelines/urn:mavedb:pipeline-" in shown
    assert "mavedb-audit retry urn:mavedb:pipeline-" in shown
