"""What an operator does to a pipeline, each time audited with who did it and why.

A verb changes our rows first, in one transaction, and then tells Prefect. Killed in between, or
with Prefect out of reach, our rows say what was asked for, and the same verb again does the rest.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Suspended
from sqlalchemy import Connection, text

from mavedb_audit.database import connect
from mavedb_audit.errors import NotFoundError, RequestError
from mavedb_audit.histories import expecting_an_answer
from mavedb_audit.recorder import transitions
from mavedb_audit.recorder.closing import lock_for_closing
from mavedb_audit.recorder.moves import close_open_jobs
from mavedb_audit.recorder.pausing import pause_pipeline, resume_pipeline
from mavedb_audit.recorder.plans import PlannedPipeline, find_pipeline
from mavedb_audit.recorder.resetting import Selection, reopen_pipeline, reset_jobs
from mavedb_audit.settings import settings
from mavedb_audit.states import (
    TERMINAL_PIPELINE_STATUSES,
    PipelineStatus,
    Run,
    RunKind,
    Source,
    Transition,
)
from mavedb_audit.trigger import REQUESTS_CHANNEL, request_pipeline

_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class _Target:
    """A pipeline as a verb finds it."""

    pipeline_id: int
    urn: str
    status: PipelineStatus
    flow_run_id: UUID | None

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL_PIPELINE_STATUSES


def cancel(
    client: SyncPrefectClient, pipeline_urn: str, *, actor: str, reason: str | None
) -> PipelineStatus:
    """End the pipeline: its open jobs are cancelled and their variants accounted for at once.

    What still runs can write nothing more, and Prefect ends it. A request that no dispatcher has
    taken is withdrawn. Killed in between: cancel again (until then the flow ends by itself at its
    next step).
    """
    target = _look(pipeline_urn)
    if target.has_ended:
        flow_run = _ask_for_flow_run(client, target)
        if target.status is not PipelineStatus.CANCELLED or flow_run is None or _is_over(flow_run):
            raise _illegal("cancel", target, "Only what has not ended can be cancelled")
    why = f"by {actor}: {reason}" if reason else f"by {actor}"
    with connect() as connection, connection.begin():
        target = _hold(connection, pipeline_urn)
        _withdraw_request(connection, target)
        close_open_jobs(connection, target.pipeline_id, "CANCELLING", why)
        _note(connection, target, "cancel", actor, reason)
    with _telling_prefect():
        flow_run = _flow_run(client, target)
        if flow_run is not None and not _is_over(flow_run):
            _cancel_flow_run(client, flow_run, f"Cancelled {why}")
    return _look(target.urn).status


def pause(
    client: SyncPrefectClient, pipeline_urn: str, *, actor: str, reason: str | None
) -> PipelineStatus:
    """Let no further step start. A running step ends first; then the flow suspends itself.

    A paused pipeline holds no worker. Killed in between: nothing is missing but Prefect's own
    state of a flow run that waits for a worker, which suspends itself when it starts.
    """
    with connect() as connection, connection.begin():
        target = _hold(connection, pipeline_urn)
        if target.status not in (PipelineStatus.CREATED, PipelineStatus.RUNNING):
            raise _illegal("pause", target, "Only what is created or running can be paused")
        _withdraw_request(connection, target)
        pause_pipeline(connection, target.pipeline_id)
        _note(connection, target, "pause", actor, reason)
    with _telling_prefect():
        flow_run = _flow_run(client, target)
        if flow_run is not None and flow_run.state is not None and flow_run.state.is_scheduled():
            # Forced: Prefect lets only running flow runs suspend.
            client.set_flow_run_state(flow_run.id, Suspended(), force=True)
    return _look(target.urn).status


def resume(
    client: SyncPrefectClient, pipeline_urn: str, *, actor: str, reason: str | None
) -> PipelineStatus:
    """Let a paused pipeline go on with the steps that had not begun.

    Killed in between: resume again.
    """
    target = _look(pipeline_urn)
    if target.status is not PipelineStatus.PAUSED:
        flow_run = _ask_for_flow_run(client, target)
        if target.has_ended or flow_run is None or not _is_suspended(flow_run):
            raise _illegal("resume", target, "Only what is paused can be resumed")
    with connect() as connection, connection.begin():
        target = _hold(connection, pipeline_urn)
        resume_pipeline(connection, target.pipeline_id)
        _note(connection, target, "resume", actor, reason)
        if target.flow_run_id is None:
            _request_again(connection, target)
    with _telling_prefect():
        flow_run = _flow_run(client, target)
        if flow_run is not None and _is_suspended(flow_run):
            client.resume_flow_run(flow_run.id)
    return _look(target.urn).status


def retry_failed(
    client: SyncPrefectClient, pipeline_urn: str, *, actor: str, reason: str | None
) -> PipelineStatus:
    """Run the failed jobs of an ended pipeline again, and those skipped because of them.

    Killed in between: any of the retries again.
    """
    return _run_again(client, _look(pipeline_urn), "retry_failed", Selection.FAILED, actor, reason)


def retry_unsuccessful(
    client: SyncPrefectClient, pipeline_urn: str, *, actor: str, reason: str | None
) -> PipelineStatus:
    """Run the failed, cancelled and skipped jobs of an ended pipeline again.

    Prefect's own retry of the flow run does the same. Killed in between: any of the retries again.
    """
    return _run_again(
        client, _look(pipeline_urn), "retry_unsuccessful", Selection.UNSUCCESSFUL, actor, reason
    )


def restart(
    client: SyncPrefectClient, pipeline_urn: str, *, actor: str, reason: str | None
) -> PipelineStatus:
    """Run all jobs of a pipeline again, from the start. What has not ended is cancelled first.

    Earlier attempts stay as evidence, and new ones are numbered after them. Killed in between:
    restart again.
    """
    target = _look(pipeline_urn)
    if not target.has_ended and not _has_ended_in_prefect(client, target):
        cancel(
            client, pipeline_urn, actor=actor, reason=f"restart: {reason}" if reason else "restart"
        )
        target = _look(pipeline_urn)
    return _run_again(client, target, "restart", Selection.ALL, actor, reason)


def rerun_failed_variants(score_set_urn: str, *, actor: str, reason: str | None) -> PlannedPipeline:
    """Annotate again those variants of a score set that failed, and leave the others alone.

    It is a new pipeline, annotate_score_set; the parameter `only_failed_variants` does the same
    where Prefect's UI or command runs it. Raises RequestError when none failed.
    """
    with connect() as connection, connection.begin():
        score_set_id = connection.execute(
            text("SELECT id FROM scoresets WHERE urn = :urn"), {"urn": score_set_urn}
        ).scalar_one_or_none()
        if score_set_id is None:
            raise NotFoundError(f"There is no score set {score_set_urn}")
        planned = request_pipeline(
            connection,
            "annotate_score_set",
            {"score_set_id": score_set_id, "updater_id": None, "only_failed_variants": True},
            user_id=None,
            correlation_id=None,
        )
        target = _target(connection, planned.pipeline_urn)
        _note(connection, target, "rerun_failed_variants", actor, reason)
    return planned


def _run_again(
    client: SyncPrefectClient,
    target: _Target,
    verb: str,
    selection: Selection,
    actor: str,
    reason: str | None,
) -> PipelineStatus:
    if not target.has_ended and not _has_ended_in_prefect(client, target):
        raise _illegal(verb, target, "Only what has ended can be run again")
    ended = _wait_for_end(client, target)
    with connect() as connection, connection.begin():
        found, target = target, _hold(connection, target.urn)
        if target.status is not found.status:
            raise _illegal(verb, target, "Somebody else did something to it meanwhile")
        if ended is not None:
            # Known before the reset, so that no later report of that end closes the jobs again.
            transitions.record(connection, [_last_transition(ended, target)])
        if not reset_jobs(connection, target.pipeline_id, selection) and target.has_ended:
            raise _illegal(verb, target, "No job of it ended in a way that this would run again")
        reopen_pipeline(connection, target.pipeline_id)
        _note(connection, target, verb, actor, reason)
        if ended is None:
            _request_again(connection, target)
    if ended is not None:
        with _telling_prefect():
            client.set_flow_run_state(
                ended.id, AwaitingRetry(message=f"{verb} by {actor}"), force=True
            )
    return _look(target.urn).status


def _look(pipeline_urn: str) -> _Target:
    with connect() as connection:
        return _target(connection, pipeline_urn)


def _hold(connection: Connection, pipeline_urn: str) -> _Target:
    """Lock the pipeline, and its request: a dispatcher is done with it, or comes too late.

    Raises RequestError for an unknown one.
    """
    pipeline_id = find_pipeline(connection, pipeline_urn).pipeline_id
    lock_for_closing(connection, [pipeline_id])
    connection.execute(
        text("SELECT FROM pipeline_requests WHERE pipeline_id = :id FOR UPDATE"),
        {"id": pipeline_id},
    )
    return _target(connection, pipeline_urn)


def _target(connection: Connection, pipeline_urn: str) -> _Target:
    pipeline_id = find_pipeline(connection, pipeline_urn).pipeline_id
    row = connection.execute(
        text(
            """
            SELECT pipeline.status,
                   coalesce(
                     (SELECT run_id FROM prefect_runs
                       WHERE pipeline_id = pipeline.id AND kind = 'flow'
                       ORDER BY first_seen_at DESC LIMIT 1),
                     (SELECT flow_run_id FROM pipeline_requests
                       WHERE pipeline_id = pipeline.id)) AS flow_run_id
              FROM pipelines AS pipeline WHERE pipeline.id = :id
            """
        ),
        {"id": pipeline_id},
    ).one()
    return _Target(pipeline_id, pipeline_urn, PipelineStatus(row.status), row.flow_run_id)


def _note(
    connection: Connection, target: _Target, action: str, actor: str, reason: str | None
) -> None:
    connection.execute(
        text(
            """
            INSERT INTO operator_actions (pipeline_id, action, actor, reason)
            VALUES (:pipeline_id, :action, :actor, :reason)
            """
        ),
        {"pipeline_id": target.pipeline_id, "action": action, "actor": actor, "reason": reason},
    )


def _withdraw_request(connection: Connection, target: _Target) -> None:
    """Take the request back, unless a dispatcher has taken it to Prefect."""
    connection.execute(
        text("DELETE FROM pipeline_requests WHERE pipeline_id = :id AND dispatched_at IS NULL"),
        {"id": target.pipeline_id},
    )


def _request_again(connection: Connection, target: _Target) -> None:
    """Ask for a flow run: the request was withdrawn, or Prefect has forgotten its flow run."""
    connection.execute(
        text(
            """
            INSERT INTO pipeline_requests (pipeline_id) VALUES (:id)
            ON CONFLICT (pipeline_id) DO UPDATE
               SET dispatched_at = NULL, flow_run_id = NULL, next_dispatch_at = now()
            """
        ),
        {"id": target.pipeline_id},
    )
    connection.execute(
        text("SELECT pg_notify(:channel, :urn)"),
        {"channel": REQUESTS_CHANNEL, "urn": target.urn},
    )


def _illegal(verb: str, target: _Target, rule: str) -> RequestError:
    return RequestError(f"Cannot {verb} {target.urn}, which is {target.status}. {rule}")


def _flow_run(client: SyncPrefectClient, target: _Target) -> FlowRun | None:
    """The pipeline's flow run, also one that a dispatcher made and died before it could tell us."""
    if target.flow_run_id is not None:
        try:
            return client.read_flow_run(target.flow_run_id)
        except ObjectNotFound:
            return None
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            idempotency_key=FlowRunFilterIdempotencyKey(any_=[target.urn])
        ),
        limit=1,
    )
    return found[0] if found else None


