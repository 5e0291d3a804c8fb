"""What Prometheus scrapes at /metrics: how the whole does, and what the attempts of jobs took.

All of it comes from the database, so that it counts on over restarts and is the same from every
`serve`; only what became of Prefect's events is this process's own.
"""

import functools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, text

from mavedb_audit.access import reader
from mavedb_audit.alerts.findings import last_verification
from mavedb_audit.database import connect, engine
from mavedb_audit.queries.system import system
from mavedb_audit.sightings import counts

_PREFIX = "mavedb_audit_"
#: Several scrapers, and an impatient one, get the same text for so long.
_KEPT_SECONDS = 5.0
#: Upper ends of the buckets of a step's seconds.
BUCKETS = (1, 5, 15, 60, 300, 900, 3600)
#: An attempt gets its number before others see it: so many of the newest are counted anew.
_NOT_YET_SEEN = 1000
#: Larger than any.
_ANY_ID = 2**63 - 1

Labels = tuple[str, ...]
Samples = Mapping[Labels, float]


@dataclass(frozen=True)
class Described:
    """A metric as it is told, without the prefix; a counter's name gets _total besides."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: Labels
    help: str


STEP_SECONDS = Described(
    "step_seconds", "histogram", ("step",), "How long attempts of steps took, in seconds"
)
METRICS = (
    Described(
        "mirror_lag_seconds",
        "gauge",
        (),
        "The longest that a state of the last minutes took to be recorded",
    ),
    Described(
        "runs_open",
        "gauge",
        (),
        "Prefect's runs of ours that have not ended, but for those that wait for their time",
    ),
    Described("runs_unsettled", "gauge", (), "Runs whose history may lack a state"),
    Described("pipelines", "gauge", ("status",), "Open pipelines, and those of the last day"),
    Described("jobs", "gauge", ("status",), "Open jobs, and those of the last day"),
    Described("requests_waiting", "gauge", (), "Requests that Prefect has not taken"),
    Described("oldest_request_seconds", "gauge", (), "How long the oldest of these waits"),
    Described(
        "oldest_running_job_seconds", "gauge", (), "For how long the oldest running job runs"
    ),
    Described("database_size_bytes", "gauge", (), "The size of the database"),
    Described(
        "circuit_open",
        "gauge",
        ("service",),
        "1 while none of the service's last attempts got an answer that is one",
    ),
    Described(
        "verification",
        "gauge",
        ("problem",),
        "What the last verification found: differences, broken, unanswered",
    ),
    Described("verified_timestamp_seconds", "gauge", (), "When `serve` last began to verify"),
    Described("alerts_waiting", "gauge", ("channel",), "Alerts that are still to be sent"),
    Described("alerts_given_up", "gauge", ("channel",), "Alerts that a channel refused for good"),
    Described("recoveries", "counter", (), "How often recovery took up what had died"),
    Described("attempts", "counter", ("step", "outcome"), "Attempts of steps that have ended"),
    Described("variants", "counter", ("step",), "Variants that attempts of steps accounted for"),
    Described("service_requests", "counter", ("service", "outcome"), "Requests to services"),
    Described("cache_lookups", "counter", ("result",), "Answers that a cache had, or had not"),
    Described(
        "events",
        "counter",
        ("fate",),
        "Prefect's events that this process recorded, ignored, could not read, or dropped",
    ),
    STEP_SECONDS,
)


@dataclass
class Totals:
    """Sums over attempts: of counters by name and labels, and of steps' seconds."""

    counted: defaultdict[str, Counter[Labels]] = field(default_factory=lambda: defaultdict(Counter))
    buckets: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: "Totals") -> None:
        for name, numbers in other.counted.items():
            self.counted[name].update(numbers)
        for step, in_buckets in other.buckets.items():
            self.buckets[step].update(in_buckets)
        for step, seconds in other.seconds.items():
            self.seconds[step] += seconds


