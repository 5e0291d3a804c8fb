"""Takes pipeline requests to Prefect. Several dispatchers may run: each request goes out once."""

import threading
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from mavedb_audit.database import connect, engine
from mavedb_audit.errors import DatabaseUnreachableError
from mavedb_audit.logs import logger_of, saying
from mavedb_audit.prefect_ui import Shown, shown_as
from mavedb_audit.settings import settings
from mavedb_audit.tracing import span
from mavedb_audit.trigger import REQUESTS_CHANNEL

logger = logger_of(__name__)

#: The name that every deployment of a pipeline's flow bears in prefect.yaml.
DEPLOYMENT_NAME = "mavedb"


@dataclass(frozen=True)
class Request:
    """A request that was taken, and what its flow run is made from."""

    request_id: int
    pipeline_id: int
    pipeline_urn: str
    pipeline_name: str
    correlation_id: str | None
    score_set_urn: str | None


def dispatch_until(stop: threading.Event) -> None:
    """Dispatch whatever is requested, at once when the database says so, else by polling.

    An outage of the database is waited out.
    """
    with get_client(sync_client=True) as client:
        while not stop.is_set():
            try:
                with _listener() as listener:
                    while not stop.is_set():
                        while not stop.is_set() and dispatch_next(client):
                            pass
                        _wait_for_request(listener)
            except (DatabaseUnreachableError, OperationalError, psycopg.OperationalError) as error:
                logger.warning("database.interrupted", part="dispatcher", error=str(error))
                stop.wait(settings().dispatch_poll_seconds)


def dispatch_next(client: SyncPrefectClient) -> bool:
    """Take one request to Prefect. Returns whether there was one.

    The request's row stays locked meanwhile, so that no other dispatcher takes it, and Prefect's
    idempotency key makes a repetition after a crash harmless. What Prefect refuses waits for
    longer each time, with the cause in last_error.
    """
    with connect() as connection, connection.begin():
        request = _take(connection)
        if request is None:
            return False
        with (
            saying(
                correlation_id=request.correlation_id,
                pipeline_urn=request.pipeline_urn,
                pipeline=request.pipeline_name,
                score_set_urn=request.score_set_urn,
            ),
            span("dispatch"),
        ):
            _dispatch(client, connection, request)
    return True


def _dispatch(client: SyncPrefectClient, connection: Connection, request: Request) -> None:
    try:
        flow_run_id = _create_flow_run(client, request, shown_as(connection, request.pipeline_id))
    except (httpx.HTTPError, ObjectNotFound, ValueError) as error:
        # A ValueError is an answer that is not Prefect's, such as a proxy's page.
        cause = _explain(request, error)
        logger.warning("pipeline.put_off", error=cause)
        _put_off(connection, request, cause)
    else:
        _settle(connection, request, flow_run_id)
        logger.info("pipeline.dispatched", flow_run_id=str(flow_run_id))


def _create_flow_run(client: SyncPrefectClient, request: Request, shown: Shown) -> UUID:
    deployment = client.read_deployment_by_name(f"{request.pipeline_name}/{DEPLOYMENT_NAME}")
    flow_run = client.create_flow_run_from_deployment(
        deployment.id,
        parameters={"pipeline_urn": request.pipeline_urn},
        idempotency_key=request.pipeline_urn,
        name=shown.name,
        tags=shown.tags,
    )
    return flow_run.id


def _explain(request: Request, error: Exception) -> str:
    if isinstance(error, ObjectNotFound):
        return (
            f"Prefect has no deployment {request.pipeline_name}/{DEPLOYMENT_NAME}:"
            " run `prefect --no-prompt deploy --all`"
        )
    return f"Prefect does not take it ({type(error).__name__}: {error}); check PREFECT_API_URL"


def _take(connection: Connection) -> Request | None:
    row = connection.execute(
        text(
            """
            SELECT request.id, pipeline.id, pipeline.urn, pipeline.name, pipeline.correlation_id,
                   score_set.urn AS score_set_urn
              FROM pipeline_requests AS request
              JOIN pipelines AS pipeline ON pipeline.id = request.pipeline_id
              LEFT JOIN LATERAL (
                SELECT scoresets.urn
                  FROM planned_jobs JOIN scoresets ON scoresets.id = planned_jobs.score_set_id
                 WHERE planned_jobs.pipeline_id = pipeline.id LIMIT 1
              ) AS score_set ON true
             WHERE request.dispatched_at IS NULL AND request.next_dispatch_at <= clock_timestamp()
             ORDER BY request.next_dispatch_at, request.id
             LIMIT 1 FOR UPDATE OF request SKIP LOCKED
            """
        )
    ).one_or_none()
    return None if row is None else Request(*row)


def _settle(connection: Connection, request: Request, flow_run_id: UUID) -> None:
    connection.execute(
        text(
            """
            UPDATE pipeline_requests
               SET dispatched_at = clock_timestamp(), flow_run_id = :flow_run_id, last_error = NULL,
                   dispatch_count = dispatch_count + 1
             WHERE id = :id
            """
        ),
        {"id": request.request_id, "flow_run_id": flow_run_id},
    )


def _put_off(connection: Connection, request: Request, cause: str) -> None:
    connection.execute(
        text(
            """
            UPDATE pipeline_requests
               SET last_error = :cause, dispatch_count = dispatch_count + 1,
                   next_dispatch_at = clock_timestamp()
                       + least(60, power(2, least(dispatch_count, 6))) * interval '1 second'
             WHERE id = :id
            """
        ),
        {"id": request.request_id, "cause": cause},
    )


def _listener() -> psycopg.Connection[Any]:
    """A connection that hears of new requests, from before anybody looks for them."""
    url = engine().url.set(drivername="postgresql").render_as_string(hide_password=False)
    listener = psycopg.connect(
        url, autocommit=True, connect_timeout=settings().database_connect_timeout_seconds
    )
    listener.execute(f"LISTEN {REQUESTS_CHANNEL}")
    return listener


def _wait_for_request(listener: psycopg.Connection[Any]) -> None:
    """Return when a request is announced, or when it is time to look again."""
    seconds = settings().dispatch_poll_seconds
    next(listener.notifies(timeout=seconds, stop_after=1), None)
