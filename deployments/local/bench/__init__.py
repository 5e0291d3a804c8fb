"""`make bench`: how fast the work is, each figure beside a baseline of the same run.

Prints a table, and what keeps figures from their targets; writes bench.json, a list of what
`figures.Figure` holds. What each figure means is told in docs/reference/performance.md.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
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
from deployments.local.bench.figures import (
    Figure,
    console_for_tables,
    obstacles_of,
    table_of,
    write_json,
)
from deployments.local.ports import choose
from deployments.local.postgres import Cluster
from deployments.local.stack import Stack
from mavedb_audit.errors import ConfigurationError


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


#: Each kind of figures by its name, in the order in which they are measured: first that of files
#: alone, then those of a database of their own, then those of one whole deployment.
_OF_FILES: Mapping[str, Callable[[Size], list[Figure]]] = {
    "clinvar": lambda size: clinvar.loading(size.clinvar_rows, size.clinvar_loads),
}
_OF_DATABASE: Mapping[str, Callable[[Engine, Size], list[Figure]]] = {
    "creation": lambda engine, size: variants.creation(engine, size.created),
    "mapping": lambda engine, size: mapping.mapping(engine, size.mapped),
    "statuses": lambda engine, size: statuses.accounting(engine, size.variants),
    "transitions": lambda engine, size: transitions.recording(engine, size.pipelines),
    "scan": lambda engine, size: [scan.scanning(engine, size.open_jobs, size.ended_pipelines)],
    "pages": lambda engine, size: pages.reading(engine, size.read),
}
_OF_STACK: Mapping[str, Callable[[Stack, Engine, Size], list[Figure]]] = {
    "task": lambda stack, _, size: tasks.audited_task(stack, size.blocks, size.tasks_a_block),
    "starts": lambda stack, engine, size: starts.starting(stack, engine, size.starts),
    "mirror": lambda stack, engine, size: mirror.streaming(
        stack, engine, size.streams, size.seconds_a_stream
    ),
    "annotation": lambda stack, engine, size: annotation.annotating(
        stack, engine, size.annotated, size.annotations
    ),
    "many": lambda stack, engine, size: many.at_once(
        stack, engine, size.score_sets_at_once, size.variants_at_once
    ),
    "recovery": lambda stack, engine, size: [recovery.after_kills(stack, engine, size.kills)],
}
FIGURES = (*_OF_FILES, *_OF_DATABASE, *_OF_STACK)


def run(size: str, only: str = "") -> None:
    """Run every figure at `size`, or those of the kinds named in `only`, with commas between them.

    Prints the table and writes bench.json.
    """
    if size not in SIZES:
        raise ConfigurationError(f"SIZE is {size!r}: it must be one of {', '.join(SIZES)}")
    wanted = [name.strip() for name in only.split(",")] if only else FIGURES
    for name in wanted:
        if name not in FIGURES:
            raise ConfigurationError(f"ONLY names {name!r}: there are {', '.join(FIGURES)}")
    console = console_for_tables()
    figures: list[Figure] = []
    load_before = _load()
    try:
        for measured in _measured(SIZES[size], wanted, console):
            figures += measured
    finally:
        write_json(figures, Path("bench.json"))
        title = (
            f"SIZE={size}; load on {os.cpu_count()} cores: {load_before} before, {_load()} after"
        )
        console.print(table_of(figures, title))
        for obstacle in obstacles_of(figures):
            console.print(f"Not met: {obstacle}", highlight=False)


def _load() -> str:
    """The system's load of the last minute: who else was at work shows in the figures."""
    return f"{os.getloadavg()[0]:.1f}"


def _measured(size: Size, wanted: Collection[str], console: Console) -> Iterator[list[Figure]]:
    for name, of_files in _OF_FILES.items():
        if name in wanted:
            with console.status(name):
                yield of_files(size)
    for name, of_database in _OF_DATABASE.items():
        if name in wanted:
            with console.status(name), database() as engine:
                yield of_database(engine, size)
    if any(name in wanted for name in _OF_STACK):
        with _stack() as running, _engine(running.database_url) as engine:
            for name, of_stack in _OF_STACK.items():
                if name in wanted:
                    with console.status(name):
                        yield of_stack(running, engine, size)


@contextmanager
def database() -> Iterator[Engine]:
    """A durable cluster of its own with all tables."""
    with _folder() as state, _cluster(state) as cluster:
        postgres.create_databases(cluster, ["mavedb"])
        migrations = stack.migrate(state, {"DATABASE_URL": cluster.url("mavedb")})
        processes.wait_for_success(state, migrations)
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
