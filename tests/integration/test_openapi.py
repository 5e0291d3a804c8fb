"""Every route answers as the OpenAPI document says, whatever it is asked."""

from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import text

from mavedb_audit.database import engine
from mavedb_audit.server import app
from mavedb_audit.trigger import request_pipeline
from tests.support import insert_brca1
from tests.support_http import AuditServer, bearer

EXAMPLES_A_ROUTE = 25

DOCUMENT = app().openapi()
described = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture
def server(audit_server: AuditServer) -> AuditServer:
    """A server whose database has what the document's examples name."""
    with engine().begin() as connection:
        _, score_set_id, user_id = insert_brca1(connection)
        params = {"score_set_id": score_set_id, "updater_id": user_id}
        planned = request_pipeline(connection, "annotate_score_set", params, user_id, None)
        for statement in (
            "UPDATE scoresets SET urn = 'urn:mavedb:00000001-a-1' WHERE id = :score_set_id",
            """
            INSERT INTO variants (urn, data, scoreset_id, creation_date, modification_date)
            VALUES ('urn:mavedb:00000001-a-1#17', '{}', :score_set_id, CURRENT_DATE, CURRENT_DATE)
            """,
            # Ended, so that its event stream ends.
            """
            UPDATE pipelines SET urn = 'urn:mavedb:pipeline-5d2f1c9e', status = 'failed',
                                 started_at = now(), finished_at = now()
             WHERE id = :pipeline_id
            """,
            """
            UPDATE job_runs
               SET urn = 'urn:mavedb:job-0b7e3c1a', status = 'failed', error_message = 'no answer',
                   started_at = now(), finished_at = now()
             WHERE id = (SELECT max(id) FROM job_runs WHERE pipeline_id = :pipeline_id)
            """,
        ):
            connection.execute(
                text(statement),
                {"score_set_id": score_set_id, "pipeline_id": planned.pipeline_id},
            )
    return audit_server


@described.parametrize()
@settings(
    max_examples=EXAMPLES_A_ROUTE,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_a_route_answers_as_described(case: schemathesis.Case, server: AuditServer) -> None:
    case.call_and_validate(
        base_url=server.url,
        headers=bearer(server.operator_token),
        timeout=20,
        # Without Prefect verbs are answered 503, as described; 500 is described nowhere. And what
        # a cursor is made of is our own affair.
        excluded_checks=[not_a_server_error, positive_data_acceptance],
    )


@pytest.mark.parametrize(
    ("path", "example"),
    [
        (path, parameter["schema"]["examples"][0])
        for path, methods in DOCUMENT["paths"].items()
        for parameter in methods.get("get", {}).get("parameters", ())
        if parameter["in"] == "path"
    ],
)
def test_the_documents_examples_are_answered(server: AuditServer, path: str, example: str) -> None:
    given = {"annotation_type": "vrs_mapping"} if path.endswith("/variants") else {}
    answer = server.reader.get(path.format(urn=quote(example, safe="")), params=given)
    assert answer.status_code == 200, answer.text


def test_the_server_gives_its_document_to_all(audit_server: AuditServer) -> None:
    assert audit_server.stranger.get("/openapi.json").json() == DOCUMENT
