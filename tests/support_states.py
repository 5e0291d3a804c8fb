"""The states that docs/reference/states.md describes, and runs in Prefect that enter them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.context import FlowRunContext
from prefect.utilities.engine import emit_task_run_state_change_event

from mavedb_audit.states import RunKind
from tests.support import MaveDB, wait_until

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "states.md"
FLOW, TASK = RunKind.FLOW, RunKind.TASK


@dataclass(frozen=True)
class Described:
    """A state as the page describes it. `seen_by` are the first letters of sources."""

    kind: RunKind
    name: str
    type: str
    seen_by: frozenset[str]
    becomes: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def read_page() -> list[Described]:
    described = []
    for kind, heading in ((TASK, "## Task runs"), (FLOW, "## Flow runs")):
        section = PAGE.read_text().split(heading)[1].split("##")[0]
        for line in re.findall(r"^\| ([A-Z].*) \|$", section, re.MULTILINE):
            names, type_, seen_by, becomes, _ = (cell.strip() for cell in f"{line} ".split("|"))
            letters = frozenset(re.sub(r"\(.*?\)", "", seen_by).split())
            described += [
                Described(kind, name, type_, letters, becomes) for name in names.split(", ")
            ]
    return described


DESCRIBED = read_page()


def described(kind: RunKind, name: str) -> Described:
    return next(state for state in DESCRIBED if (state.kind, state.name) == (kind, name))


@dataclass(frozen=True)
class FlowInPrefect:
    """A flow run that nothing executes: its states are set as Prefect's parts set them."""

    mavedb: MaveDB
    flow_run: FlowRun

    @property
    def run_id(self) -> UUID:
        return self.flow_run.id

    def enter(self, name: str, type_: str | None = None) -> None:
        match name:
            case "Scheduled":
                pass  # by the dispatcher
            case "Late":
                # Prefect's service that looks for late runs names it so, in a few seconds.
                long_ago = {"scheduled_time": "2020-01-01T00:00:00Z"}
                self._set("SCHEDULED", "Scheduled", state_details=long_ago)
            case "AwaitingConcurrencySlot":
                with self._no_slot_free():
                    self._set("PENDING", "Pending", force=False)
            case "Suspended":
                details = {"pause_reschedule": True, "pause_timeout": "2100-01-01T00:00:00Z"}
                self._set("PAUSED", name, state_details=details)
            case "Resuming":
                self.mavedb.prefect("POST", f"flow_runs/{self.run_id}/resume", {})
            case _:
                self._set(type_ or described(FLOW, name).type, name)

    def state_id(self, name: str) -> UUID:
        """The id of the newest state of that name."""

        def found() -> list[str]:
            history = f"flow_run_states/?flow_run_id={self.run_id}"
            states = self.mavedb.prefect("GET", history)
            return [state["id"] for state in states if state["name"] == name]

        return UUID(wait_until(found)[-1])

    def _set(self, type_: str, name: str, *, force: bool = True, **more: Any) -> None:
        state = {"type": type_, "name": name, **more}
        path = f"flow_runs/{self.run_id}/set_state"
        self.mavedb.prefect("POST", path, {"state": state, "force": force})

    @contextmanager
    def _no_slot_free(self) -> Iterator[None]:
        """Its deployment has one slot, which somebody else has taken."""
        deployment = f"deployments/{self.flow_run.deployment_id}"
        slot = {"names": [f"deployment:{self.flow_run.deployment_id}"], "slots": 1}
        patch(self.mavedb, deployment, {"concurrency_limit": 1})
        try:
            self.mavedb.prefect("POST", "v2/concurrency_limits/increment", slot)
            yield
        finally:
            patch(self.mavedb, deployment, {"concurrency_limit": None})


@dataclass
class TaskInPrefect:
    """A task run that nothing executes: its states are told as Prefect's engine tells them."""

    flow_run: FlowRun
    task_run: TaskRun
    state_ids: dict[str, UUID] = field(default_factory=dict)

    @property
    def run_id(self) -> UUID:
        return self.task_run.id

    def enter(self, name: str, type_: str | None = None) -> None:
        state: State[Any] = State(type=StateType(type_ or described(TASK, name).type), name=name)
        before, self.task_run.state = self.task_run.state, state
        self.task_run.run_count += state.is_running()
        with FlowRunContext.model_construct(flow_run=self.flow_run):
            emit_task_run_state_change_event(self.task_run, before, state)
        self.state_ids[name] = state.id

    def state_id(self, name: str) -> UUID:
        return self.state_ids[name]


def task_in(flow_run: FlowRun, job_key: str) -> TaskInPrefect:
    run_id = uuid4()
    task_run = TaskRun(
        id=run_id,
        name=job_key,
        task_key=job_key,
        dynamic_key=str(run_id),
        flow_run_id=flow_run.id,
    )
    return TaskInPrefect(flow_run, task_run)


def patch(mavedb: MaveDB, path: str, change: Mapping[str, Any]) -> None:
    httpx.patch(f"{mavedb.stack.prefect_api_url}/{path}", json=change).raise_for_status()
