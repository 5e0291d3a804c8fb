"""What Prefect knows of our runs and of the states they went through, from its REST API.

Its filter routes give runs with their current state, 200 at a time; a run's history comes from the
state routes, one run a request.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from pydantic import BaseModel, TypeAdapter

from mavedb_audit.errors import ConfigurationError, PrefectUnreachableError
from mavedb_audit.events import OUR_FLOWS
from mavedb_audit.hooks import pipeline_urn_of
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.states import FINAL_STATE_TYPES, Run, RunKind, Source, Transition

#: An answer that did not come, is an error, or is not what Prefect answers (a ValueError).
UNANSWERED = (httpx.HTTPError, ValueError)

_OURS = {"name": {"any_": sorted(OUR_FLOWS)}}
_PAGE = 200
_REQUESTS_AT_ONCE = 8
_TIMEOUT_SECONDS = 10.0
_OPEN_STATE_TYPES = sorted({state_type.value for state_type in StateType} - FINAL_STATE_TYPES)

T = TypeVar("T")


class PrefectUnansweredError(PrefectUnreachableError):
    """Prefect does not answer, or not as Prefect does."""


class State(BaseModel):
    """A state as Prefect's state routes give it."""

    id: UUID
    type: StateType
    name: str
    timestamp: datetime
    message: str | None = None

    @property
    def sort_key(self) -> tuple[datetime, UUID]:
        return self.timestamp, self.id


@dataclass(frozen=True)
class ListedRun:
    """A run as Prefect lists it. `flow_name` and `parameters` are a flow run's."""

    run: Run
    state: State | None
    run_count: int
    flow_name: str | None = None
    parameters: Mapping[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        return self.state is not None and self.state.type.value in FINAL_STATE_TYPES

    @property
    def is_waiting_for_its_time(self) -> bool:
        return self.state is not None and self.state.type is StateType.SCHEDULED

    @property
    def is_under_way(self) -> bool:
        return not self.has_ended and not self.is_waiting_for_its_time

    @property
    def flow_run_id(self) -> UUID | None:
        """The run itself, or a task run's flow run."""
        return self.run.run_id if self.run.kind is RunKind.FLOW else self.run.flow_run_id

    def transition(self, state: State, source: Source) -> Transition:
        """One state of its history. How often the run was started is known of the current one."""
        is_current = self.state is not None and state.id == self.state.id
        return Transition(
            run=self.run,
            state_id=state.id,
            type=state.type.value,
            name=state.name,
            timestamp=state.timestamp,
            source=source,
            run_count=self.run_count if is_current else None,
            message=state.message,
        )


class _Flow(BaseModel):
    id: UUID
    name: str


class _FlowRun(BaseModel):
    id: UUID
    name: str
    flow_id: UUID
    parameters: dict[str, Any]
    state: State | None
    run_count: int


class _TaskRun(BaseModel):
    id: UUID
    name: str
    flow_run_id: UUID | None
    state: State | None
    run_count: int


_STATES = TypeAdapter(list[State])
_FLOWS = TypeAdapter(list[_Flow])
_FLOW_RUNS = TypeAdapter(list[_FlowRun])
_TASK_RUNS = TypeAdapter(list[_TaskRun])


def require_prefect() -> None:
    """Raise ConfigurationError unless a Prefect server is named."""
    if PREFECT_API_URL.value() is None:
        # Prefect would start a server of its own, where nobody looks for the flow runs.
        raise ConfigurationError(
            "PREFECT_API_URL is not set: it must be the API of the Prefect server, such as"
            " http://prefect:4200/api"
        )


def prefect_client() -> SyncPrefectClient:
    """A client of PREFECT_API_URL that does not wait for long."""
    return get_client(httpx_settings={"timeout": _TIMEOUT_SECONDS}, sync_client=True)


@contextmanager
def impatient_client() -> Iterator[SyncPrefectClient]:
    """A client for somebody who waits for the answer and can ask again: it does not try again.

    Raises ConfigurationError unless a Prefect server is named.
    """
    require_prefect()
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), prefect_client() as client:
        yield client


@contextmanager
def expecting_an_answer(what_stands: str) -> Iterator[None]:
    """Raises PrefectUnreachableError, which says what stands, when Prefect does not answer."""
    try:
        yield
    except UNANSWERED as error:
        # A ValueError is an answer that is not Prefect's, such as a proxy's page.
        raise PrefectUnreachableError(
            f"Prefect does not answer as it should ({type(error).__name__}: {error})."
            f" {what_stands}: check PREFECT_API_URL, and do the same again"
        ) from error


