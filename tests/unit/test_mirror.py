"""What the mirror understands of Prefect's events, as a server of 3.8.8 sends them."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.events.schemas.events import Event

from mavedb_audit.events import MalformedEventError, flow_name_of, transition_of
from mavedb_audit.states import Run, RunKind, Source, Transition

FLOW_RUN = "884ae522-3387-4b91-8a02-debbd9d93f94"
TASK_RUN = "01a20d84-ffb2-7233-b376-0afa4aa5fdb1"
FLOW = {
    "prefect.resource.id": "prefect.flow.5ea7124b-3a6c-48f7-87ce-2c56ad2ecd6d",
    "prefect.resource.name": "map_annotate_score_set",
    "prefect.resource.role": "flow",
}
TAG = {
    "prefect.resource.id": "prefect.tag.urn:mavedb:00000001-a-1",
    "prefect.resource.role": "tag",
}
FLOW_SUBMITTING: dict[str, Any] = {
    "occurred": "2026-11-24T12:25:47.382096Z",
    "event": "prefect.flow-run.Submitting",
    "resource": {
        "prefect.run-count": "0",
        "prefect.state-name": "Submitting",
        "prefect.state-type": "PENDING",
        "prefect.resource.id": f"prefect.flow-run.{FLOW_RUN}",
        "prefect.resource.name": "urn:mavedb:00000001-a-1 map_annotate_score_set",
        "prefect.state-message": "",
        "prefect.state-timestamp": "2026-11-24T12:25:47.382096+00:00",
    },
    "related": [FLOW, TAG],
    "payload": {
        "intended": {"to": "PENDING", "from": "PENDING"},
        "initial_state": {"name": "Pending", "type": "PENDING"},
        "validated_state": {"name": "Submitting", "type": "PENDING"},
    },
    "id": "01a20d84-f676-738c-b3e4-dd78e89ab5c2",
    "follows": "01a20d84-f639-7443-9535-bc0c9aed540d",
    "received": "2026-11-24T12:25:47.388383Z",
}
TASK_PENDING: dict[str, Any] = {
    "occurred": "2026-11-24T12:25:49.832593Z",
    "event": "prefect.task-run.Pending",
    "resource": {
        "prefect.run-count": "0",
        "prefect.state-name": "Pending",
        "prefect.state-type": "PENDING",
        "prefect.resource.id": f"prefect.task-run.{TASK_RUN}",
        "prefect.orchestration": "client",
        "prefect.resource.name": "map_variants_for_score_set-5e2",
        "prefect.state-message": "",
        "prefect.state-timestamp": "2026-11-24T12:25:49.832593+00:00",
    },
    "related": [
        {
            "prefect.resource.id": f"prefect.flow-run.{FLOW_RUN}",
            "prefect.resource.name": "urn:mavedb:00000001-a-1 map_annotate_score_set",
            "prefect.resource.role": "flow-run",
        },
        FLOW,
        TAG,
    ],
    "payload": {
        "task_run": {
            "name": "map_variants_for_score_set-5e2",
            "task_key": "map_variants_for_score_set-acb72b9b",
            "run_count": 0,
            "dynamic_key": "5e273dc4-ab97-4889-9d0a-185c572a70ed",
        },
        "initial_state": None,
        "validated_state": {"data": None, "name": "Pending", "type": "PENDING", "message": ""},
    },
    "id": "01a20d85-0008-70e8-97ca-3bbb1404c53a",
    "follows": None,
    "received": "2026-11-24T12:25:49.841439Z",
}
HEARTBEAT: dict[str, Any] = {
    "occurred": "2026-11-24T12:25:49.569269Z",
    "event": "prefect.flow-run.heartbeat",
    "resource": {
        "prefect.version": "3.8.8",
        "prefect.resource.id": f"prefect.flow-run.{FLOW_RUN}",
        "prefect.resource.name": "urn:mavedb:00000001-a-1 map_annotate_score_set",
    },
    "related": [FLOW, TAG],
    "payload": {},
    "id": "01a20d84-ff02-7cd2-9d8f-f679e9561cf1",
    "follows": None,
    "received": "2026-11-24T12:25:49.638298Z",
}
PULL_STEP: dict[str, Any] = {
    "occurred": "2026-11-24T12:25:48.268110Z",
    "event": "prefect.flow-run.pull-step.executed",
    "resource": {"prefect.resource.id": f"prefect.flow-run.{FLOW_RUN}"},
    "related": [],
    "payload": {"index": 0, "step_name": "set_working_directory"},
    "id": "01a20d84-f9ec-737c-88b4-cdf60e0ebf47",
    "follows": None,
    "received": "2026-11-24T12:25:48.268582Z",
}


def event(captured: dict[str, Any], **labels: str | None) -> Event:
    """The captured event, with other labels of its resource; None takes one away."""
    changed = deepcopy(captured)
    resource = {**changed["resource"], **labels}
    changed["resource"] = {key: value for key, value in resource.items() if value is not None}
    return Event.model_validate(changed)


def test_an_event_of_a_flow_run_is_its_state() -> None:
    assert transition_of(event(FLOW_SUBMITTING)) == Transition(
        run=Run(
            UUID(FLOW_RUN),
            RunKind.FLOW,
            "urn:mavedb:00000001-a-1 map_annotate_score_set",
            pipeline_urn=f"urn:mavedb:pipeline-{FLOW_RUN}",
        ),
        state_id=UUID("01a20d84-f676-738c-b3e4-dd78e89ab5c2"),
        type="PENDING",
        name="Submitting",
        timestamp=datetime(2026, 11, 24, 12, 25, 47, 382096, UTC),
        source=Source.MIRROR,
        run_count=0,
        message=None,
    )


def test_an_event_of_a_task_run_names_its_flow_run_and_its_job() -> None:
    pending = transition_of(event(TASK_PENDING))
    assert pending is not None
    assert pending.run == Run(
        UUID(TASK_RUN), RunKind.TASK, "map_variants_for_score_set", UUID(FLOW_RUN)
    )
    assert flow_name_of(event(TASK_PENDING)) == "map_annotate_score_set"


def test_a_task_run_that_has_begun_keeps_its_whole_name() -> None:
    """Its name is then the job's key, even one that ends as Prefect's provisional names do."""
    begun = transition_of(
        event(
            TASK_PENDING,
            **{
                "prefect.run-count": "1",
                "prefect.resource.name": "link_clinvar_controls-5e2",
                "prefect.state-message": "What the step says",
            },
        )
    )
    assert begun is not None
    assert begun.run.job_key == "link_clinvar_controls-5e2"
    assert (begun.run_count, begun.message) == (1, "What the step says")


@pytest.mark.parametrize("captured", [HEARTBEAT, PULL_STEP])
def test_other_events_are_no_states(captured: dict[str, Any]) -> None:
    assert transition_of(event(captured)) is None


def test_an_event_may_not_say_whose_run_it_is() -> None:
    assert flow_name_of(event(PULL_STEP)) is None


@pytest.mark.parametrize(
    ("label", "value", "kind"),
    [
        ("prefect.state-type", "DREAMING", "an unknown state type 'DREAMING'"),
        ("prefect.resource.id", "prefect.task-run.17", "a run id that is no UUID"),
        ("prefect.resource.id", f"prefect.flow-run.{TASK_RUN}", "a run id that is no UUID"),
        ("prefect.resource.name", None, "no name of the run"),
        ("prefect.run-count", "once", "a run count that is no number"),
        ("prefect.run-count", None, "a run count that is no number"),
    ],
)
def test_a_malformed_event_says_what_is_wrong(label: str, value: str | None, kind: str) -> None:
    with pytest.raises(MalformedEventError) as error:
        transition_of(event(TASK_PENDING, **{label: value}))
    assert error.value.kind == kind
    assert TASK_PENDING["id"] in str(error.value)
