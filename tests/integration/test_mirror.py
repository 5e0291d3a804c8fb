"""The mirror against a real Prefect server: what its events tell stands in the database."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import prefect.context
import pytest
from prefect.events.schemas.events import Event
from sqlalchemy import Engine, create_engine, text

from deployments.local.ports import LOOPBACK
from deployments.local.score_set import BRCA1_RING
from deployments.local.submission import insert_score_set
from mavedb_audit.mirror import counts, mirror_until, record_queued
from mavedb_audit.trigger import request_pipeline
from tests.relay import Relay
from tests.support import MAIN_JOB, MaveDB, Submitted, brca1, wait_until

OURS, FOREIGN = "annotate_score_set", "of_somebody_else"


@pytest.fixture
def database(domain_database: str, use_database: Callable[[str], None]) -> Iterator[Engine]:
    """A database beside the stack's: nobody but this test's mirror writes to it."""
    use_database(domain_database)
    engine = create_engine(domain_database)
    yield engine
    engine.dispose()


@contextmanager
def mirroring(mirrors: int = 1) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=mirror_until, args=(stop,)) for _ in range(mirrors)]
    for thread in threads:
        thread.start()
    try:
        yield
        assert all(thread.is_alive() for thread in threads)
    finally:
        stop.set()
        for thread in threads:
            thread.join(3)
    assert not any(thread.is_alive() for thread in threads)


@contextmanager
def recording(*events: Event) -> Iterator[None]:
    """The part of the mirror that takes events from its queue to the database."""
    stop = threading.Event()

    async def record_until_stopped() -> None:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        for event in events:
            queue.put_nowait(event)
        task = asyncio.create_task(record_queued(queue, asyncio.Event()))
        await asyncio.to_thread(stop.wait)
        assert not task.done()
        task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(record_until_stopped(),))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def event(
    kind: str,
    run_id: UUID,
    *,
    flow: str | None = OURS,
    flow_run_id: UUID | None = None,
    occurred: datetime | None = None,
    **labels: str,
) -> dict[str, Any]:
    """An event as Prefect sends it, with only the parts that count."""
    occurred = occurred or datetime.now(UTC)
    related = {"flow": ("flow", uuid4(), flow), "flow-run": ("flow-run", flow_run_id, "a run")}
    return {
        "id": str(uuid4()),
        "event": f"prefect.{kind}-run.Running",
        "occurred": occurred.isoformat(),
        "received": occurred.isoformat(),
        "resource": {
            "prefect.resource.id": f"prefect.{kind}-run.{run_id}",
            "prefect.resource.name": "a run",
            "prefect.run-count": "1",
            "prefect.state-type": "RUNNING",
            "prefect.state-name": "Running",
            **labels,
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.{what}.{id_}",
                "prefect.resource.name": name,
                "prefect.resource.role": role,
            }
            for role, (what, id_, name) in related.items()
            if id_ is not None and name is not None
        ],
        "payload": {},
    }


def flow_event(run_id: UUID, **more: Any) -> Event:
    return Event.model_validate(event("flow", run_id, **more))


def emit(mavedb: MaveDB, *events: dict[str, Any]) -> None:
    url = f"{mavedb.stack.prefect_api_url}/events"
    httpx.post(url, json=events).raise_for_status()


def insert_flow_run(engine: Engine, run_id: UUID) -> None:
    """Make a flow run known, so that task runs under it are ours although no flow is named."""
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO prefect_runs (run_id, kind, name) VALUES (:id, 'flow', 'known')"),
            {"id": run_id},
        )


def recorded_runs(engine: Engine) -> set[UUID]:
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT run_id FROM prefect_transitions")).scalars())


def state_ids(engine: Engine, flow_run_id: str) -> set[str]:
    """The states of a flow run and of its task runs that are recorded."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                """
                SELECT prefect_transitions.state_id::text
                  FROM prefect_transitions JOIN prefect_runs USING (run_id)
                 WHERE run_id = :id OR flow_run_id = :id
                """
            ),
            {"id": flow_run_id},
        )
        return set(rows.scalars())


def states_in_prefect(mavedb: MaveDB, submitted: Submitted) -> dict[str, str]:
    """The names of all states of a pipeline's runs that Prefect has, by id."""
    flow_run_id = mavedb.flow_run(submitted)["id"]
    paths = [f"flow_run_states/?flow_run_id={flow_run_id}"] + [
        f"task_run_states/?task_run_id={run['id']}" for run in mavedb.task_runs(submitted)
    ]
    return {state["id"]: state["name"] for path in paths for state in mavedb.prefect("GET", path)}


