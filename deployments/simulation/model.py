"""What happens when so many workers run the main pipeline on so many score sets at once.

A discrete-event simulation: each step of each pipeline takes its turn at the parts of the
deployment that it needs, and waits for whoever is there before it. How long it takes is measured
(costs.py); in which order, and beside what, is the plan's.
"""

import math
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from simpy import AllOf, Environment, Event, Process, Resource, Store

from mavedb_audit.services import Service

#: Of a core whoever works gets so much in a turn: nobody waits for a whole step of another's.
_TURN_SECONDS = 1.0
#: What is done without pipelines comes so often.
_ROUND_SECONDS = 1.0

Happening = Generator[Event, object, None]


@dataclass(frozen=True)
class Work:
    """Seconds of one core in each part of the deployment; `services` is the simulators' work."""

    worker: float = 0.0
    database: float = 0.0
    prefect: float = 0.0
    services: float = 0.0


@dataclass(frozen=True)
class StepCost:
    """What a step takes for one score set.

    `requests` go to `service`, whose slot is held until they are answered; `waiting` is the time in
    which nobody works, such as that between two looks at UniProt. Steps of one `source` write its
    rows one after the other, whatever score set they work on.
    """

    key: str
    after: tuple[str, ...]
    work: Work
    service: Service | None = None
    requests: float = 0.0
    waiting: float = 0.0
    source: str | None = None


@dataclass(frozen=True)
class PipelineCost:
    """What a pipeline takes for one score set: its steps, and besides them its process.

    `start_seconds` is the time from a place for it to its first step, of which `process` is work.
    """

    process: Work
    start_seconds: float
    steps: tuple[StepCost, ...]


@dataclass(frozen=True)
class Pace:
    """How a service is asked, and how fast it answers.

    So many steps at a time hold its `slots`; a step sends at most `requests_a_second`. What the
    service takes for a step's requests is `seconds_a_request`, None where it is the simulators'
    work.
    """

    slots: int
    requests_a_second: float = math.inf
    seconds_a_request: float | None = None


@dataclass(frozen=True)
class Deployment:
    """What the pipelines run on.

    Each of the `workers` takes `places` pipelines at once, None for as many as there are. With
    `shared_cores` all parts are on one machine of so many cores, the services' simulators too, and
    take `idle_cores` of them whether pipelines run or not; without, each worker has `worker_cores`
    and the database `database_cores`, each of `prefect_servers` has one, and the services are
    elsewhere.
    """

    workers: int
    paces: Mapping[Service, Pace]
    places: int | None = None
    shared_cores: int | None = None
    idle_cores: float = 0.0
    worker_cores: int = 1
    database_cores: int = 1
    prefect_servers: int = 1


@dataclass(frozen=True)
class Outcome:
    """`seconds` until the last pipeline's end, and how busy each part was, as a share of it.
    What it does without pipelines is not counted.

    The parts are "workers", "database", "prefect" and the services, by the names of their limits.
    """

    seconds: float
    busy: Mapping[str, float]
    requests: Mapping[Service, float]


@dataclass(frozen=True)
class _Part:
    """What works on `cores` of a machine, on as many things at once as it has `lanes`: a process
    of Python's on one. None: on as many as there are cores."""

    name: str
    cores: Resource
    lanes: Resource | None = None


@dataclass
class _World:
    environment: Environment
    deployment: Deployment
    worker_cores: Sequence[Resource]
    database: _Part
    prefect: _Part
    simulators: _Part | None
    slots: Mapping[Service, Resource]
    sources: Mapping[str, Resource]
    seconds_of: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    requests: dict[Service, float] = field(default_factory=lambda: defaultdict(float))


def simulate(deployment: Deployment, cost: PipelineCost, score_sets: int) -> Outcome:
    """All pipelines are asked for at once, and end when all their steps have."""
    world = _world_of(deployment, cost)
    places = deployment.places or math.ceil(score_sets / deployment.workers)
    free = Store(world.environment)
    # Workers ask for work equally often: they take pipelines in turn.
    free.items = list(range(deployment.workers)) * places
    pipelines = [world.environment.process(_pipeline(world, cost, free)) for _ in range(score_sets)]
    world.environment.run(AllOf(world.environment, pipelines))
    return _outcome(world)


