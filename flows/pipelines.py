"""The flows of the pipelines, one by the name of each plan, which it runs with that plan's
parameters.

A request gives only `pipeline_urn`. Started by hand, in Prefect's UI or with `prefect deployment
run`, a flow plans its own pipeline from the other parameters.
"""

from collections.abc import Coroutine
from inspect import Parameter, Signature
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State

from flows.plan import run_plan
from mavedb_audit.hooks import audited_flow
from mavedb_audit.pipelines import PIPELINES, Pipeline

PipelineFlow = Flow[..., Coroutine[Any, Any, State[Any]]]


def _optional(name: str, annotation: Any, default: Any = None) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


#: What the forms of Prefect's UI ask for: nothing is required there, since a request brings it all.
_PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        _optional("pipeline_urn", str | None),
        _optional("score_set_id", int | None),
        _optional("updater_id", int | None),
        _optional("scores_file_key", str | None),
        _optional("counts_file_key", str | None),
        _optional("score_columns_metadata", dict[str, Any], {}),
        _optional("count_columns_metadata", dict[str, Any], {}),
        _optional("year", int | None),
        _optional("month", int | None),
        _optional("only_failed_variants", bool, False),
        _optional("correlation_id", str | None),
    )
}


def _flow_of(name: str) -> PipelineFlow:
    plan = PIPELINES[name]

    async def run(*, pipeline_urn: str | None, **params: Any) -> State[Any]:
        return await run_plan(name, pipeline_urn, params)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = plan.description
    run.__module__ = __name__
    # Prefect makes the form of a flow's parameters, and their types, from its signature;
    # mypy knows no such attribute of a function.
    run.__signature__ = _signature(plan)  # type: ignore[attr-defined]
    return audited_flow(run)


def _signature(plan: Pipeline) -> Signature:
    limit = {"only_failed_variants"} if plan.is_limitable else set()
    taken = {"pipeline_urn", *plan.params} | limit
    return Signature(
        [parameter for name, parameter in _PARAMETERS.items() if name in taken],
        return_annotation=State,
    )


def __getattr__(name: str) -> PipelineFlow:
    """The flow of the pipeline `name`.

    Made when it is asked for: a flow takes 15 ms to make, and the process of a flow run needs one.
    """
    if name not in PIPELINES:
        raise AttributeError(f"There is no pipeline {name!r}: there are {', '.join(PIPELINES)}")
    flow = globals()[name] = _flow_of(name)
    return flow
