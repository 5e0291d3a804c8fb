"""MaveDB's own admin view models read what our routes answer, on its own tables."""

import os
import subprocess
import sys
from typing import Any

import pytest
from mavedb.view_models.job_run import JobRunDetail, SavedJobRun
from mavedb.view_models.pipeline import PipelineDetail, SavedPipeline
from pydantic import BaseModel
from sqlalchemy import text

from deployments.local.stack import PROJECT
from mavedb_audit.database import engine
from mavedb_audit.recorder.plans import PlannedPipeline
from mavedb_audit.trigger import request_pipeline
from tests.support import insert_brca1
from tests.support_http import AuditServer


@pytest.fixture
def domain_database(empty_database: str) -> str:
    """MaveDB's tables as its release makes them, and ours."""
    subprocess.run(
        [sys.executable, "-m", "tests.contract.make_tables"],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": empty_database},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return empty_database


@pytest.fixture
def pipeline(audit_server: AuditServer) -> PlannedPipeline:  # noqa: ARG001 - its database
    """A pipeline that runs, of whose jobs one each has failed, ended by an error and begun."""
    with engine().begin() as connection:
        _, score_set_id, user_id = insert_brca1(connection)
        params = {"score_set_id": score_set_id, "updater_id": user_id}
        planned = request_pipeline(connection, "annotate_score_set", params, user_id, "of-ours")
        connection.execute(
            text(
                """
                UPDATE job_runs
                   SET status = (ARRAY['failed', 'errored', 'running'])[job.number],
                       started_at = now(), progress_current = 3, progress_total = 10,
                       progress_message = 'asking', retry_count = 1, error_message = 'no answer',
                       error_traceback = 'line 17', failure_category = 'network_error',
                       finished_at = CASE WHEN job.number < 3 THEN now() END
                  FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM job_runs) AS job
                 WHERE job.id = job_runs.id AND job.number <= 3
                """
            )
        )
        connection.execute(text("UPDATE pipelines SET status = 'running', started_at = now()"))
    return planned


def assert_read(model: type[BaseModel], answer: dict[str, Any]) -> None:
    """MaveDB's model reads it without losing a key or lacking one."""
    read = model.model_validate(answer).model_dump(mode="json", by_alias=True)
    of_mavedb = set(read) - {"recordType"}
    assert of_mavedb == set(answer)
    # MaveDB fills `metadata` from a column of another name, not from JSON.
    assert {key: read[key] for key in of_mavedb - {"metadata"}} == {
        key: value for key, value in answer.items() if key != "metadata"
    }


@pytest.mark.parametrize(
    ("resource", "listed", "one"),
    [("job-runs", SavedJobRun, JobRunDetail), ("pipelines", SavedPipeline, PipelineDetail)],
)
@pytest.mark.usefixtures("pipeline")
def test_mavedbs_view_models_read_our_answers(
    audit_server: AuditServer,
    resource: str,
    listed: type[BaseModel],
    one: type[BaseModel],
) -> None:
    answers = audit_server.reader.get(f"/api/v1/{resource}/").raise_for_status().json()
    assert answers
    for answer in answers:
        assert_read(listed, answer)
        found = audit_server.reader.get(f"/api/v1/{resource}/{answer['urn']}")
        assert_read(one, found.raise_for_status().json())


def test_mavedbs_filters_are_ours(audit_server: AuditServer, pipeline: PlannedPipeline) -> None:
    def urns(resource: str, **given: Any) -> list[str]:
        answer = audit_server.reader.get(f"/api/v1/{resource}/", params=given)
        return [one["urn"] for one in answer.raise_for_status().json()]

    of_pipeline = urns("job-runs", pipeline_id=pipeline.pipeline_id)
    assert len(of_pipeline) == len(urns("job-runs", correlation_id="of-ours")) > 3
    assert len(urns("job-runs", status="errored", created_after="2020-01-01T00:00:00")) == 1
    assert urns("pipelines", status="running") == [pipeline.pipeline_urn]
    assert urns("pipelines", created_before="2020-01-01T00:00:00") == []