def run_pipeline_with_a_retry(mavedb: MaveDB) -> Submitted:
    with mavedb.fault(mavedb.stack.mapper_url, "status", status=500, times=1):
        submitted = mavedb.submit(*brca1(20))
        assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def test_two_mirrors_record_every_state_once(
    mavedb: MaveDB, use_database: Callable[[str], None]
) -> None:
    use_database(mavedb.engine.url.render_as_string(hide_password=False))
    with mirroring(2):
        submitted = run_pipeline_with_a_retry(mavedb)
        flow_run_id = mavedb.flow_run(submitted)["id"]

        def missing() -> set[str]:
            states = states_in_prefect(mavedb, submitted)
            return states.keys() - state_ids(mavedb.engine, flow_run_id)

        wait_until(lambda: not missing())
    in_prefect = states_in_prefect(mavedb, submitted)
    assert state_ids(mavedb.engine, flow_run_id) == in_prefect.keys()
    # The flow run's states, three of each task run, and two more for one retry.
    assert len(in_prefect) == 5 + 3 * len(MAIN_JOB.steps) + 2
    unseen_by_hooks = {"Scheduled", "Submitting", "Pending", "AwaitingRetry"}
    sources = mavedb.rows(
        """
        SELECT DISTINCT t.name, t.source
          FROM prefect_transitions AS t JOIN prefect_runs AS run USING (run_id)
         WHERE run.pipeline_id = :id AND t.name = ANY (:names)
        """,
        id=submitted.pipeline_id,
        names=list(unseen_by_hooks),
    )
    assert {row.name for row in sources} == unseen_by_hooks
    assert {row.source for row in sources} <= {"mirror", "reconciler"}
    runs = mavedb.rows(
        "SELECT name, job_id FROM prefect_runs WHERE pipeline_id = :id AND kind = 'task'",
        id=submitted.pipeline_id,
    )
    jobs = mavedb.jobs(submitted)
    assert {run.name: run.job_id for run in runs} == {
        key: job.id for key, job in jobs.items() if key != "start_pipeline"
    }


def test_what_happened_while_no_mirror_ran_is_recorded_by_the_next(
    mavedb: MaveDB, database: Engine
) -> None:
    with mirroring():
        pass
    submitted = run_pipeline_with_a_retry(mavedb)
    flow_run_id = mavedb.flow_run(submitted)["id"]
    assert state_ids(database, flow_run_id) == set()
    with mirroring():
        wait_until(
            lambda: states_in_prefect(mavedb, submitted).keys() == state_ids(database, flow_run_id)
        )


def test_an_outage_longer_than_prefects_own_replay_is_back_filled(
    mavedb: MaveDB, database: Engine
) -> None:
    """Over several pages, from the checkpoint on; what is older than 15 minutes is not."""
    now = datetime.now(UTC)
    flow_run_id = uuid4()
    insert_flow_run(database, flow_run_id)
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO mirror_checkpoints (stream, occurred) VALUES ('events', :occurred)"),
            {"occurred": now - timedelta(minutes=30)},
        )

    def missed(minutes: float) -> dict[str, Any]:
        occurred = now - timedelta(minutes=minutes)
        return event("task", uuid4(), flow=None, flow_run_id=flow_run_id, occurred=occurred)

    events = [missed(5 - number / 100) for number in range(120)]
    emit(mavedb, missed(20), *events)
    wait_until(lambda: stored(mavedb, flow_run_id) == 121)
    with mirroring():
        # What other tests left in the stream within the quarter of an hour comes with it.
        wait_until(lambda: len(state_ids(database, str(flow_run_id))) >= 120)
    assert state_ids(database, str(flow_run_id)) == {event["id"] for event in events}


def stored(mavedb: MaveDB, flow_run_id: UUID) -> int:
    """How many events Prefect has that are related to the flow run."""
    id_ = f"prefect.flow-run.{flow_run_id}"
    page = mavedb.prefect(
        "POST", "events/filter", {"filter": {"related": {"id": [id_]}}, "limit": 1}
    )
    total: int = page["total"]
    return total


