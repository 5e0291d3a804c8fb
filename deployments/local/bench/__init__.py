"""`make bench`: how fast the work is, each figure beside a baseline of the same run.

Prints a table and writes bench.json, a list of what `figures.Figure` holds. What each figure means
is told in docs/reference/performance.md.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.console import Console
from sqlalchemy import Engine, create_engine

from deployments.local import postgres, processes, stack
from deployments.local.bench import (
    annotation,
    clinvar,
    many,
    mapping,
    mirror,
    pages,
    recovery,
    scan,
    starts,
    statuses,
    tasks,
    transitions,
    variants,
)
from deployments.local.bench.figures import Figure, table_of, write_json
from deployments.local.ports import choose
from deployments.local.postgres import Cluster
from deployments.local.stack import Stack
from mavedb_audit.errors import ConfigurationError

_WIDTH_IN_A_FILE = 120


@dataclass(frozen=True)
class Size:
    """How much each figure takes on. So many variants are `created` from one file and `mapped`
    by one answer; so many `annotations` are of `annotated` variants each; the pages are of a score
    set of `read` ones; recovery scans `open_jobs` while `ended_pipelines` lie behind them."""

    variants: int
    created: int
    mapped: int
    pipelines: int
    blocks: int
    tasks_a_block: int
    streams: int
    seconds_a_stream: int
    annotated: int
    annotations: int
    kills: int
    read: int
    open_jobs: int
    ended_pipelines: int
    starts: int
    score_sets_at_once: int
    variants_at_once: int
    clinvar_rows: int
    clinvar_loads: int


SIZES = {
    "small": Size(
        variants=20_000,
        created=20_000,
        mapped=20_000,
        pipelines=100,
        blocks=5,
        tasks_a_block=20,
        streams=2,
        seconds_a_stream=10,
        annotated=1_000,
        annotations=1,
        kills=3,
        read=20_000,
        open_jobs=10_000,
        ended_pipelines=500,
        starts=3,
        score_sets_at_once=6,
        variants_at_once=200,
        clinvar_rows=30_000,
        clinvar_loads=3,
    ),
    "full": Size(
        variants=100_000,
        created=500_000,
        mapped=500_000,
        pipelines=400,
        blocks=15,
        tasks_a_block=20,
        streams=5,
        seconds_a_stream=12,
        annotated=12_000,
        annotations=3,
        kills=7,
        read=500_000,
        open_jobs=10_000,
        ended_pipelines=16_000,
        starts=15,
        score_sets_at_once=50,
        variants_at_once=2_000,
        clinvar_rows=3_000_000,
        clinvar_loads=5,
    ),
}


def run(size: str) -> None:
    """Run every figure at `size`, print the table and write bench.json."""
    if size not in SIZES:
        raise ConfigurationError(f"SIZE is {size!r}: it must be one of {', '.join(SIZES)}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_IN_A_FILE)
    figures: list[Figure] = []
    load_before = _load()
    try:
        for measured in _measured(SIZES[size], console):
            figures += measured
    finally:
        write_json(figures, Path("bench.json"))
        title = (
            f"SIZE={size}; load on {os.cpu_count()} cores: {load_before} before, {_load()} after"
        )
        console.print(table_of(figures, title))


def _load() -> str:
    """The system's load of the last minute: who else was at work shows in the figures."""
    return f"{os.getloadavg()[0]:.1f}"


def _measured(size: Size, console: Console) -> Iterator[list[Figure]]:
    """The figures, one at a time: first that of no database, and those of one that is all there
    is."""
    with console.status("a release of ClinVar"):
        yield clinvar.loading(size.clinvar_rows, size.clinvar_loads)
    with _database() as engine:
        with console.status("variants and their statuses"):
            yield variants.creation(engine, size.created)
            yield mapping.mapping(engine, size.mapped)
            yield statuses.accounting(engine, size.variants)
        with console.status("transitions"):
            yield transitions.recording(engine, size.pipelines)
    with _database() as engine, console.status("a scan of recovery"):
        yield [scan.scanning(engine, size.open_jobs, size.ended_pipelines)]
    with _database() as engine, console.status("answers and pages"):
        yield pages.reading(engine, size.read)
    with _stack() as running, _engine(running.database_url) as engine:
        with console.status("an audited task"):
            yield tasks.audited_task(running, size.blocks, size.tasks_a_block)
        with console.status("starts"):
            yield starts.starting(running, engine, size.starts)
        with console.status("the mirror's lag"):
            yield mirror.streaming(running, engine, size.streams, size.seconds_a_stream)
        with console.status("annotation"):
            yield annotation.annotating(running, engine, size.annotated, size.annotations)
        with console.status("many score sets at once"):
            yield many.at_once(running, engine, size.score_sets_at_once, size.variants_at_once)
        with console.status("recovery"):
            yield [recovery.after_kills(running, engine, size.kills)]


@contextmanager
def _database() -> Iterator[Engine]:
    """A durable cluster of its own with all tables."""
    with _folder() as state, _cluster(state) as cluster:
        postgres.create_databases(cluster, ["mavedb"])
        migrations = stack.migrate(state, {"DATABASE_URL": cluster.url("mavedb")})
        processes.wait_for_success(state, migrations, within_seconds=60)
        with _engine(cluster.url("mavedb")) as engine:
            yield engine


@contextmanager
def _stack() -> Iterator[Stack]:
    """A whole deployment of its own, durable and with the default settings of recovery, whose
    database tracks the times of commits."""
    with _folder() as state:
        with _cluster(state) as cluster, psycopg.connect(cluster.url("postgres")) as connection:
            connection.autocommit = True
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        with stack.running(state) as running:
            yield running


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mavedb-bench-") as folder:
        yield Path(folder)


@contextmanager
def _cluster(state: Path) -> Iterator[Cluster]:
    processes.prepare_folder(state)
    processes.claim(state)
    try:
        part, cluster = postgres.start(state, choose(state, ["postgres"])["postgres"])
        postgres.wait(part, cluster)
        yield cluster
    finally:
        processes.stop(state)


@contextmanager
def _engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    yield engine
    engine.dispose()
