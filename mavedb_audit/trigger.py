"""How MaveDB's API asks for a pipeline: `request_pipeline`, in the request's own transaction."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from mavedb_audit import uploads
from mavedb_audit.database import AnyConnection
from mavedb_audit.recorder.plans import PlannedPipeline, plan_pipeline
from mavedb_audit.upload_store import Digest

#: The channel on which dispatchers hear of new requests.
REQUESTS_CHANNEL = "mavedb_pipeline_requests"


def request_pipeline(
    session: AnyConnection,
    name: str,
    params: Mapping[str, Any],
    user_id: int | None,
    correlation_id: str | None,
    digests: Mapping[str, Digest] | None = None,
) -> PlannedPipeline:
    """Ask for a run of the pipeline `name`. It starts once the caller's transaction commits.

    Inserts the pipeline, its jobs and their dependencies, and the request that the dispatcher
    takes to Prefect. Rolled back, nothing has happened. Raises RequestError for a pipeline, score
    set or parameter that is unknown or missing.

    `digests` are those of the uploaded files by their keys (`upload_store.digest_of`), from a
    caller that has them at hand: so the first read is verified as well.
    """
    planned = plan_pipeline(session, name, params, user_id=user_id, correlation_id=correlation_id)
    uploads.record_given(session, planned.pipeline_id, params, digests or {})
    session.execute(
        text("INSERT INTO pipeline_requests (pipeline_id) VALUES (:pipeline_id)"),
        {"pipeline_id": planned.pipeline_id},
    )
    session.execute(
        text("SELECT pg_notify(:channel, :urn)"),
        {"channel": REQUESTS_CHANNEL, "urn": planned.pipeline_urn},
    )
    return planned
