"""What is decided about each finding. Prefect is asked first, and told what was found.

Each step of a decision is one transaction or one request, and each may be repeated: a recovery that
is killed half-way is taken up by the next. Several may run: one at a time looks into a pipeline.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from mavedb_audit.database import connect
from mavedb_audit.errors import DatabaseUnreachableError
from mavedb_audit.histories import UNANSWERED, prefect_client
from mavedb_audit.logs import logger_of, saying
from mavedb_audit.prefect_ui import summarise
from mavedb_audit.recorder import crashes
from mavedb_audit.recorder.closing import lock_for_closing
from mavedb_audit.recorder.moves import close_open_jobs
from mavedb_audit.recorder.transitions import record
from mavedb_audit.recovery import findings, in_prefect
from mavedb_audit.recovery.findings import Evidence, Suspect
from mavedb_audit.settings import settings
from mavedb_audit.states import Transition

logger = logger_of(__name__)

#: How often a request goes out again whose flow run Prefect does not know.
_MOST_DISPATCHES_AGAIN = 3
#: What only time shows is looked for less often.
_BY_TIME_EVERY_SECONDS = 60.0
_ENDINGS = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CANCELLING}
)
_DYING = frozenset({StateType.RUNNING, StateType.CRASHED})


def recover_until(stop: threading.Event) -> None:
    """Recover again and again. Outages of the database and of Prefect are waited out."""
    next_by_time = time.monotonic()
    answering = True
    with (
        # Its own retries take minutes: the next scan is the retry.
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        prefect_client() as client,
    ):
        while not stop.is_set():
            by_time = time.monotonic() >= next_by_time
            try:
                recover_once(client, by_time=by_time, stop=stop)
            except (*UNANSWERED, DatabaseUnreachableError, OperationalError) as error:
                if answering:
                    logger.warning("prefect.interrupted", part="recovery", error=str(error))
                answering = False
            else:
                answering = True
                if by_time:
                    next_by_time = time.monotonic() + _BY_TIME_EVERY_SECONDS
            stop.wait(settings().recovery_interval_seconds)


def recover_once(
    client: SyncPrefectClient, *, by_time: bool = True, stop: threading.Event | None = None
) -> int:
    """Look once for what is dead or stalls, and settle it. Returns how many things were settled.

    Takes RECOVERY_GRACE_SECONDS when something is found: only what nobody holds at both ends of
    that time is dead. `by_time`: also what stalls, and what dead flow runs left open in Prefect.
    Raises httpx.TransportError when Prefect does not answer.
    """
    stop = stop or threading.Event()
    with connect() as connection:
        found = findings.suspects(connection, by_time=by_time)
    crashed = [suspect for suspect in found if suspect.evidence is Evidence.CRASHED]
    settled = _recover(client, crashed, stop)
    if len(crashed) < len(found) and not stop.wait(settings().recovery_grace_seconds):
        with connect() as connection:
            still = set(findings.suspects(connection, by_time=by_time))
        settled += _recover(client, [suspect for suspect in found if suspect in still], stop)
    if by_time and not stop.is_set():
        settled += _report_ends(client, stop) + _end_cancellations(client, stop)
        settled += _end_left_task_runs(client, stop)
    return settled


def _recover(client: SyncPrefectClient, suspects: list[Suspect], stop: threading.Event) -> int:
    settled = 0
    for suspect in suspects:
        if stop.is_set():
            break
        with saying(
            correlation_id=suspect.correlation_id,
            pipeline_urn=suspect.pipeline_urn,
            flow_run_id=suspect.flow_run_id,
        ):
            try:
                if _recover_alone(client, suspect):
                    settled += 1
                    summarise(suspect.flow_run_id)
            except httpx.TransportError:
                raise
            except UNANSWERED as error:
                logger.warning("pipeline.not_recovered", error=str(error))
    return settled


def _recover_alone(client: SyncPrefectClient, suspect: Suspect) -> bool:
    """Settle the suspect, unless somebody else is about it or has done so meanwhile."""
    with connect() as guard, guard.begin():
        if not _is_first(guard, suspect.pipeline_id):
            return False
        by_time = suspect.evidence is Evidence.STALLED
        if suspect not in findings.suspects(
            guard, by_time=by_time, pipeline_ids=[suspect.pipeline_id]
        ):
            return False
        try:
            flow_run = client.read_flow_run(suspect.flow_run_id)
        except ObjectNotFound:
            return _dispatch_again(suspect)
        return flow_run.state is not None and _decide(client, suspect, flow_run, flow_run.state)


def _is_first(connection: Connection, pipeline_id: int) -> bool:
    is_first: bool = connection.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"),
        {"key": f"mavedb_audit:recovery:{pipeline_id}"},
    ).scalar_one()
    return is_first


def _decide(
    client: SyncPrefectClient, suspect: Suspect, flow_run: FlowRun, state: State[object]
) -> bool:
    known = in_prefect.flow_states(client, flow_run)
    if state.type in _ENDINGS:
        _record([*in_prefect.task_states(in_prefect.task_runs_of(client, flow_run.id)), *known])
        _close_ended(suspect, state)
        return True
    has_crashed, is_dead = state.type is StateType.CRASHED, _is_dead(suspect, state)
    if is_dead:
        known += in_prefect.crash_flow(client, flow_run, suspect.evidence)
    if has_crashed or is_dead:
        known += _end_task_runs(client, flow_run.id)
    _record(known)
    if has_crashed:
        # The worker that reported it does so once more, and would crash what is tried again.
        is_settled = _age(state) > timedelta(seconds=settings().recovery_crash_seconds)
        return _try_again_or_close(client, suspect, flow_run, may_try_again=is_settled)
    return is_dead and _try_again_or_close(client, suspect, flow_run, may_try_again=True)


def _is_dead(suspect: Suspect, state: State[object]) -> bool:
    """Whether a flow run that Prefect takes for alive is dead: nobody holds its lock."""
    age = _age(state)
    match state.type:
        case StateType.RUNNING:
            # Another state than the one that was suspected has yet to show that it is dead.
            is_younger = age < timedelta(seconds=settings().recovery_grace_seconds)
            return suspect.evidence is not Evidence.CRASHED and not is_younger
        case StateType.PENDING:
            # A worker took it, and never started it.
            is_old = age > timedelta(seconds=settings().recovery_queued_seconds)
            return suspect.evidence is Evidence.STALLED and is_old
        case _:
            return False


def _age(state: State[object]) -> timedelta:
    return datetime.now(UTC) - state.timestamp


def _close_ended(suspect: Suspect, state: State[object]) -> None:
    """Close what is open of a pipeline whose flow run has ended: recording may have missed it."""
    message = state.message or f"Prefect's state: {state.name}"
    with connect() as connection, connection.begin():
        lock_for_closing(connection, [suspect.pipeline_id])
        if crashes.is_open(connection, suspect.pipeline_id):
            close_open_jobs(connection, suspect.pipeline_id, state.type.value, message)


def _try_again_or_close(
    client: SyncPrefectClient, suspect: Suspect, flow_run: FlowRun, *, may_try_again: bool
) -> bool:
    """Decide about the jobs of a dead flow run. What a step had committed is done in any case.

    What is to be tried again waits for a later scan unless it may be now.
    """
    pipeline_id = suspect.pipeline_id
    with connect() as connection, connection.begin():
        lock_for_closing(connection, [pipeline_id])
        if not crashes.is_open(connection, pipeline_id):
            return False
        tries = crashes.tries(connection, pipeline_id)
        what_happened = "; ".join(f"{tried.key}: {tried.what_happened}" for tried in tries)
        what_happened = what_happened or "The flow's process ended between its steps"
        why_not = _why_not_again(connection, pipeline_id, tries, flow_run)
        if why_not is None and not may_try_again:
            return False
        if why_not is None:
            crashes.fail_open_attempts(connection, pipeline_id, tries)
            crashes.note(connection, pipeline_id, "recover", what_happened)
        else:
            crashes.close_dead(connection, pipeline_id, tries, why_not)
            crashes.note(connection, pipeline_id, "give up", f"{what_happened}. {why_not}")
    if why_not is None:
        _record(in_prefect.retry_flow(client, flow_run, what_happened))
    logger.warning(
        "pipeline.recovered",
        found=what_happened,
        done=why_not or "It is tried again",
        is_tried_again=why_not is None,
    )
    return True


def _why_not_again(
    connection: Connection, pipeline_id: int, tries: list[crashes.Try], flow_run: FlowRun
) -> str | None:
    for tried in tries:
        if tried.is_exhausted:
            return f"No retries of {tried.key} are left (attempts: {tried.attempts})"
    if not tries:
        in_vain, allowed = crashes.retries_in_vain(connection, pipeline_id)
        if in_vain >= allowed:
            return f"It was tried again {in_vain} times, and no step ever began"
    if flow_run.deployment_id is None:
        return "Prefect cannot try it again, because the flow was not run from a deployment"
    return None


def _dispatch_again(suspect: Suspect) -> bool:
    """Send a pipeline to Prefect again that does not know its flow run, which may be deleted."""
    pipeline_id = suspect.pipeline_id
    with connect() as connection, connection.begin():
        lock_for_closing(connection, [pipeline_id])
        if not crashes.is_open(connection, pipeline_id):
            return False
        reason = f"Prefect does not know its flow run {suspect.flow_run_id}"
        tries = crashes.tries(connection, pipeline_id)
        times = crashes.times_noted(connection, pipeline_id, "dispatch again")
        if times < _MOST_DISPATCHES_AGAIN and crashes.dispatch_again(connection, pipeline_id):
            crashes.fail_open_attempts(connection, pipeline_id, tries)
            crashes.note(connection, pipeline_id, "dispatch again", reason)
        else:
            crashes.close_dead(connection, pipeline_id, tries, f"{reason} any more")
            crashes.note(connection, pipeline_id, "give up", reason)
    logger.warning("pipeline.sent_again", found=reason)
    return True


def _end_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[Transition]:
    left = [
        task_run
        for task_run in in_prefect.task_runs_of(client, flow_run_id)
        if in_prefect.has_no_end(task_run)
    ]
    with connect() as connection:
        done = findings.done_task_runs(connection, [task_run.id for task_run in left])
    return [
        transition
        for task_run in left
        for transition in in_prefect.end_task_run(client, task_run, is_done=task_run.id in done)
    ]


def _end_left_task_runs(client: SyncPrefectClient, stop: threading.Event) -> int:
    """End task runs that a dead flow run left, and that Prefect heard of only after its end."""
    with connect() as connection:
        left = findings.left_task_runs(connection)
    transitions: list[Transition] = []
    for found in left:
        if stop.is_set():
            break
        try:
            task_run = client.read_task_run(found.run_id)
            if in_prefect.has_no_end(task_run):
                transitions += in_prefect.end_task_run(client, task_run, is_done=found.is_done)
            else:
                transitions += in_prefect.task_states([task_run])
        except (ObjectNotFound, httpx.HTTPStatusError) as error:
            # Prefect may never have heard of it, and never will.
            logger.debug("prefect.run_not_ended", task_run_id=str(found.run_id), error=str(error))
    _record(transitions)
    return len(transitions)


def _report_ends(client: SyncPrefectClient, stop: threading.Event) -> int:
    """Tell Prefect how flow runs ended whose process died after its last step."""
    with connect() as connection:
        ends = findings.unreported_ends(connection)
    for end in ends:
        if stop.is_set():
            break
        try:
            flow_run = client.read_flow_run(end.flow_run_id)
        except ObjectNotFound:
            continue
        known = in_prefect.flow_states(client, flow_run)
        if flow_run.state is not None and flow_run.state.type in _DYING:
            known += _end_task_runs(client, flow_run.id)
            known += in_prefect.end_flow(client, flow_run, end.status)
            summarise(end.flow_run_id)
        _record(known)
    return len(ends)


def _end_cancellations(client: SyncPrefectClient, stop: threading.Event) -> int:
    """Cancel flow runs for good whose worker went before it could."""
    with connect() as connection:
        cancelling = findings.stuck_cancellations(connection)
    for flow_run_id in cancelling:
        if stop.is_set():
            break
        try:
            flow_run = client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            continue
        known = in_prefect.flow_states(client, flow_run)
        if flow_run.state is not None and flow_run.state.type is StateType.CANCELLING:
            known += in_prefect.cancel_flow(client, flow_run)
        _record(known)
    return len(cancelling)


def _record(transitions: list[Transition]) -> None:
    with connect() as connection, connection.begin():
        record(connection, transitions)
