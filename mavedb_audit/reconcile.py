"""Asks Prefect for the histories of runs that are not settled, and records what is missing.

Complete where the event stream and the hooks are not, and slow: one run a request.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from mavedb_audit.database import connect
from mavedb_audit.errors import RequestError
from mavedb_audit.histories import (
    ListedRun,
    Prefect,
    PrefectUnansweredError,
    asking,
    batches,
    prefect_client,
)
from mavedb_audit.logs import logger_of
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.recorder import transitions
from mavedb_audit.recorder.closing import lock_for_closing
from mavedb_audit.recorder.moves import close_open_jobs
from mavedb_audit.recorder.plans import plan_pipeline
from mavedb_audit.settings import settings
from mavedb_audit.settling import History, settle, settle_forgotten, to_ask, unsettled_runs
from mavedb_audit.sightings import OUTAGES, note_unknown
from mavedb_audit.states import RunKind, Source

logger = logger_of(__name__)

#: Flow runs whose task runs are listed with one request, and whose histories are read together.
_FLOW_RUNS_AT_ONCE = 20
#: A later round looks back to the start of the one before it, and so much further.
_OVERLAP = timedelta(minutes=10)
#: A busy server stores a task run, and lists it, minutes after the end of its flow run.
_LISTED_LATE = timedelta(minutes=10)
_LONGEST_PAUSE_SECONDS = 30.0
#: How long to wait for a pipeline that somebody else holds; it comes up again in the next round.
_LOCK_TIMEOUT = "2s"


@dataclass
class Reconciled:
    """What one round did.

    `unanswered` runs could not be read or recorded, and are asked again. `unplanned` flow runs
    ended before they made a pipeline, and their parameters allow none.
    """

    runs_asked: int = 0
    states_recorded: int = 0
    runs_settled: int = 0
    pipelines_planned: int = 0
    unplanned: int = 0
    unanswered: int = 0


def reconcile_until(stop: threading.Event) -> None:
    """Reconcile again and again. Outages of the database and of Prefect are waited out."""
    since: datetime | None = None
    is_answered = True
    while not stop.is_set():
        started = datetime.now(UTC)
        try:
            with prefect_client() as client:
                done = reconcile(client, since=since, stop=stop)
        except (PrefectUnansweredError, *OUTAGES) as error:
            if is_answered:
                logger.warning("prefect.interrupted", part="reconciler", error=str(error))
            is_answered = False
        else:
            if not is_answered or done.states_recorded or done.unanswered:
                logger.info("reconciler.reconciled", **asdict(done))
            is_answered = True
            if not done.unanswered:
                since = started - _OVERLAP
        stop.wait(settings().reconcile_interval_seconds)


def reconcile(
    client: SyncPrefectClient,
    *,
    since: datetime | None = None,
    everything: bool = False,
    stop: threading.Event | None = None,
) -> Reconciled:
    """Record the states that Prefect has and the audit lacks.

    Looks at our flow runs that are open, started or ended since `since`, by default the last
    RECONCILE_WINDOW_HOURS, and at every run that is not settled. `everything` asks for settled runs
    too, and without `since` for all that Prefect has. Raises PrefectUnansweredError when Prefect
    gives no list of its runs; a history that it does not give is counted.
    """
    if since is None and not everything:
        since = datetime.now(UTC) - timedelta(hours=settings().reconcile_window_hours)
    stop = stop or threading.Event()
    done = Reconciled()
    with asking(client, stop) as prefect:
        with connect() as connection, connection.begin():
            unsettled = unsettled_runs(connection)
        flow_runs = prefect.our_flow_runs(since)
        flow_runs |= prefect.flow_runs(unsettled.keys() - flow_runs.keys())
        forgotten = {
            run_id
            for flow_run_id in unsettled.keys() - flow_runs
            for run_id in unsettled[flow_run_id]
        }
        with connect() as connection, connection.begin():
            done.runs_settled += settle_forgotten(connection, forgotten)
        pause = 0.0
        for some in batches(flow_runs.values(), _FLOW_RUNS_AT_ONCE):
            errors = _reconcile_some(prefect, some, unsettled, done, everything=everything)
            pause = _pause_after(errors, pause)
            if stop.wait(pause):
                break
    return done


def _reconcile_some(
    prefect: Prefect,
    flow_runs: Sequence[ListedRun],
    unsettled: Mapping[UUID, set[UUID]],
    done: Reconciled,
    *,
    everything: bool,
) -> list[Exception]:
    """Ask for what is needed of the flow runs and their task runs. Returns what went wrong."""
    asked = flow_runs if everything else to_ask(flow_runs)
    asked_ids = {flow.run.run_id for flow in asked}
    now = datetime.now(UTC)
    task_runs = prefect.task_runs(
        flow_run_id
        for flow in flow_runs
        if (flow_run_id := flow.run.run_id) in asked_ids
        or flow.is_under_way
        or (flow.state is not None and now - flow.state.timestamp < _LISTED_LATE)
        or unsettled.get(flow_run_id, set()) - {flow_run_id}
    )
    asked_tasks = task_runs.values() if everything else to_ask(task_runs.values())
    asked = [*asked, *asked_tasks]
    done.runs_asked += len(asked)
    histories: dict[UUID | None, list[History]] = {flow.run.run_id: [] for flow in flow_runs}
    errors: list[Exception] = []
    for listed, answer in zip(asked, prefect.histories(asked), strict=True):
        if isinstance(answer, Exception):
            logger.debug(
                "reconciler.history_unread", run_id=str(listed.run.run_id), error=str(answer)
            )
            errors.append(answer)
        else:
            histories[listed.flow_run_id].append(History(listed, answer))
    for flow in flow_runs:
        lost = unsettled.get(flow.run.run_id, set()) - {flow.run.run_id} - task_runs.keys()
        if not histories[flow.run.run_id] and not lost:
            continue
        try:
            with connect() as connection, connection.begin():
                connection.execute(
                    text("SELECT set_config('lock_timeout', :limit, true)"),
                    {"limit": _LOCK_TIMEOUT},
                )
                _record(connection, flow, histories[flow.run.run_id], done)
                if flow.has_ended:
                    done.runs_settled += settle_forgotten(connection, lost)
        except (DataError, IntegrityError, OperationalError) as error:
            is_held = isinstance(error.orig, LockNotAvailable | DeadlockDetected)
            if isinstance(error, OperationalError) and not is_held:
                raise
            logger.warning(
                "reconciler.history_unrecorded",
                flow_run_id=str(flow.run.run_id),
                error=str(error.orig),
            )
            errors.append(error)
    done.unanswered += len(errors)
    if any(isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) for error in errors):
        raise PrefectUnansweredError(f"Prefect went away: {errors[0]}")
    return errors


def _record(
    connection: Connection, flow: ListedRun, histories: Sequence[History], done: Reconciled
) -> None:
    """Record the histories of a flow run and its task runs, and settle those that are complete."""
    planned: int | None = None
    if flow.has_ended and flow.flow_name in PIPELINES and not _is_planned(connection, flow):
        planned = _plan(connection, flow)
        done.pipelines_planned += planned is not None
        done.unplanned += planned is None
    pruned = _pruned_until(connection, [history.listed.run.run_id for history in histories])
    read = [
        history.listed.transition(state, Source.RECONCILER)
        for history in histories
        for state in history.states
        if (until := pruned.get(history.listed.run.run_id)) is None or state.timestamp > until
    ]
    missing = _missing(connection, {transition.state_id for transition in read})
    if missing or _has_unbound(connection, [history.listed.run.run_id for history in histories]):
        transitions.record(connection, read)
        for transition in read:
            note_unknown(transition)
    if planned is not None:
        _close(connection, planned, flow)
    done.states_recorded += missing
    done.runs_settled += settle(connection, flow, histories)


def _missing(connection: Connection, state_ids: Collection[UUID]) -> int:
    known: int = connection.execute(
        text("SELECT count(*) FROM prefect_transitions WHERE state_id = ANY (:ids)"),
        {"ids": list(state_ids)},
    ).scalar_one()
    return len(state_ids) - known


def _has_unbound(connection: Connection, run_ids: Sequence[UUID]) -> bool:
    """Whether a run is not known yet to belong to a pipeline, or to a job."""
    found: bool = connection.execute(
        text(
            """
            SELECT EXISTS (SELECT FROM prefect_runs
                            WHERE run_id = ANY (:ids)
                              AND CASE kind WHEN :flow THEN pipeline_id IS NULL
                                            ELSE job_id IS NULL END)
            """
        ),
        {"ids": list(run_ids), "flow": RunKind.FLOW},
    ).scalar_one()
    return found


def _pruned_until(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Until when the states of runs were forgotten on purpose."""
    rows = connection.execute(
        text(
            """
            SELECT run_id, pruned_at FROM prefect_runs
             WHERE run_id = ANY (:ids) AND pruned_at IS NOT NULL
            """
        ),
        {"ids": run_ids},
    )
    return {row.run_id: row.pruned_at for row in rows}


