"""What a Prefect state means for a job."""

from uuid import uuid4

import pytest
from prefect import states as prefect_states
from prefect.client.schemas.objects import State, StateType

from mavedb_audit.states import FINAL_STATE_TYPES, JobStatus, Run, RunKind, job_status


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (prefect_states.Scheduled(), JobStatus.QUEUED),
        (prefect_states.AwaitingRetry(), JobStatus.QUEUED),
        (prefect_states.Pending(), JobStatus.QUEUED),
        (prefect_states.Pending(name="NotReady"), JobStatus.SKIPPED),
        (prefect_states.Running(), JobStatus.RUNNING),
        (prefect_states.Retrying(), JobStatus.RUNNING),
        (prefect_states.Cancelling(), JobStatus.RUNNING),
        (prefect_states.Completed(), JobStatus.SUCCEEDED),
        (prefect_states.Completed(name="Cached"), JobStatus.SUCCEEDED),
        (prefect_states.Completed(name="Skipped"), JobStatus.SKIPPED),
        (prefect_states.Failed(), JobStatus.FAILED),
        (prefect_states.Failed(name="TimedOut"), JobStatus.FAILED),
        (prefect_states.Crashed(), JobStatus.FAILED),
        (prefect_states.Cancelled(), JobStatus.CANCELLED),
    ],
    ids=lambda value: value.name if isinstance(value, State) else str(value),
)
def test_a_state_stands_for_a_job_status(state: State, status: JobStatus) -> None:
    assert job_status(state.type.value, state.name or "") == status


@pytest.mark.parametrize("state_type", StateType)
def test_a_state_of_an_unknown_name_counts_by_its_type(state_type: StateType) -> None:
    assert job_status(state_type.value, "NeverSeen") in JobStatus
    assert (state_type.value in FINAL_STATE_TYPES) == State(type=state_type).is_final()


def test_a_task_runs_name_starts_with_its_job_key() -> None:
    run = Run(uuid4(), RunKind.TASK, "refresh_clinvar_controls_201502 urn:mavedb:00000001-a-1")
    assert run.job_key == "refresh_clinvar_controls_201502"
