"""The simulation of workers against the services' limits: what must hold whatever it costs."""

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from deployments.local.submission import PIPELINE
from deployments.simulation import costs, report
from deployments.simulation.model import (
    Deployment,
    Outcome,
    Pace,
    PipelineCost,
    StepCost,
    Work,
    simulate,
)
from mavedb_audit.limits import LIMITS
from mavedb_audit.pipelines import PIPELINES
from mavedb_audit.services import Service

SCORE_SETS = 24
FREE = {service: Pace(1_000, seconds_a_request=0.0) for service in LIMITS}


def step(key: str, *after: str, **what: object) -> StepCost:
    return StepCost(key, after, **({"work": Work()} | what))  # type: ignore[arg-type]


def pipeline(*steps: StepCost, process: float = 0.0, start: float = 0.0) -> PipelineCost:
    return PipelineCost(Work(worker=process), start, steps)


def asking(service: Service, requests: float) -> StepCost:
    return step("ask", service=service, requests=requests)


def measured() -> costs.Measured:
    return costs.read_measured()


def cost(variants: int = 12_000) -> PipelineCost:
    return costs.cost_of(measured(), variants, {})


def seconds(deployment: Deployment, cost: PipelineCost, score_sets: int = SCORE_SETS) -> float:
    return simulate(deployment, cost, score_sets).seconds


def test_one_worker_of_one_place_takes_the_sum_of_all_there_is_to_do() -> None:
    chain = pipeline(
        step("a", work=Work(worker=2.5)),
        step("b", "a", work=Work(worker=0.5, database=4.0)),
        step("c", "b", waiting=1.25),
        process=3.0,
        start=4.0,
    )
    one = Deployment(1, FREE, places=1, worker_cores=8, database_cores=8)

    assert seconds(one, chain) == pytest.approx(SCORE_SETS * (4.0 + 2.5 + 0.5 + 4.0 + 1.25))


def test_a_limit_of_requests_a_second_takes_requests_divided_by_it() -> None:
    limited = {**FREE, Service.ENSEMBL: Pace(1, requests_a_second=10.0, seconds_a_request=0.0)}
    many = Deployment(50, limited, places=6)

    took = seconds(many, pipeline(asking(Service.ENSEMBL, 75)))

    assert took == pytest.approx(SCORE_SETS * 75 / 10)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_slots_of_a_service_are_all_that_more_workers_wait_for(workers: int) -> None:
    slow = {**FREE, Service.VRS_MAPPER: Pace(slots=4, seconds_a_request=100.0)}
    deployment = Deployment(workers, slow, places=6)

    outcome = simulate(deployment, pipeline(asking(Service.VRS_MAPPER, 1)), SCORE_SETS)

    assert outcome.seconds == pytest.approx(SCORE_SETS / 4 * 100)
    assert outcome.busy[Service.VRS_MAPPER] == pytest.approx(1)
    assert report.bottleneck(outcome) == Service.VRS_MAPPER


def test_places_bound_what_a_worker_does_at_once() -> None:
    idle = pipeline(step("wait", waiting=10.0))

    outcome = simulate(Deployment(2, FREE, places=3), idle, SCORE_SETS)

    assert outcome.seconds == pytest.approx(SCORE_SETS / (2 * 3) * 10)
    assert report.bottleneck(outcome) == "places for pipelines"


def test_a_flow_has_one_interpreter_however_many_cores_its_worker_has() -> None:
    wide = pipeline(*(step(f"step {n}", work=Work(worker=5.0)) for n in range(12)))

    assert seconds(Deployment(1, FREE, worker_cores=32), wide, 1) == pytest.approx(12 * 5)


def test_one_step_at_a_time_writes_for_a_score_set_and_to_shared_records() -> None:
    writing = Work(database=2.0)
    own = pipeline(*(step(f"step {n}", work=writing) for n in range(5)))
    shared = pipeline(step("gnomad", work=writing, source="gnomad"))
    large = Deployment(1, FREE, database_cores=1_000)

    assert seconds(large, own, 8) == pytest.approx(5 * 2)
    assert seconds(large, shared, 8) == pytest.approx(8 * 2)


def test_a_step_begins_when_those_it_comes_after_have_ended() -> None:
    diamond = pipeline(
        step("a", waiting=1.0),
        step("b", "a", waiting=5.0),
        step("c", "a", waiting=2.0),
        step("d", "b", "c", waiting=1.0),
    )

    assert seconds(Deployment(1, FREE), diamond, 1) == pytest.approx(1 + 5 + 1)


def test_parts_on_one_machine_share_its_cores() -> None:
    step_of_all = step("step", work=Work(worker=3.0, database=2.0, services=4.0))
    asked = pipeline(StepCost("step", (), step_of_all.work, service=Service.ENSEMBL, requests=1.0))
    paces = {service: Pace(1_000) for service in LIMITS}
    small = Deployment(1, paces, shared_cores=2)

    outcome = simulate(small, asked, SCORE_SETS)

    assert outcome.seconds >= SCORE_SETS * (3 + 2 + 4) / 2
    assert outcome.busy["workers"] == pytest.approx(SCORE_SETS * 3 / 2 / outcome.seconds)


