"""Plans, and the tasks that they name."""

import inspect
from pathlib import Path

import pytest
from prefect import Task

import tasks
from flows import pipelines as pipeline_flows
from flows.plan import task_of
from mavedb_audit.pipelines import PIPELINES, Pipeline, Step

STEPS = {step.key: step for pipeline in PIPELINES.values() for step in pipeline.steps}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_planned_job_function_is_an_audited_task_with_the_planned_parameters(
    step: Step,
) -> None:
    task = task_of(step.function)
    assert task.name == step.function
    assert task.retry_condition_fn is not None
    inspect.signature(task.fn).bind(**step.params)


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_a_step_follows_those_that_it_depends_on(pipeline: Pipeline) -> None:
    seen: set[str] = set()
    for step in pipeline.steps:
        assert step.key not in seen
        assert seen.issuperset(step.after)
        seen.add(step.key)


def test_every_task_is_in_a_plan() -> None:
    planned = {step.function for step in STEPS.values()}
    written = {path.stem for path in Path(tasks.__path__[0]).glob("*.py")} - {"__init__"}
    audited = {name for name in written if isinstance(_attribute(name), Task)}
    assert audited == planned


def _attribute(module: str) -> object:
    return getattr(__import__(f"tasks.{module}", fromlist=[module]), module, None)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_plan_has_a_flow_of_its_name_that_takes_its_parameters(name: str) -> None:
    flow = getattr(pipeline_flows, name)
    assert flow.name == name
    plan = PIPELINES[name]
    limit = {"only_failed_variants"} if plan.is_limitable else set()
    assert set(flow.parameters.properties) == {"pipeline_urn", *plan.params} | limit
    assert flow.parameters.required == []