class Prefect:
    """Prefect's answers. Its methods raise PrefectUnansweredError when it gives no list."""

    def __init__(
        self, client: SyncPrefectClient, pool: ThreadPoolExecutor, stop: threading.Event
    ) -> None:
        self._client = client
        self._pool = pool
        self._stop = stop
        self._flow_names = {
            flow.id: flow.name for flow in self._pages("/flows/filter", _FLOWS, flows=_OURS)
        }

    def our_flow_runs(self, since: datetime | None) -> dict[UUID, ListedRun]:
        """Our flow runs, newest first: all, or those open, started or ended since then."""
        chosen: dict[str, Any] = {"flows": _OURS}
        if since is not None:
            after = {"after_": since.isoformat()}
            chosen["flow_runs"] = {
                "operator": "or_",
                "state": {"type": {"any_": _OPEN_STATE_TYPES}},
                "expected_start_time": after,
                "end_time": after,
            }
        return self._flow_runs(**chosen)

    def flow_runs(self, run_ids: Iterable[UUID]) -> dict[UUID, ListedRun]:
        """Those of the flow runs that Prefect has."""
        found: dict[UUID, ListedRun] = {}
        for some in batches(sorted(run_ids), _PAGE):
            found |= self._flow_runs(flow_runs={"id": {"any_": [str(run_id) for run_id in some]}})
        return found

    def task_runs(self, flow_run_ids: Iterable[UUID]) -> dict[UUID, ListedRun]:
        """The task runs of the flow runs, subflows' placeholders among them."""
        wanted = [str(run_id) for run_id in flow_run_ids]
        if not wanted:
            return {}
        listed = self._pages(
            "/task_runs/filter", _TASK_RUNS, task_runs={"flow_run_id": {"any_": wanted}}
        )
        return {
            task_run.id: ListedRun(
                run=Run(task_run.id, RunKind.TASK, task_run.name, task_run.flow_run_id),
                state=task_run.state,
                run_count=task_run.run_count,
            )
            for task_run in listed
        }

    def histories(self, runs: Sequence[ListedRun]) -> list[list[State] | Exception]:
        """Each run's states in the order of time, or why Prefect did not give them."""
        answers = [self._pool.submit(copy_context().run, self._history, run) for run in runs]
        return [answer.result() for answer in answers]

    def _history(self, listed: ListedRun) -> list[State] | Exception:
        run_id = str(listed.run.run_id)
        if self._stop.is_set():
            return PrefectUnansweredError("Not asked: told to stop")
        try:
            if listed.run.kind is RunKind.FLOW:
                answer = self._client.request(
                    "GET", "/flow_run_states/", params={"flow_run_id": run_id}
                )
            else:
                answer = self._client.request(
                    "GET", "/task_run_states/", params={"task_run_id": run_id}
                )
            states = _STATES.validate_json(answer.content)
        except UNANSWERED as error:
            return error
        return sorted(states, key=lambda state: state.sort_key)

    def _flow_runs(self, **chosen: Any) -> dict[UUID, ListedRun]:
        return {
            flow_run.id: self._listed(flow_run)
            for flow_run in self._pages("/flow_runs/filter", _FLOW_RUNS, **chosen)
        }

    def _listed(self, flow_run: _FlowRun) -> ListedRun:
        flow_name = self._flow_names.get(flow_run.flow_id)
        return ListedRun(
            run=Run(
                flow_run.id,
                RunKind.FLOW,
                flow_run.name,
                pipeline_urn=pipeline_urn_of(flow_run.id, flow_run.parameters)
                if flow_name in PIPELINES
                else None,
            ),
            state=flow_run.state,
            run_count=flow_run.run_count,
            flow_name=flow_name,
            parameters=flow_run.parameters,
        )

    def _pages(self, path: Any, adapter: TypeAdapter[list[T]], **chosen: Any) -> Iterator[T]:
        offset = 0
        while True:
            body = {**chosen, "limit": _PAGE, "offset": offset}
            try:
                page = adapter.validate_json(self._client.request("POST", path, json=body).content)
            except UNANSWERED as error:
                raise PrefectUnansweredError(
                    f"Prefect at {self._client.api_url} does not answer"
                    f" ({type(error).__name__}: {str(error).splitlines()[0]});"
                    " check PREFECT_API_URL, and that the server runs"
                ) from error
            yield from page
            if len(page) < _PAGE:
                return
            offset += _PAGE


@contextmanager
def asking(client: SyncPrefectClient, stop: threading.Event) -> Iterator[Prefect]:
    """Prefect, asked up to 8 things at once, and nothing more once `stop` is set.

    Without the client's own retries, which take minutes: who asks has other runs to go on with.
    """
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        ThreadPoolExecutor(_REQUESTS_AT_ONCE, "prefect-histories") as pool,
    ):
        yield Prefect(client, pool, stop)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of that size; the last may be shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