def test_what_an_idle_machine_does_takes_its_share_from_the_pipelines() -> None:
    working = pipeline(step("step", work=Work(worker=30.0)))
    half_idle = Deployment(1, FREE, shared_cores=1, idle_cores=0.5)

    assert seconds(half_idle, working, 1) == pytest.approx(2 * 30, rel=0.05)


class TestMeasuredCosts:
    """The main pipeline, as measured."""

    @pytest.mark.parametrize("part", ["worker", "database"])
    def test_all_that_the_whole_pipeline_took_is_its_process_s_or_a_step_s(self, part: str) -> None:
        whole = measured().whole
        for variants, run in ((measured().few, whole.few), (measured().many, whole.many)):
            shared_out = cost(variants)
            works = [shared_out.process, *(each.work for each in shared_out.steps)]

            took = getattr(measured().of_pipeline(run), part)
            assert sum(getattr(work, part) for work in works) == pytest.approx(took)

    def outcomes(self, paces: dict[Service, Pace]) -> dict[int, Outcome]:
        return {
            workers: simulate(
                Deployment(workers, paces, places=6, worker_cores=6, database_cores=4),
                cost(),
                SCORE_SETS,
            )
            for workers in (1, 2, 4, 8)
        }

    @pytest.mark.parametrize("paces", [FREE, {s: Pace(limit) for s, limit in LIMITS.items()}])
    def test_more_workers_do_the_same_work_no_slower(self, paces: dict[Service, Pace]) -> None:
        outcomes = self.outcomes(paces)

        times = [outcome.seconds for outcome in outcomes.values()]
        assert all(more <= 1.001 * fewer for fewer, more in pairwise(times))
        for workers, outcome in outcomes.items():
            done = outcome.busy["workers"] * outcome.seconds * workers * 6
            assert done == pytest.approx(
                SCORE_SETS
                * (cost().process.worker + sum(each.work.worker for each in cost().steps))
            )
            assert outcome.requests == pytest.approx(outcomes[1].requests)
            assert all(0 <= share <= 1 for share in outcome.busy.values())

    def test_no_run_beats_its_longest_chain_or_its_busiest_part(self) -> None:
        steps = {each.key: each for each in cost().steps}

        def end(key: str) -> float:
            own = steps[key]
            before = max((end(earlier) for earlier in own.after), default=0.0)
            return before + own.work.worker + own.work.database + own.waiting

        longest = cost().start_seconds + max(map(end, steps))
        writing = SCORE_SETS * sum(each.work.database for each in cost().steps)
        for outcome in self.outcomes(FREE).values():
            assert outcome.seconds >= max(longest, writing / 4)

    def test_every_step_of_the_plan_has_a_cost_that_grows_with_its_variants(self) -> None:
        few, many = cost(1_000), cost(100_000)

        assert [each.key for each in many.steps] == [s.key for s in PIPELINES[PIPELINE].steps]
        for small, large in zip(few.steps, many.steps, strict=True):
            assert large.work.worker >= small.work.worker > 0
            assert large.requests >= small.requests
        assert sum(s.requests for s in many.steps) > 20 * sum(s.requests for s in few.steps)

    def test_ensembl_is_asked_in_the_batches_that_it_takes(self) -> None:
        [vep] = [each for each in cost().steps if each.service is Service.ENSEMBL]

        assert vep.requests >= math.ceil(12_000 / 200)
        assert vep.requests < 12_000 / 10


class TestCommand:
    """`python -m deployments.simulation`, in a folder where `make bench` ran or did not."""

    def run(self, folder: Path) -> subprocess.CompletedProcess[str]:
        size = ("--variants", "2000", "--a-score-set", "1000")
        return subprocess.run(
            [sys.executable, "-m", "deployments.simulation", *size],
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_puts_the_benchmark_s_last_runs_beside_the_same_ones_simulated(
        self, tmp_path: Path
    ) -> None:
        figures = [
            {"figure": "51 score sets of 2,000 variants at once, 1 worker", "ours": 4321.0},
            {"figure": "one score set of 700 variants alone", "ours": 0.5},
            {"figure": "recovery from kill -9 of a flow", "ours": 7.0},
        ]
        (tmp_path / "bench.json").write_text(json.dumps(figures))

        said = self.run(tmp_path)

        assert said.returncode == 0, said.stderr
        lines = said.stdout.splitlines()
        [at_once] = [line for line in lines if "51 score sets of 2,000 variants" in line]
        assert "4,321.0" in at_once
        assert any("700 variants alone" in line for line in lines)
        assert "kill -9" not in said.stdout

    def test_prints_hours_and_requests_for_each_number_of_workers(self, tmp_path: Path) -> None:
        said = self.run(tmp_path).stdout

        for workers in report.WORKERS:
            assert said.count(f"│ {workers:7} │") == 3
        assert said.count("ensembl") >= 2

    def test_says_when_bench_json_is_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "bench.json").write_text('{"figures": 3}')

        said = self.run(tmp_path)

        assert said.returncode == 1
        assert "bench.json is not what `make bench` writes" in said.stderr
        assert "Traceback" not in said.stderr
