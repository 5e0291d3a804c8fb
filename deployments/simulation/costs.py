"""What the main pipeline costs, from measured.json: what its steps took, each alone, and a whole
pipeline beside them, on a local deployment with nothing else at work (measure.py)."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from deployments.local.submission import PIPELINE
from deployments.simulation.model import PipelineCost, StepCost, Work
from mavedb_audit.pipelines import PIPELINES, Step
from mavedb_audit.services import ASKED_BY, Service

MEASURED = Path(__file__).with_name("measured.json")

#: Steps that write the records of their source one score set after another, since these are shared.
_SHARED_RECORDS = frozenset({"link_gnomad_variants", "refresh_clinvar_controls"})

Seconds = Annotated[float, Field(ge=0)]


class Parts(BaseModel):
    """Seconds of CPU by part of the local deployment: the worker with its flows, PostgreSQL,
    Prefect's server with `serve`, and the services' simulators with the cache."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worker: Seconds
    database: Seconds
    prefect: Seconds
    services: Seconds


class Run(BaseModel):
    """A pipeline that ran alone. `seconds` are from its first step's begin to its last one's end,
    and `requests` all of its steps' to services. `cpu` is what all parts took in the
    `watched_seconds` around it, that which they take without pipelines too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Seconds
    requests: int
    watched_seconds: Seconds
    cpu: Parts


class Pair(BaseModel):
    """The same pipeline on few variants and on many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    few: Run
    many: Run


class Measured(BaseModel):
    """`empty` is a pipeline of one step that does nothing, `whole` the main pipeline, and `steps`
    pipelines of one step each, by its function; `few` and `many` are their numbers of variants.
    `idle` is the share of a core that each part takes while no pipeline runs.

    `start_seconds` is the time from a request to the begin of its first step. `runs` are figures of
    the benchmark, in seconds, for where there is no bench.json.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: int
    few: int
    many: int
    start_seconds: Seconds
    idle: Parts
    empty: Run
    whole: Pair
    steps: Mapping[str, Pair]
    runs: Mapping[str, float]

    def of_pipeline(self, run: Run) -> Work:
        """What the parts took more than without the pipeline; less than nothing for one that takes
        little, since they do not idle evenly."""
        return _each(lambda took, idle: took - idle * run.watched_seconds, run.cpu, self.idle)

    def a_variant(self, function: str) -> Work:
        """What one more variant takes of a step: its share of what it takes of the main pipeline,
        whose steps take more side by side than each alone."""
        variants = self.many - self.few
        return _each(
            lambda together, alone, step: together * step / alone / variants if alone else 0.0,
            self._more_of(self.whole),
            self._all_steps_alone(),
            self._more_of(self.steps[function]),
        )

    def _all_steps_alone(self) -> Work:
        steps = PIPELINES[PIPELINE].steps
        return _each(
            lambda *each: sum(each), *(self._more_of(self.steps[step.function]) for step in steps)
        )

    def _more_of(self, pair: Pair) -> Work:
        """What the many variants take more than the few."""
        return _each(
            lambda many, few: max(0.0, many - few),
            self.of_pipeline(pair.many),
            self.of_pipeline(pair.few),
        )

    def any_step(self) -> Work:
        """What a step takes without variants: what the main pipeline takes more than an empty one,
        its few variants apart, divided by the number of its steps."""
        steps = PIPELINES[PIPELINE].steps
        variants = [self.a_variant(step.function) for step in steps]
        return _each(
            lambda whole, empty, *each: (
                max(0.0, whole - empty - self.few * sum(each)) / (len(steps) - 1)
            ),
            self.of_pipeline(self.whole.few),
            self.of_pipeline(self.empty),
            *variants,
        )

    def process(self) -> Work:
        """What a pipeline takes besides its steps."""
        return _each(
            lambda empty, step: max(0.0, empty - step),
            self.of_pipeline(self.empty),
            self.any_step(),
        )


def _each(of_one: Callable[..., float], *all_parts: Parts | Work) -> Work:
    """The same of each part."""
    names = [part.name for part in fields(Work)]
    return Work(**{name: of_one(*(getattr(parts, name) for parts in all_parts)) for name in names})


def read_measured(file: Path = MEASURED) -> Measured:
    return Measured.model_validate(json.loads(file.read_text()))


def cost_of(
    measured: Measured, variants: int, requests_a_second: Mapping[Service, float]
) -> PipelineCost:
    """The main pipeline on a score set of so many variants, whose alleles are in no cache."""
    return PipelineCost(
        process=measured.process(),
        start_seconds=measured.start_seconds,
        steps=tuple(
            _step_cost(measured, step, variants, requests_a_second)
            for step in PIPELINES[PIPELINE].steps
        ),
    )


def _step_cost(
    measured: Measured, step: Step, variants: int, requests_a_second: Mapping[Service, float]
) -> StepCost:
    pair = measured.steps[step.function]
    each = measured.a_variant(step.function)
    any_step = measured.any_step()
    requests = (pair.many.requests - pair.few.requests) / (measured.many - measured.few)
    service = ASKED_BY[step.function][0] if pair.many.requests else None
    sending = pair.few.requests / requests_a_second.get(service, math.inf) if service else 0.0
    few = measured.few
    working = any_step.worker + any_step.database + few * (each.worker + each.database)
    return StepCost(
        key=step.key,
        after=step.after,
        work=Work(
            worker=any_step.worker + variants * each.worker,
            database=any_step.database + variants * each.database,
            prefect=any_step.prefect + variants * each.prefect,
            services=variants * each.services,
        ),
        service=service,
        requests=max(0.0, pair.few.requests + requests * (variants - few)),
        waiting=max(0.0, pair.few.seconds - working - max(sending, few * each.services)),
        source=step.key if step.function in _SHARED_RECORDS else None,
    )