@pytest.fixture
def relay(mavedb: MaveDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """What stands between this process and Prefect's server."""
    relay = Relay(httpx.URL(mavedb.stack.prefect_api_url).port or 80)
    monkeypatch.setenv("PREFECT_API_URL", f"http://{LOOPBACK}:{relay.port}/api")
    prefect.context.refresh_global_settings_context()
    yield relay
    monkeypatch.undo()
    prefect.context.refresh_global_settings_context()


def test_an_outage_of_prefect_is_waited_out(mavedb: MaveDB, database: Engine, relay: Relay) -> None:
    flow_run_id = uuid4()
    insert_flow_run(database, flow_run_id)

    def is_recorded(new: dict[str, Any]) -> bool:
        return new["id"] in state_ids(database, str(flow_run_id))

    with mirroring():
        for _ in range(2):
            with relay.open():
                new = event("task", uuid4(), flow=None, flow_run_id=flow_run_id)
                emit(mavedb, new)
                wait_until(partial(is_recorded, new))


def test_runs_of_other_flows_leave_no_row(mavedb: MaveDB, database: Engine) -> None:
    known, foreign_run, foreign_task, nobodys, ours = (uuid4() for _ in range(5))
    ignored = counts().ignored.get("task run of another flow", 0)
    insert_flow_run(database, known)
    with mirroring():
        emit(
            mavedb,
            event("flow", foreign_run, flow=FOREIGN),
            event("task", foreign_task, flow=FOREIGN, flow_run_id=foreign_run),
            event("task", nobodys, flow=None),
            event("task", ours, flow=None, flow_run_id=known),
        )
        wait_until(lambda: ours in recorded_runs(database))
    assert recorded_runs(database) & {foreign_run, foreign_task, nobodys, ours} == {ours}
    assert counts().ignored["task run of another flow"] >= ignored + 2


def test_events_that_cannot_be_recorded_stop_nothing(database: Engine) -> None:
    before, after, task = uuid4(), uuid4(), uuid4()
    malformed = flow_event(uuid4(), **{"prefect.state-type": "DREAMING"})
    refused = flow_event(uuid4(), **{"prefect.run-count": "9999999999"})
    was = counts()
    with recording(
        flow_event(before),
        malformed,
        refused,
        Event.model_validate(event("task", task, flow_run_id=before)),
        flow_event(after),
    ):
        wait_until(lambda: recorded_runs(database) >= {before, task, after})
    assert recorded_runs(database) == {before, task, after}
    kind = "an unknown state type 'DREAMING'"
    assert counts().malformed[kind] == was.malformed.get(kind, 0) + 1
    assert counts().refused["DataError"] == was.refused.get("DataError", 0) + 1


def test_an_outage_of_the_database_is_waited_out(
    database: Engine, use_database: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    good = database.url.render_as_string(hide_password=False)
    use_database(database.url.set(port=1).render_as_string(hide_password=False))
    run_id = uuid4()
    with recording(flow_event(run_id)):
        wait_until(lambda: "Cannot connect to the database" in caplog.text)
        use_database(good)
        wait_until(lambda: recorded_runs(database) == {run_id})


def test_a_pipeline_that_somebody_holds_does_not_hold_up_others(database: Engine) -> None:
    held, free = uuid4(), uuid4()
    with database.begin() as connection:
        score_set_id, user_id = insert_score_set(
            connection,
            urn="tmp:held",
            title="Held",
            target_name="BRCA1",
            sequence=BRCA1_RING,
            sequence_type="dna",
            user="curator",
        )
        params = {"score_set_id": score_set_id, "updater_id": user_id}
        planned = request_pipeline(connection, OURS, params, user_id, uuid4().hex)
        connection.execute(
            text("UPDATE pipeline_requests SET flow_run_id = :id, dispatched_at = now()"),
            {"id": held},
        )
    with database.connect() as holder:
        holder.execute(
            text("SELECT FROM pipelines WHERE id = :id FOR UPDATE"), {"id": planned.pipeline_id}
        )
        with recording(flow_event(held), flow_event(free)):
            wait_until(lambda: recorded_runs(database) == {free})
            holder.rollback()
            wait_until(lambda: recorded_runs(database) == {free, held})
