"""MaveDB's admin routes as we answer them: their filters, limits, order and errors."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy import text

from mavedb_audit.database import engine
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.recorder.plans import PlannedPipeline
from mavedb_audit.trigger import request_pipeline
from tests.support import insert_brca1
from tests.support_http import AuditServer

PLAN = PIPELINES["annotate_score_set"]
JOBS = len(PLAN.steps) + 1


def request(correlation_id: str = "of-ours") -> PlannedPipeline:
    """A pipeline that was asked for, of a new score set."""
    with engine().begin() as connection:
        _, score_set_id, user_id = insert_brca1(connection)
        params = {"score_set_id": score_set_id, "updater_id": user_id}
        return request_pipeline(connection, PLAN.name, params, user_id, correlation_id)


def change(sql: str, **params: Any) -> None:
    with engine().begin() as connection:
        connection.execute(text(sql), params)


@pytest.fixture
def failed_job(audit_server: AuditServer) -> Mapping[str, Any]:  # noqa: ARG001 - its database
    """A pipeline's job that failed a minute before, beside others that have not begun."""
    pipeline = request()
    with engine().begin() as connection:
        row = connection.execute(
            text(
                """
                UPDATE job_runs
                   SET status = 'failed', error_message = 'no answer', error_traceback = 'line 17',
                       failure_category = 'network_error', started_at = now() - interval '1 minute',
                       finished_at = now()
                 WHERE pipeline_id = :id AND job_function = :function RETURNING id, urn
                """
            ),
            {"id": pipeline.pipeline_id, "function": PLAN.steps[0].function},
        ).one()
    return {"id": row.id, "urn": row.urn, "pipeline": pipeline}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("resource", ["job-runs", "pipelines"])
def test_lists_answer_with_a_slash_and_without(
    audit_server: AuditServer, resource: str, slash: str
) -> None:
    request()
    answer = audit_server.reader.get(f"/api/v1/{resource}{slash}")
    assert answer.status_code == 200
    assert len(answer.json()) == {"job-runs": JOBS, "pipelines": 1}[resource]


def test_keys_are_camel_case_and_times_have_a_zone(
    audit_server: AuditServer, failed_job: Mapping[str, Any]
) -> None:
    job = audit_server.reader.get(f"/api/v1/job-runs/{failed_job['urn']}").json()
    assert job["errorTraceback"] == "line 17"
    assert job["failureCategory"] == "network_error"
    assert job["pipelineId"] == failed_job["pipeline"].pipeline_id
    assert job["finishedAt"].endswith("Z")
    listed = audit_server.reader.get("/api/v1/job-runs/", params={"status": "failed"}).json()
    del job["errorTraceback"]
    assert listed == [job]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"status": "failed"}, 1),
        ({"status": "pending"}, JOBS - 1),
        ({"job_function": PLAN.steps[0].function}, 1),
        ({"job_type": "pipeline_management"}, 1),
        ({"correlation_id": "of-ours"}, JOBS),
        ({"correlation_id": "of-others"}, 0),
        ({"pipeline_id": 2_000_000_000}, 0),
        ({"created_after": "2100-01-01T00:00:00Z"}, 0),
        ({"created_before": "2100-01-01T00:00:00Z"}, JOBS),
        ({"created_after": "2000-01-01T00:00:00"}, JOBS),
        ({"limit": 2}, 2),
        ({"offset": JOBS - 1}, 1),
    ],
)
@pytest.mark.usefixtures("failed_job")
def test_job_runs_are_filtered(
    audit_server: AuditServer, given: dict[str, Any], found: int
) -> None:
    answer = audit_server.reader.get("/api/v1/job-runs/", params=given)
    assert len(answer.json()) == found


def test_pipelines_are_filtered_and_newest_first(audit_server: AuditServer) -> None:
    older, newer = request("older"), request("newer")
    change("UPDATE pipelines SET status = 'failed' WHERE id = :id", id=older.pipeline_id)

    def urns(**given: Any) -> list[str]:
        answer = audit_server.reader.get("/api/v1/pipelines/", params=given)
        return [pipeline["urn"] for pipeline in answer.json()]

    assert urns() == [newer.pipeline_urn, older.pipeline_urn]
    assert urns(status="failed") == [older.pipeline_urn]
    assert urns(name=PLAN.name, limit=1) == [newer.pipeline_urn]
    assert urns(correlation_id="older") == [older.pipeline_urn]
    assert urns(created_by_user_id=2_000_000_000) == []
    assert urns(offset=1) == [older.pipeline_urn]


