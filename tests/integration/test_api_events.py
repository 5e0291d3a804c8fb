"""Progress as server-sent events: each change once, to the end, for many at a time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import create_engine, text

from mavedb_audit.database import engine
from mavedb_audit.recorder.plans import PlannedPipeline
from mavedb_audit.server import serve_http_until
from mavedb_audit.trigger import request_pipeline
from tests.support import insert_brca1, wait_until
from tests.support_http import AuditServer, bearer

LIMIT_SECONDS = 120


class Stream:
    """What a browser's EventSource would hear of a pipeline, as (event, id, data)."""

    def __init__(self, response: httpx.Response) -> None:
        self.status_code = response.status_code
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, str, str]:
        """The next event; StopIteration after the last."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line and "data" in fields:
                return fields["event"], fields["id"], fields["data"]
            name, _, value = line.partition(": ")
            fields[name] = value
        raise StopIteration


@contextmanager
def listening(server: AuditServer, urn: str, **headers: str) -> Iterator[Stream]:
    path = f"/api/v1/pipelines/{urn}/events"
    with server.reader.stream("GET", path, headers=headers, timeout=LIMIT_SECONDS) as response:
        yield Stream(response)


@pytest.fixture
def pipeline(audit_server: AuditServer) -> PlannedPipeline:  # noqa: ARG001 - its database
    with engine().begin() as connection:
        _, score_set_id, user_id = insert_brca1(connection)
        params = {"score_set_id": score_set_id, "updater_id": user_id}
        return request_pipeline(connection, "annotate_score_set", params, user_id, None)


def change(pipeline: PlannedPipeline, sql: str) -> None:
    with engine().begin() as connection:
        connection.execute(text(sql), {"id": pipeline.pipeline_id})


def start(pipeline: PlannedPipeline) -> None:
    change(pipeline, "UPDATE pipelines SET status = 'running', started_at = now() WHERE id = :id")


def end(pipeline: PlannedPipeline) -> None:
    change(pipeline, "UPDATE pipelines SET status = 'failed', finished_at = now() WHERE id = :id")


def test_each_change_is_told_once_and_then_the_end(
    audit_server: AuditServer, pipeline: PlannedPipeline
) -> None:
    with listening(audit_server, pipeline.pipeline_urn) as stream:
        event, first_id, data = stream.next()
        assert event == "progress"
        assert '"status":"created"' in data
        assert '"scoreSetUrn"' in data
        start(pipeline)
        event, second_id, data = stream.next()
        assert event == "progress"
        assert '"status":"running"' in data
        # Time passes in a running pipeline, which is no change.
        time.sleep(2.5)
        end(pipeline)
        event, last_id, data = stream.next()
        assert event == "ended"
        assert '"status":"failed"' in data
        assert len({first_id, second_id, last_id}) == 3
        with pytest.raises(StopIteration):
            stream.next()


def test_who_comes_back_hears_only_what_is_new(
    audit_server: AuditServer, pipeline: PlannedPipeline
) -> None:
    with listening(audit_server, pipeline.pipeline_urn) as stream:
        _, seen, _ = stream.next()
    with listening(audit_server, pipeline.pipeline_urn, **{"Last-Event-ID": seen}) as stream:
        start(pipeline)
        _, again, data = stream.next()
        assert again != seen
        assert '"status":"running"' in data


def test_who_has_seen_the_end_stays_away(
    audit_server: AuditServer, pipeline: PlannedPipeline
) -> None:
    end(pipeline)
    with listening(audit_server, pipeline.pipeline_urn) as stream:
        event, last_id, _ = stream.next()
        assert event == "ended"
    with listening(audit_server, pipeline.pipeline_urn, **{"Last-Event-ID": last_id}) as stream:
        assert stream.status_code == 204


def test_a_hundred_listeners_leave_the_database_to_others(
    audit_server: AuditServer, pipeline: PlannedPipeline
) -> None:
    heard: list[str] = []

    def listen() -> None:
        with (
            httpx.Client(
                base_url=audit_server.url,
                headers=bearer(audit_server.reader_token),
                timeout=2 * LIMIT_SECONDS,
            ) as client,
            client.stream("GET", f"/api/v1/pipelines/{pipeline.pipeline_urn}/events") as response,
        ):
            stream = Stream(response)
            heard.append(stream.next()[0])
            heard.append(stream.next()[0])

    listeners = [threading.Thread(target=listen) for _ in range(100)]
    for listener in listeners:
        listener.start()
    wait_until(lambda: len(heard) == 100, within_seconds=LIMIT_SECONDS)
    assert engine().pool.checkedout() <= 2  # type: ignore[attr-defined]
    assert audit_server.reader.get("/api/v1/system", timeout=5).status_code == 200
    end(pipeline)
    for listener in listeners:
        listener.join(timeout=LIMIT_SECONDS)
    assert heard == ["progress"] * 100 + ["ended"] * 100


def test_a_database_that_is_away_ends_no_stream(
    audit_server: AuditServer, pipeline: PlannedPipeline
) -> None:
    with listening(audit_server, pipeline.pipeline_urn) as stream:
        stream.next()
        with _no_connections():
            answer = audit_server.reader.get("/api/v1/system")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            # Long enough for the stream to ask, and to be refused.
            time.sleep(2.5)
        start(pipeline)
        assert '"status":"running"' in stream.next()[2]


@contextmanager
def _no_connections() -> Iterator[None]:
    """The database ends the sessions it has, and takes no new ones."""
    name = engine().url.database
    administrator = create_engine(
        engine().url.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with administrator.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": name},
        )
        try:
            yield
        finally:
            connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    administrator.dispose()


def test_the_server_ends_in_time_though_somebody_listens(
    audit_server: AuditServer,
    pipeline: PlannedPipeline,
    use_database: Callable[[str], None],
    domain_database: str,
    monkeypatch: pytest.MonkeyPatch,
    unused_tcp_port: int,
) -> None:
    monkeypatch.setenv("AUDIT_HTTP_PORT", str(unused_tcp_port))
    use_database(domain_database)
    stop = threading.Event()
    serving = threading.Thread(target=serve_http_until, args=[stop])
    serving.start()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{unused_tcp_port}",
        headers=bearer(audit_server.reader_token),
        timeout=LIMIT_SECONDS,
    ) as client:
        answer = wait_until(lambda: _answer(client), within_seconds=LIMIT_SECONDS)
        assert "server" not in answer.headers
        with client.stream("GET", f"/api/v1/pipelines/{pipeline.pipeline_urn}/events") as response:
            stream = Stream(response)  # which keeps the connection open as long as it lives
            stream.next()
            stop.set()
            serving.join(timeout=LIMIT_SECONDS)
            assert not serving.is_alive()
            assert stream.status_code == 200


def _answer(client: httpx.Client) -> httpx.Response | None:
    try:
        return client.get("/health")
    except httpx.TransportError:
        return None
