"""What the simulation says: beside the runs that were measured, and of many more variants."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml
from rich.table import Table

from deployments.local.bench.many import FLOWS_A_WORKER
from deployments.local.stack import PROJECT
from deployments.simulation.costs import Measured, cost_of
from deployments.simulation.model import Deployment, Outcome, Pace, simulate
from mavedb_audit.limits import LIMITS
from mavedb_audit.services import Service
from mavedb_audit.settings import settings

WORKERS = (1, 2, 4, 8, 16, 32)
#: docs/how-to/deploy.md; the rest of the production deployment is read from its files.
_DATABASE_CORES = 4
#: More steps at once than there ever are.
_ANY = 1_000_000
#: A part that is busy for less of the time is not what the others wait for.
_BUSY = 0.8

_RUN = re.compile(
    r"one score set of (?P<variants>[\d,]+) variants alone"
    r"|(?P<score_sets>\d+) score sets of (?P<variants_each>[\d,]+) variants at once,"
    r" (?P<workers>\d+) workers?"
)


@dataclass(frozen=True)
class Extrapolation:
    """So many score sets of the same size, on a deployment with each number of workers."""

    title: str
    variants: int
    outcomes: Mapping[int, Outcome]

    @property
    def waits_for_services(self) -> bool:
        return any(
            outcome.busy[service] for outcome in self.outcomes.values() for service in LIMITS
        )


def validation(measured: Measured, runs: Mapping[str, float]) -> Table:
    """Runs, by the names of their figures, measured in seconds and simulated."""
    table = Table(title="Runs of the benchmark, simulated", title_justify="left")
    table.add_column("run")
    for heading in ("measured, s", "simulated, s", "difference"):
        table.add_column(heading, justify="right")
    for name, seconds in runs.items():
        simulated = simulated_run(measured, name)
        difference = f"{100 * (simulated / seconds - 1):+.0f} %"
        table.add_row(name, f"{seconds:,.1f}", f"{simulated:,.1f}", difference)
    return table


def is_run(figure: str) -> bool:
    """Whether the benchmark's figure is one of whole pipelines, which can be simulated."""
    return bool(_RUN.fullmatch(figure))


def simulated_run(measured: Measured, figure: str) -> float:
    """The seconds of such a run, all of whose parts share the cores of one machine."""
    run = _RUN.fullmatch(figure)
    if run is None:
        raise ValueError(f"{figure!r} says of no run what ran")
    variants = int((run["variants"] or run["variants_each"]).replace(",", ""))
    score_sets, workers = int(run["score_sets"] or 1), int(run["workers"] or 1)
    paces = {service: _pace(service) for service in LIMITS}
    idle = measured.idle
    one_machine = Deployment(
        workers,
        paces,
        places=FLOWS_A_WORKER,
        shared_cores=measured.cores,
        idle_cores=idle.worker + idle.database + idle.prefect + idle.services,
    )
    cost = cost_of(measured, variants, _requests_a_second(paces))
    return simulate(one_machine, cost, score_sets).seconds


def extrapolations(
    measured: Measured, variants: int, a_score_set: int, workers: Sequence[int] = WORKERS
) -> Iterator[Extrapolation]:
    """On the machines of the production deployment: without services, with them at the pace of
    their simulators, and at that which is known of them."""
    known = _known_seconds_a_request(a_score_set)
    for title, paces in (
        ("no service to wait for", {service: Pace(_ANY, math.inf, 0.0) for service in LIMITS}),
        ("services as fast as simulators", {service: _pace(service) for service in LIMITS}),
        (
            "services as slow as is known",
            {service: _pace(service, known.get(service)) for service in LIMITS},
        ),
    ):
        cost = cost_of(measured, a_score_set, _requests_a_second(paces))
        score_sets = math.ceil(variants / a_score_set)
        outcomes = {
            number: simulate(_production(number, paces), cost, score_sets) for number in workers
        }
        yield Extrapolation(title, variants, outcomes)


def _known_seconds_a_request(a_score_set: int) -> Mapping[Service, float]:
    """The mapper takes about 0.3 s a variant, and is asked for a whole score set. Ensembl takes up
    to 30 s for 200 variants, and a step waits for some such requests at once; Athena, which answers
    for gnomAD, takes up to a minute a query. Of the others nothing is known."""
    return {
        Service.VRS_MAPPER: 0.3 * a_score_set,
        Service.ENSEMBL: 30.0 / settings().ensembl_concurrent_requests,
        Service.GNOMAD: 60.0,
    }


def _pace(service: Service, seconds_a_request: float | None = None) -> Pace:
    limit = settings().ensembl_requests_per_second if service is Service.ENSEMBL else math.inf
    return Pace(LIMITS[service], limit, seconds_a_request)


def _requests_a_second(paces: Mapping[Service, Pace]) -> Mapping[Service, float]:
    return {service: pace.requests_a_second for service, pace in paces.items()}


def _production(workers: int, paces: Mapping[Service, Pace]) -> Deployment:
    """So many of the hosts of deployments/production/compose.yaml that run a worker."""
    services = yaml.safe_load((PROJECT / "deployments/production/compose.yaml").read_text())[
        "services"
    ]
    places = re.search(r"--limit (\d+)", services["worker"]["command"])
    assert places is not None
    return Deployment(
        workers,
        paces,
        places=int(places[1]),
        worker_cores=services["worker"]["cpus"],
        database_cores=_DATABASE_CORES,
        prefect_servers=sum(name.startswith("server-") for name in services),
    )


def by_workers(extrapolation: Extrapolation) -> Table:
    title = f"{extrapolation.variants:,} variants, {extrapolation.title}"
    table = Table(title=title, title_justify="left")
    table.add_column("workers", justify="right")
    table.add_column("hours", justify="right")
    table.add_column("variants/s", justify="right")
    table.add_column("what all wait for")
    for part in ("workers", "database", "prefect"):
        table.add_column(f"{part} busy", justify="right")
    for workers, outcome in extrapolation.outcomes.items():
        table.add_row(
            str(workers),
            f"{outcome.seconds / 3600:,.2f}",
            f"{extrapolation.variants / outcome.seconds:,.0f}",
            bottleneck(outcome),
            *(f"{outcome.busy[part]:.0%}" for part in ("workers", "database", "prefect")),
        )
    return table


def by_service(extrapolation: Extrapolation) -> Table:
    """How many requests each service gets, and for which share of the time its slots are held."""
    title = f"Requests, and slots held with so many workers, {extrapolation.title}"
    table = Table(title=title, title_justify="left")
    table.add_column("service")
    table.add_column("slots", justify="right")
    table.add_column("requests", justify="right")
    for workers in extrapolation.outcomes:
        table.add_column(str(workers), justify="right")
    first, *_ = extrapolation.outcomes.values()
    for service, requests in first.requests.items():
        held = (outcome.busy[service] for outcome in extrapolation.outcomes.values())
        table.add_row(
            service.removeprefix("mavedb-"),
            str(LIMITS[service]),
            f"{requests:,.0f}",
            *(f"{share:.0%}" for share in held),
        )
    return table


def bottleneck(outcome: Outcome) -> str:
    """The part that has no time left; else it is the number of pipelines at once."""
    part = max(outcome.busy, key=lambda name: outcome.busy[name])
    return part if outcome.busy[part] >= _BUSY else "places for pipelines"
