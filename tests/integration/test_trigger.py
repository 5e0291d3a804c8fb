"""From a request in MaveDB's transaction to one flow run in Prefect."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from deployments.local.stack import Stack
from deployments.local.submission import insert_score_set
from mavedb_audit.dispatcher import dispatch_next
from mavedb_audit.errors import RequestError
from mavedb_audit.recorder.plans import PlannedPipeline
from mavedb_audit.trigger import request_pipeline
from tests.support import MAIN_JOB

UPLOAD: dict[str, Any] = {
    "updater_id": 1,
    "scores_file_key": "1/1/2026-11-24-1-scores.csv",
    "counts_file_key": None,
    "score_columns_metadata": {},
    "count_columns_metadata": {},
}


@pytest.fixture
def engine(domain_database: str, use_database: Callable[[str], None]) -> Iterator[Engine]:
    """The domain database, in this process and in no other's."""
    use_database(domain_database)
    engine = create_engine(domain_database)
    yield engine
    engine.dispose()


@pytest.fixture
def score_set_id(engine: Engine) -> int:
    with engine.begin() as connection:
        score_set_id, _ = insert_score_set(
            connection,
            urn="urn:mavedb:00000001-a-1",
            title="A score set",
            target_name="ABC",
            sequence="ATGGCT",
            sequence_type="dna",
            user="curator",
        )
    return score_set_id


def request(session: Session, score_set_id: int | None) -> PlannedPipeline:
    params = {**UPLOAD, "score_set_id": score_set_id}
    return request_pipeline(session, "validate_map_annotate_score_set", params, 1, "c0ffee")


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_the_whole_plan_is_there_before_anything_runs(engine: Engine, score_set_id: int) -> None:
    with Session(engine) as session, session.begin():
        planned = request(session, score_set_id)
    assert planned.pipeline_urn.startswith("urn:mavedb:pipeline-")
    assert rows(
        engine,
        "SELECT urn, name, status, correlation_id, created_by_user_id, started_at FROM pipelines",
    ) == [
        (
            planned.pipeline_urn,
            "validate_map_annotate_score_set",
            "created",
            "c0ffee",
            1,
            None,
        )
    ]
    jobs = rows(
        engine,
        """
        SELECT job_function, job_type, status, max_retries, retry_count, correlation_id, job_params
          FROM job_runs ORDER BY id
        """,
    )
    common = ("pending", 3, 0, "c0ffee")
    given = {"correlation_id": "c0ffee", "score_set_id": score_set_id}
    assert [job[0] for job in jobs[1:]] == [step.function for step in MAIN_JOB.steps]
    assert jobs[:5] == [
        ("start_pipeline", "pipeline_management", *common, {}),
        (
            "create_variants_for_score_set",
            "variant_creation",
            *common,
            {**given, **UPLOAD},
        ),
        (
            "map_variants_for_score_set",
            "variant_mapping",
            *common,
            {**given, "updater_id": 1},
        ),
        (
            "submit_score_set_mappings_to_car",
            "mapped_variant_annotation",
            *common,
            {**given, "updater_id": 1},
        ),
        ("link_gnomad_variants", "mapped_variant_annotation", *common, given),
    ]
    dependencies = rows(
        engine,
        """
        SELECT child.job_function, parent.job_function, dependency_type
          FROM job_dependencies AS dependency
          JOIN job_runs AS child ON child.id = dependency.id
          JOIN job_runs AS parent ON parent.id = depends_on_job_id ORDER BY child.id
        """,
    )
    assert len(dependencies) == sum(len(step.after) for step in MAIN_JOB.steps)
    assert dependencies[:3] == [
        ("map_variants_for_score_set", "create_variants_for_score_set", "success_required"),
        ("submit_score_set_mappings_to_car", "map_variants_for_score_set", "success_required"),
        ("link_gnomad_variants", "submit_score_set_mappings_to_car", "success_required"),
    ]


def test_a_request_that_is_rolled_back_never_happened(
    engine: Engine, score_set_id: int, stack: Stack
) -> None:
    with Session(engine) as session:
        request(session, score_set_id)
        session.rollback()
    for table in ("pipelines", "job_runs", "planned_jobs", "pipeline_requests"):
        assert rows(engine, f"SELECT count(*) FROM {table}") == [(0,)]
    with SyncPrefectClient(stack.prefect_api_url) as prefect:
        assert dispatch_next(prefect) is False