class Exposition:
    """The metrics of one database. Attempts that have ended are summed up once.

    So a scrape does not take longer the more attempts there are, and rows that are pruned stay
    counted until the process ends.
    """

    def __init__(self, *, kept_seconds: float = _KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._settled = Totals()
        self._settled_before = 0
        self._text = b""
        self._made_at = float("-inf")

    def text(self) -> bytes:
        """In Prometheus's text format. One at a time makes it anew."""
        with self._lock:
            if time.monotonic() - self._made_at > self._kept_seconds:
                with connect() as connection:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                    with connection.begin():
                        families = [*self._families(connection)]
                registry = CollectorRegistry()
                registry.register(_Collected(families))
                self._text = generate_latest(registry)
                self._made_at = time.monotonic()
            return self._text

    def _families(self, connection: Connection) -> Iterator[Metric]:
        totals = self._totals(connection)
        samples = {**_gauges(connection), **totals.counted}
        for described in METRICS:
            name = f"{_PREFIX}{described.name}"
            if described is STEP_SECONDS:
                yield _histogram(name, totals)
                continue
            kind = GaugeMetricFamily if described.kind == "gauge" else CounterMetricFamily
            family = kind(name, described.help, labels=described.labels)
            for labels, value in samples.get(described.name, {}).items():
                family.add_metric(labels, value)
            yield family

    def _totals(self, connection: Connection) -> Totals:
        """All sums. What is older than any attempt that may still end is kept for the next time."""
        settled_before = connection.execute(
            text(
                """
                SELECT greatest(:since, least(min(id) FILTER (WHERE outcome IS NULL),
                                              max(id) - :not_yet_seen))
                  FROM job_attempts WHERE id >= :since
                """
            ),
            {"since": self._settled_before, "not_yet_seen": _NOT_YET_SEEN},
        ).scalar_one()
        self._settled.add(_sums(connection, self._settled_before, settled_before))
        self._settled_before = settled_before
        totals = _sums(connection, settled_before, _ANY_ID)
        totals.add(self._settled)
        return totals


@dataclass(frozen=True, eq=False)  # the registry keeps it by its identity
class _Collected(Collector):
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


@functools.cache
def exposition_of(_engine: Engine) -> Exposition:
    """The metrics of the engine's database, in this process."""
    return Exposition()


routes = APIRouter(dependencies=[Depends(reader)])


@routes.get("/metrics", include_in_schema=False)
def metrics() -> PlainTextResponse:
    """Everything, to who has a token of the role read."""
    text = exposition_of(engine()).text()
    return PlainTextResponse(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _gauges(connection: Connection) -> Mapping[str, Samples]:
    now = system(connection)
    single = {
        "mirror_lag_seconds": now.mirror_lag_seconds,
        "runs_open": now.open_runs,
        "runs_unsettled": now.unsettled_runs,
        "requests_waiting": now.requests_waiting,
        "oldest_request_seconds": now.oldest_request_seconds,
        "oldest_running_job_seconds": now.oldest_open_job_seconds,
        "database_size_bytes": now.database_size_bytes,
        "recoveries": now.recoveries,
    }
    verified = last_verification(connection)
    if verified is not None:
        single["verified_timestamp_seconds"] = verified[0].timestamp()
    waiting, given_up = _alerts(connection)
    return {
        **{name: {(): value or 0} for name, value in single.items()},
        "pipelines": {(status,): number for status, number in now.pipelines_by_status.items()},
        "jobs": {(status,): number for status, number in now.jobs_by_status.items()},
        "circuit_open": {(one.service,): one.circuit_open for one in now.services},
        "verification": {
            (name,): number for name, number in (verified[1] if verified else {}).items()
        },
        "alerts_waiting": waiting,
        "alerts_given_up": given_up,
        "events": _events(),
    }


def _alerts(connection: Connection) -> tuple[Samples, Samples]:
    rows = connection.execute(
        text(
            """
            SELECT channel, count(*) FILTER (WHERE gave_up_at IS NULL) AS waiting,
                   count(gave_up_at) AS given_up
              FROM alert_deliveries WHERE sent_at IS NULL GROUP BY channel
            """
        )
    ).all()
    return (
        {(row.channel,): row.waiting for row in rows},
        {(row.channel,): row.given_up for row in rows},
    )


def _events() -> Samples:
    now = counts()
    return {
        ("recorded",): now.recorded,
        ("ignored",): sum(now.ignored.values()),
        ("malformed",): sum(now.malformed.values()),
        ("refused",): sum(now.refused.values()),
        ("dropped",): now.dropped,
    }


def _sums(connection: Connection, since: int, before: int) -> Totals:
    """Of the attempts with these ids."""
    ids = {"since": since, "before": before, "bounds": list(BUCKETS)}
    totals = Totals()
    rows = connection.execute(
        text(
            """
            SELECT job.job_function AS step, attempt.outcome,
                   width_bucket(metrics.wall_seconds, CAST(:bounds AS float[])) AS bucket,
                   count(*) AS attempts, coalesce(sum(metrics.wall_seconds), 0) AS seconds,
                   coalesce(sum(metrics.variants), 0) AS variants,
                   coalesce(sum(metrics.cache_hits), 0) AS hits,
                   coalesce(sum(metrics.cache_misses), 0) AS misses
              FROM job_attempts AS attempt JOIN job_runs AS job ON job.id = attempt.job_id
              LEFT JOIN job_metrics AS metrics ON metrics.attempt_id = attempt.id
             WHERE attempt.id >= :since AND attempt.id < :before
               AND attempt.outcome IS NOT NULL
             GROUP BY 1, 2, 3
            """
        ),
        ids,
    )
    for row in rows:
        totals.counted["attempts"][(row.step, row.outcome)] += row.attempts
        totals.counted["variants"][(row.step,)] += int(row.variants)
        totals.counted["cache_lookups"][("hit",)] += int(row.hits)
        totals.counted["cache_lookups"][("miss",)] += int(row.misses)
        if row.bucket is not None:
            totals.seconds[row.step] += row.seconds
            totals.buckets[row.step][row.bucket] += row.attempts
    requests = connection.execute(
        text(
            """
            SELECT service.key AS service, outcome.key AS outcome,
                   sum(CAST(outcome.value AS bigint)) AS requests
              FROM job_metrics AS metrics
             CROSS JOIN LATERAL jsonb_each(metrics.http_requests) AS service
             CROSS JOIN LATERAL jsonb_each_text(service.value) AS outcome
             WHERE attempt_id >= :since AND attempt_id < :before
             GROUP BY 1, 2
            """
        ),
        ids,
    )
    for row in requests:
        totals.counted["service_requests"][(row.service, row.outcome)] += int(row.requests)
    return totals


def _histogram(name: str, totals: Totals) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, STEP_SECONDS.help, labels=STEP_SECONDS.labels)
    ends = [*map(str, map(float, BUCKETS)), "+Inf"]
    for step, numbers in totals.buckets.items():
        so_far, cumulated = 0, []
        for bucket, end in enumerate(ends):
            so_far += numbers[bucket]
            cumulated.append((end, so_far))
        family.add_metric([step], cumulated, totals.seconds[step])
    return family
