"""What the main pipeline costs, from measured.json: what its steps took, each alone, and a whole
pipeline beside them, on a local deployment with nothing else at work (measure.py)."""

import json
import math
from collections.abc import Iterable, Mapping
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
    Prefect's server with `serve`, and the services' simulators."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worker: Seconds
    database: Seconds
    prefect: Seconds
    services: Seconds


class Run(BaseModel):
    """A pipeline that ran alone. `seconds` are from its first step's begin to its last one's end,
    and `requests` all of its steps' to services."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Seconds
    requests: int
    cpu: Parts


class Pair(BaseModel):
    """The same pipeline on few variants and on many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    few: Run
    many: Run


class Measured(BaseModel):
    """`empty` is a pipeline of one step that does nothing, `whole` the main pipeline, and `steps`
    pipelines of one step each, by its function; `few` and `many` are their numbers of variants.

    `start_seconds` is the time from a request to the begin of its first step. `runs` are figures of
    the benchmark, in seconds, for where there is no bench.json.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: int
    few: int
    many: int
    start_seconds: Seconds
    empty: Run
    whole: Pair
    steps: Mapping[str, Pair]
    runs: Mapping[str, float]

    def a_variant(self, function: str) -> Work:
        """What one more variant takes of a step."""
        pair = self.steps[function]
        more = self.many - self.few
        return Work(
            worker=max(0.0, pair.many.cpu.worker - pair.few.cpu.worker) / more,
            database=max(0.0, pair.many.cpu.database - pair.few.cpu.database) / more,
            prefect=max(0.0, pair.many.cpu.prefect - pair.few.cpu.prefect) / more,
            services=max(0.0, pair.many.cpu.services - pair.few.cpu.services) / more,
        )

    def any_step(self) -> Work:
        """What a step takes without variants: what the main pipeline takes more than an empty one,
        its few variants apart, divided by the number of its steps."""
        whole, empty = self.whole.few.cpu, self.empty.cpu
        steps = PIPELINES[PIPELINE].steps
        variants = [self.a_variant(step.function) for step in steps]

        def rest(with_all: float, with_one: float, of_variants: Iterable[float]) -> float:
            return max(0.0, with_all - with_one - self.few * sum(of_variants)) / (len(steps) - 1)

        return Work(
            worker=rest(whole.worker, empty.worker, (v.worker for v in variants)),
            database=rest(whole.database, empty.database, (v.database for v in variants)),
            prefect=rest(whole.prefect, empty.prefect, (v.prefect for v in variants)),
        )

    def process(self) -> Work:
        """What a pipeline takes besides its steps."""
        empty, step = self.empty.cpu, self.any_step()
        return Work(
            worker=max(0.0, empty.worker - step.worker),
            database=max(0.0, empty.database - step.database),
            prefect=max(0.0, empty.prefect - step.prefect),
        )


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