@pytest.mark.parametrize(
    ("unknown", "says"), [(999, "no score set with the id 999"), (None, "score_set_id is missing")]
)
def test_a_request_for_an_unknown_score_set_is_refused(
    engine: Engine, unknown: int | None, says: str
) -> None:
    with Session(engine) as session, pytest.raises(RequestError, match=says):
        request(session, unknown)


def test_a_request_waits_while_prefect_is_down_and_goes_out_once(
    engine: Engine, score_set_id: int, stack: Stack
) -> None:
    with Session(engine) as session, session.begin():
        planned = request(session, score_set_id)
    with SyncPrefectClient("http://127.0.0.1:9/api") as nobody:
        assert dispatch_next(nobody) is True
        assert dispatch_next(nobody) is False
    waiting = "SELECT dispatched_at, dispatch_count, last_error, next_dispatch_at > now()"
    (dispatched_at, count, last_error, later) = rows(engine, f"{waiting} FROM pipeline_requests")[0]
    assert (dispatched_at, count, later) == (None, 1, True)
    assert "PREFECT_API_URL" in last_error

    with engine.begin() as connection:
        connection.execute(text("UPDATE pipeline_requests SET next_dispatch_at = now()"))
    with SyncPrefectClient(stack.prefect_api_url) as prefect:
        assert dispatch_next(prefect) is True
        assert dispatch_next(prefect) is False
        flow_run_id = rows(engine, "SELECT flow_run_id FROM pipeline_requests")[0][0]
        flow_run = prefect.read_flow_run(flow_run_id)
        prefect.delete_flow_run(flow_run_id)
    assert flow_run.parameters == {"pipeline_urn": planned.pipeline_urn}
    assert flow_run.idempotency_key == planned.pipeline_urn
    assert flow_run.name.startswith("urn:mavedb:00000001-a-1 ")


def test_a_request_that_was_sent_but_not_noted_makes_no_second_flow_run(
    engine: Engine, score_set_id: int, stack: Stack
) -> None:
    with Session(engine) as session, session.begin():
        request(session, score_set_id)
    sent = []
    with SyncPrefectClient(stack.prefect_api_url) as prefect:
        for _ in range(2):
            assert dispatch_next(prefect) is True
            sent.append(rows(engine, "SELECT flow_run_id FROM pipeline_requests")[0][0])
            with engine.begin() as connection:
                connection.execute(
                    text("UPDATE pipeline_requests SET dispatched_at = NULL, flow_run_id = NULL")
                )
        prefect.delete_flow_run(sent[0])
    assert sent[0] == sent[1]


def test_two_dispatchers_share_the_requests(
    engine: Engine, score_set_id: int, stack: Stack
) -> None:
    with Session(engine) as session, session.begin():
        for _ in range(6):
            request(session, score_set_id)
    taken: list[int] = []

    def dispatch() -> None:
        with SyncPrefectClient(stack.prefect_api_url) as prefect:
            count = 0
            while dispatch_next(prefect):
                count += 1
            taken.append(count)

    dispatchers = [threading.Thread(target=dispatch) for _ in range(2)]
    for dispatcher in dispatchers:
        dispatcher.start()
    for dispatcher in dispatchers:
        dispatcher.join()
    sent = rows(engine, "SELECT flow_run_id, dispatch_count FROM pipeline_requests")
    with SyncPrefectClient(stack.prefect_api_url) as prefect:
        for flow_run_id, _ in sent:
            prefect.delete_flow_run(flow_run_id)
    assert sum(taken) == 6
    assert {count for _, count in sent} == {1}
    assert len({flow_run_id for flow_run_id, _ in sent}) == 6


def test_a_missing_deployment_is_named(engine: Engine, score_set_id: int, stack: Stack) -> None:
    with Session(engine) as session, session.begin():
        request(session, score_set_id)
        session.execute(text("UPDATE pipelines SET name = 'annotate_everything'"))
    with SyncPrefectClient(stack.prefect_api_url) as prefect:
        dispatch_next(prefect)
    last_error = rows(engine, "SELECT last_error FROM pipeline_requests")[0][0]
    assert "no deployment annotate_everything/mavedb" in last_error
    assert "deploy --all" in last_error