def _is_planned(connection: Connection, flow: ListedRun) -> bool:
    found: bool = connection.execute(
        text(
            """
            SELECT EXISTS (SELECT FROM pipelines WHERE urn = :urn)
                OR EXISTS (SELECT FROM prefect_runs
                            WHERE run_id = :run_id AND pipeline_id IS NOT NULL)
            """
        ),
        {"urn": flow.run.pipeline_urn, "run_id": flow.run.run_id},
    ).scalar_one()
    return found


def _plan(connection: Connection, flow: ListedRun) -> int | None:
    """Plan the pipeline that a flow run would have planned for itself, had it come to that."""
    given = flow.parameters or {}
    if flow.flow_name is None or flow.run.pipeline_urn is None or given.get("pipeline_urn"):
        return None
    steps = PIPELINES[flow.flow_name].steps
    needed = {key for step in steps for key, fixed in step.params.items() if fixed is None}
    try:
        with connection.begin_nested():
            return plan_pipeline(
                connection,
                flow.flow_name,
                {key: given.get(key) for key in needed},
                user_id=given.get("updater_id"),
                correlation_id=given.get("correlation_id"),
                urn=flow.run.pipeline_urn,
            ).pipeline_id
    except (RequestError, DataError, IntegrityError) as error:
        logger.debug("pipeline.not_planned", flow_run_id=str(flow.run.run_id), error=str(error))
        return None


def _close(connection: Connection, pipeline_id: int, flow: ListedRun) -> None:
    """Close what was planned after the flow's end had been recorded, unless recovery decides."""
    if flow.state is not None and flow.state.type is not StateType.CRASHED:
        lock_for_closing(connection, [pipeline_id])
        close_open_jobs(
            connection, pipeline_id, flow.state.type.value, flow.state.message or flow.state.name
        )


def _pause_after(errors: Sequence[Exception], pause: float) -> float:
    """How long to leave Prefect alone: longer each time, or as long as it says."""
    if not errors:
        return 0.0
    asked_for = [
        int(value)
        for error in errors
        if isinstance(error, httpx.HTTPStatusError)
        and (value := error.response.headers.get("Retry-After", "")).isdecimal()
    ]
    return min(max([1.0, 2 * pause, *asked_for]), _LONGEST_PAUSE_SECONDS)