def _is_over(flow_run: FlowRun) -> bool:
    return flow_run.state is not None and flow_run.state.is_final()


def _is_suspended(flow_run: FlowRun) -> bool:
    return flow_run.state is not None and flow_run.state.is_paused()


def _has_ended_in_prefect(client: SyncPrefectClient, target: _Target) -> bool:
    flow_run = _ask_for_flow_run(client, target)
    return flow_run is not None and _is_over(flow_run)


def _wait_for_end(client: SyncPrefectClient, target: _Target) -> FlowRun | None:
    """The pipeline's flow run once Prefect has ended it: a cancellation takes seconds."""
    deadline = time.monotonic() + settings().operator_timeout_seconds
    while True:
        flow_run = _ask_for_flow_run(client, target)
        if flow_run is None or _is_over(flow_run):
            return flow_run
        if time.monotonic() > deadline:
            raise RequestError(
                f"The flow run of {target.urn} is still {flow_run.state_name} in Prefect:"
                " try again when it has ended"
            )
        time.sleep(_POLL_SECONDS)


def _cancel_flow_run(client: SyncPrefectClient, flow_run: FlowRun, message: str) -> None:
    """As `prefect flow-run cancel` does; but a run that waits to be retried, too, ends at once:
    Prefect takes its former process for one that somebody looks after, and nobody does."""
    answer: OrchestrationResult[Any] = client.set_flow_run_state(
        flow_run.id, Cancelling(message=message)
    )
    waited = flow_run.state is not None and flow_run.state.is_scheduled()
    if waited and answer.state is not None and answer.state.is_cancelling():
        client.set_flow_run_state(flow_run.id, Cancelled(message=message))


def _last_transition(flow_run: FlowRun, target: _Target) -> Transition:
    assert flow_run.state is not None
    state = flow_run.state
    return Transition(
        run=Run(flow_run.id, RunKind.FLOW, flow_run.name, pipeline_urn=target.urn),
        state_id=state.id,
        type=state.type.value,
        name=state.name or state.type.value.capitalize(),
        timestamp=state.timestamp,
        source=Source.RECONCILER,
        run_count=flow_run.run_count,
        message=state.message,
    )


def _ask_for_flow_run(client: SyncPrefectClient, target: _Target) -> FlowRun | None:
    with expecting_an_answer("Nothing was changed"):
        return _flow_run(client, target)


def _telling_prefect() -> AbstractContextManager[None]:
    return expecting_an_answer("MaveDB's tables are changed, and Prefect must still be told")
