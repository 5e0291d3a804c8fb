"""What Prometheus gets at /metrics."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, text

from mavedb_audit.exposition import METRICS, Exposition
from tests.support import insert_numbered_variants
from tests.support_http import AuditServer
from tests.support_recorder import CAR, GNOMAD, Pipeline, plan, plan_two_steps

RULES = Path(__file__).parents[2] / "deployments" / "production" / "prometheus-rules.yaml"


@pytest.fixture
def engine(domain_database: str, use_database: Callable[[str], None]) -> Iterator[Engine]:
    use_database(domain_database)
    engine = create_engine(domain_database)
    yield engine
    engine.dispose()


@pytest.fixture
def plan_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Pipeline]:
    plan_two_steps(monkeypatch)
    with engine.begin() as connection:
        score_set_id, _ = insert_numbered_variants(connection, 3)

    def plan_one() -> Pipeline:
        with engine.begin() as connection:
            planned = plan(connection, score_set_id)
        pipeline = Pipeline(engine, score_set_id, planned)
        pipeline.open()
        return pipeline

    return plan_one


def play(pipeline: Pipeline, seconds: float) -> None:
    """Its first step succeeds, the second fails; each took so long and asked something."""
    pipeline.finish(pipeline.begin(CAR))
    pipeline.fail(pipeline.begin(GNOMAD))
    with pipeline.engine.begin() as connection:
        connection.execute(
            text(
                """
                UPDATE job_metrics
                   SET wall_seconds = :seconds, cache_hits = 2, cache_misses = 1, variants = 3,
                       http_requests = '{"ClinGen": {"2xx": 2, "5xx": 1}, "gnomAD": {"ok": 1}}'
                  FROM job_attempts AS attempt JOIN job_runs AS job ON job.id = attempt.job_id
                 WHERE attempt.id = attempt_id AND job.pipeline_id = :id
                """
            ),
            {"seconds": seconds, "id": pipeline.planned.pipeline_id},
        )


def samples(exposed: str) -> dict[str, float]:
    """Each sample by its name, without the prefix, and its labels."""
    return {
        " ".join(
            [
                sample.name.removeprefix("mavedb_audit_"),
                *(f"{name}={value}" for name, value in sorted(sample.labels.items())),
            ]
        ): sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
    }


def test_it_says_what_the_database_holds(
    plan_one: Callable[[], Pipeline], audit_server: AuditServer
) -> None:
    play(plan_one(), 2.5)
    play(plan_one(), 100)
    plan_one()
    answer = audit_server.reader.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.text)
    assert found["pipelines status=partial"] == 2
    assert found["pipelines status=running"] == 1
    assert found["runs_open"] == 3
    assert found[f"attempts_total outcome=succeeded step={CAR}"] == 2
    assert found[f"attempts_total outcome=failed step={GNOMAD}"] == 2
    assert found["service_requests_total outcome=2xx service=ClinGen"] == 8
    assert found["service_requests_total outcome=ok service=gnomAD"] == 4
    assert (found["cache_lookups_total result=hit"], found["cache_lookups_total result=miss"]) == (
        8,
        4,
    )
    assert found[f"variants_total step={CAR}"] == 6
    in_buckets = [
        found[f"step_seconds_bucket le={end} step={CAR}"] for end in ("1.0", "5.0", "300.0", "+Inf")
    ]
    assert in_buckets == [0, 1, 2, 2]
    assert found[f"step_seconds_sum step={CAR}"] == 102.5
    assert found["circuit_open service=ClinGen"] == 0
    assert audit_server.reader.get("/metrics").text == answer.text, "it is kept for a while"


def test_nobody_without_a_token_sees_it(audit_server: AuditServer) -> None:
    assert audit_server.stranger.get("/metrics").status_code == 401


def test_counters_count_on_whatever_is_pruned_and_as_attempts_end(
    engine: Engine, plan_one: Callable[[], Pipeline]
) -> None:
    exposition = Exposition(kept_seconds=0)

    def attempts() -> tuple[float | None, float | None]:
        found = samples(exposition.text().decode())
        return (
            found.get(f"attempts_total outcome=succeeded step={CAR}"),
            found.get("service_requests_total outcome=5xx service=ClinGen"),
        )

    open_one = plan_one()
    slow = open_one.begin(CAR)
    play(plan_one(), 1)
    assert attempts() == (1, 2)
    # As after a thousand others: what is older than any open attempt is summed up once.
    with engine.begin() as connection:
        connection.execute(text("SELECT setval('job_attempts_id_seq', 5000)"))
    play(plan_one(), 1)
    assert attempts() == (2, 4)
    open_one.finish(slow)
    assert attempts() == (3, 4)
    assert attempts() == (3, 4)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM job_attempts WHERE id < 5000"))
    assert attempts() == (3, 4)
    play(plan_one(), 1)
    assert attempts() == (4, 6)


def test_the_rules_for_prometheus_ask_for_metrics_that_there_are() -> None:
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    names = {f"mavedb_audit_{one.name}{'_total' * (one.kind == 'counter')}" for one in METRICS}
    for rule in rules:
        asked = set(re.findall(r"mavedb_audit_\w+", rule["expr"]))
        assert asked, rule["alert"]
        assert asked <= names, rule["alert"]
        assert rule["annotations"]["summary"]