def test_one_pipeline_says_how_far_it_is(
    audit_server: AuditServer, failed_job: Mapping[str, Any]
) -> None:
    urn = failed_job["pipeline"].pipeline_urn
    progress = audit_server.reader.get(f"/api/v1/pipelines/{urn}").json()["progress"]
    assert progress["totalJobs"] == JOBS
    assert progress["failedJobs"] == 1
    assert progress["statusCounts"] == {"failed": 1, "pending": JOBS - 1}
    steps = audit_server.reader.get(f"/api/v1/pipelines/{urn}/steps").json()["steps"]
    assert {step["jobKey"] for step in steps} >= {step.key for step in PLAN.steps}
    assert [step["errorMessage"] for step in steps if step["status"] == "failed"] == ["no answer"]
    history = audit_server.reader.get(f"/api/v1/pipelines/{urn}/history").json()
    assert history["events"][0]["what"] == "requested"


@pytest.mark.parametrize(
    "path",
    [
        "job-runs/urn:mavedb:job-none",
        "pipelines/urn:mavedb:pipeline-none",
        "pipelines/urn:mavedb:pipeline-none/steps",
        "pipelines/urn:mavedb:pipeline-none/history",
        "pipelines/urn:mavedb:pipeline-none/events",
        "score-sets/urn:mavedb:none/annotation-account",
        "score-sets/urn:mavedb:none/variants?annotation_type=vrs_mapping",
        "variants/urn:mavedb:none%231/why",
    ],
)
def test_an_unknown_urn_is_404_and_named(audit_server: AuditServer, path: str) -> None:
    answer = audit_server.reader.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"detail"}
    assert "none" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "job-runs/?limit=0",
        "job-runs/?limit=501",
        "job-runs/?offset=-1",
        "job-runs/?offset=99999999999",
        "job-runs/?status=finished",
        "job-runs/?job_function=%00",
        "job-runs/?created_after=yesterday",
        "pipelines/%00",
        "job-runs/?created_after=0.5",
        "failures?by=colour",
        "failures?since=17",
        "score-sets/urn/variants",
        "score-sets/urn/variants?annotation_type=colour",
        "score-sets/urn/variants?annotation_type=vrs_mapping&status=colour",
        "score-sets/urn/variants?annotation_type=vrs_mapping&reason=colour",
        "variants/urn%231/why?annotation_type=colour",
    ],
)
def test_what_makes_no_sense_is_422(audit_server: AuditServer, path: str) -> None:
    answer = audit_server.reader.get(f"/api/v1/{path}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"]


def test_a_variants_urn_is_percent_encoded(audit_server: AuditServer) -> None:
    with engine().begin() as connection:
        score_set_urn, score_set_id, _ = insert_brca1(connection)
        variant_urn = f"{score_set_urn}#17"
        connection.execute(
            text(
                """
                INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
                VALUES (:urn, '{}', :id, CURRENT_DATE, CURRENT_DATE)
                """
            ),
            {"urn": variant_urn, "id": score_set_id},
        )
    answer = audit_server.reader.get(f"/api/v1/variants/{quote(variant_urn, safe='')}/why")
    assert answer.status_code == 200
    assert answer.json()["variantUrn"] == variant_urn
    account = audit_server.reader.get(f"/api/v1/score-sets/{score_set_urn}/annotation-account")
    assert account.json()["scoreSetUrn"] == score_set_urn


def test_a_foreign_cursor_is_400(audit_server: AuditServer) -> None:
    with engine().begin() as connection:
        urn, _, _ = insert_brca1(connection)
    answer = audit_server.reader.get(
        f"/api/v1/score-sets/{urn}/variants?annotation_type=vrs_mapping&cursor=mine"
    )
    assert answer.status_code == 400
    assert "'mine' is no cursor" in answer.json()["detail"]


def test_the_system_and_its_failures_are_told(
    audit_server: AuditServer, failed_job: Mapping[str, Any]
) -> None:
    system = audit_server.reader.get("/api/v1/system").json()
    assert system["requestsWaiting"] == 1
    assert system["pipelinesByStatus"] == {"created": 1}
    (group,) = audit_server.reader.get("/api/v1/failures", params={"by": "reason"}).json()
    assert group["jobs"] == 1
    assert group["exampleUrn"] == failed_job["urn"]
    assert audit_server.reader.get("/api/v1/failures?since=2100-01-01T00:00:00Z").json() == []


def test_without_prefect_no_verb_is_done(audit_server: AuditServer) -> None:
    answer = audit_server.operator.post(f"/api/v1/pipelines/{request().pipeline_urn}/pause")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("body", [{"reason": "a\x00b"}, {"reasons": "x"}, {"reason": 7}, [], "x"])
def test_a_verb_refuses_what_it_does_not_know(audit_server: AuditServer, body: Any) -> None:
    urn = f"urn:mavedb:pipeline-{uuid4()}"
    answer = audit_server.operator.post(f"/api/v1/pipelines/{urn}/cancel", json=body)
    assert answer.status_code == 422