def _world_of(deployment: Deployment, cost: PipelineCost) -> _World:
    environment = Environment()
    if deployment.shared_cores is not None:
        one = Resource(environment, deployment.shared_cores)
        worker_cores = [one] * deployment.workers
        database_cores = prefect_cores = one
        simulators = _Part("simulators", one, Resource(environment))
        environment.process(_idle(environment, one, deployment.idle_cores))
    else:
        worker_cores = [
            Resource(environment, deployment.worker_cores) for _ in range(deployment.workers)
        ]
        database_cores = Resource(environment, deployment.database_cores)
        prefect_cores = Resource(environment, deployment.prefect_servers)
        simulators = None
    return _World(
        environment,
        deployment,
        worker_cores,
        _Part("database", database_cores),
        _Part("prefect", prefect_cores, Resource(environment, deployment.prefect_servers)),
        simulators,
        slots={
            service: Resource(environment, pace.slots) for service, pace in deployment.paces.items()
        },
        sources={step.source: Resource(environment) for step in cost.steps if step.source},
    )


def _idle(environment: Environment, cores: Resource, idle_cores: float) -> Happening:
    """Look for work, send heartbeats, wait: without an end."""
    while True:
        environment.process(_take_turns(environment, cores, idle_cores * _ROUND_SECONDS))
        yield environment.timeout(_ROUND_SECONDS)


def _pipeline(world: _World, cost: PipelineCost, free: Store) -> Happening:
    """From the place that a worker gives it to the end of its last step."""
    environment = world.environment
    place = free.get()
    yield place
    assert place.value is not None
    process = _Part("workers", world.worker_cores[place.value], Resource(environment))
    account = Resource(environment)
    # Nobody waits for what Prefect and `serve` record, until the end.
    recording = cost.process.prefect + sum(step.work.prefect for step in cost.steps)
    recorded = environment.process(_work(world, world.prefect, recording))
    yield from _work(world, process, cost.process.worker)
    yield environment.timeout(max(0.0, cost.start_seconds - cost.process.worker))
    yield from _work(world, world.database, cost.process.database)
    ended: dict[str, Process] = {}
    for step in cost.steps:
        before = [ended[key] for key in step.after]
        ended[step.key] = environment.process(_step(world, step, before, process, account))
    yield AllOf(environment, [*ended.values(), recorded])
    yield free.put(place.value)


def _step(
    world: _World, step: StepCost, before: Sequence[Process], process: _Part, account: Resource
) -> Happening:
    """A step asks, thinks, and writes under the lock of its score set's account."""
    yield AllOf(world.environment, before)
    if step.service is not None and step.requests:
        yield from _ask(world, step, step.service)
    if step.waiting:
        yield world.environment.timeout(step.waiting)
    yield from _work(world, process, step.work.worker)
    locks = [account] if step.source is None else [account, world.sources[step.source]]
    with ExitStack() as held:
        for lock in locks:
            yield held.enter_context(lock.request())
        yield from _work(world, world.database, step.work.database)


def _ask(world: _World, step: StepCost, service: Service) -> Happening:
    """Hold a slot of the service's until all requests are answered."""
    pace = world.deployment.paces[service]
    environment = world.environment
    with world.slots[service].request() as slot:
        yield slot
        began = environment.now
        sent = environment.timeout(step.requests / pace.requests_a_second)
        if pace.seconds_a_request is not None:
            answered: Event = environment.timeout(step.requests * pace.seconds_a_request)
        elif world.simulators is not None:
            answered = environment.process(_work(world, world.simulators, step.work.services))
        else:
            answered = environment.timeout(step.work.services)
        yield sent & answered
        world.seconds_of[service] += environment.now - began
    world.requests[service] += step.requests


def _work(world: _World, part: _Part, seconds: float) -> Happening:
    """So many seconds of one core, in turns with whoever else needs it."""
    with ExitStack() as held:
        if part.lanes is not None:
            yield held.enter_context(part.lanes.request())
        yield from _take_turns(world.environment, part.cores, seconds)
    world.seconds_of[part.name] += seconds


def _take_turns(environment: Environment, cores: Resource, seconds: float) -> Happening:
    turns = math.ceil(seconds / _TURN_SECONDS)
    for _ in range(turns):
        with cores.request() as core:
            yield core
            yield environment.timeout(seconds / turns)


def _outcome(world: _World) -> Outcome:
    seconds = world.environment.now
    deployment = world.deployment
    if deployment.shared_cores is not None:
        cores = dict.fromkeys(("workers", "database"), deployment.shared_cores)
    else:
        cores = {
            "workers": deployment.workers * deployment.worker_cores,
            "database": deployment.database_cores,
        }
    most = {**cores, "prefect": deployment.prefect_servers}
    most |= {service: pace.slots for service, pace in deployment.paces.items()}
    busy = {part: world.seconds_of[part] / (most[part] * seconds) for part in most}
    return Outcome(seconds, busy, dict(world.requests))
