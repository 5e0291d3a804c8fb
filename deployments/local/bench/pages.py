"""How long answers take at millions of statuses: what the database gives, and the page of it."""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
from sqlalchemy import Connection, Engine, text

from deployments.local import filled, processes
from deployments.local.bench.figures import (
    Figure,
    Pair,
    each_below,
    figure_of,
    median_below,
    p99,
)
from deployments.local.bench.rows import vacuum
from deployments.local.ports import LOOPBACK, choose
from deployments.local.stack import PROJECT, wait_for_http
from mavedb_audit.queries import accounts, pipelines, stories
from mavedb_audit.reasons import Reason
from mavedb_audit.tokens import Role, new_token

#: As fast as a page that a person waits for has to be, whatever is on it.
_MOST_MILLISECONDS_OF_A_PAGE = 200.0
_SMALL = 100
_ONE_SMALL_PER_VARIANTS = 1000
_PIPELINES_A_SCORE_SET = 10
_OPEN_PIPELINES = 50
_MINUTES_BETWEEN = 30
_PAGES_OF_A_LIST = 20
_TURNS = 5
_ASKED_A_TURN = 200
_SEED = 1
_URN = "urn:mavedb:00009999-a"
_APPLICATION = ("--factory", "mavedb_audit.server:app", "--log-level", "warning")


@dataclass(frozen=True)
class _Question:
    """What is asked of the database, and the address of the page that shows the answer."""

    ask: Callable[[Connection], object]
    path: str


@dataclass(frozen=True)
class _Kind:
    name: str
    most_milliseconds: float
    questions: Sequence[_Question]


def reading(engine: Engine, variants: int) -> list[Figure]:
    """The milliseconds of a variant's story, of accounts, of the lists behind them, and of
    pipelines: of each the slowest of a hundred answers of the database, beside as many look-ups of
    a row by its primary key, and of a hundred pages over HTTP, beside the answers that they show.

    One score set has so many variants and every second question is of it; most have a hundred.
    """
    sizes = [variants, *[_SMALL] * (variants // _ONE_SMALL_PER_VARIANTS)]
    with engine.begin() as connection:
        _fill(connection, sizes)
    vacuum(engine)
    with engine.connect() as connection:
        kinds = _kinds(connection, sizes)
        statuses = connection.execute(
            text("SELECT count(*) FROM variant_annotation_status")
        ).scalar_one()
        ids = connection.execute(text("SELECT min(id), max(id) FROM variants")).one()
    chosen = random.Random(_SEED)
    figures = []
    with _served(engine) as http:
        for kind in kinds:
            answers, pages = [], []
            for _ in range(_TURNS):
                asked = chosen.choices(kind.questions, k=_ASKED_A_TURN)
                keys = [chosen.randint(*ids) for _ in asked]
                answer = _answers(engine, asked, keys)
                answers.append(answer)
                pages.append(Pair(p99([_page(http, each.path) for each in asked]), answer.ours))
            figures += [
                figure_of(
                    f"{kind.name} at {statuses:,} statuses, p99",
                    "ms",
                    answers,
                    median_below(kind.most_milliseconds, "ms"),
                ),
                figure_of(f"{kind.name}, its page, p99", "ms", pages, None),
            ]
        return [*figures, _of_large_and_small(http, variants)]


def _fill(connection: Connection, sizes: Sequence[int]) -> None:
    with filled.in_bulk(connection):
        score_set_ids = filled.insert_score_sets(connection, _URN, sizes)
        number = _PIPELINES_A_SCORE_SET * len(sizes)
        filled.insert_pipelines(connection, score_set_ids, number, minutes_between=_MINUTES_BETWEEN)
        filled.insert_statuses(connection, score_set_ids)
        filled.insert_pipelines(
            connection, score_set_ids, _OPEN_PIPELINES, minutes_between=1, is_open=True
        )


def _kinds(connection: Connection, sizes: Sequence[int]) -> list[_Kind]:
    chosen = random.Random(_SEED)
    urns = [f"{_URN}-{place}" for place in range(1, len(sizes) + 1)]
    large, small = urns[0], urns[1:]
    of_variants = [
        _story(f"{urn}#{chosen.randint(1, size)}")
        for _ in range(_ASKED_A_TURN)
        for urn, size in ((large, sizes[0]), (chosen.choice(small), _SMALL))
    ]
    of_score_sets = [*map(_account, small), *[_account(large)] * len(small)]
    of_pipelines = [
        _pipeline(urn)
        for status in ("running", "succeeded")
        for urn in connection.execute(
            text("SELECT urn FROM pipelines WHERE status = :status ORDER BY random() LIMIT :most"),
            {"status": status, "most": _OPEN_PIPELINES},
        ).scalars()
    ]
    return [
        _Kind("why", 20.0, of_variants),
        _Kind("a score set's account", 100.0, of_score_sets),
        _Kind("a list of its variants", 100.0, list(_lists(connection, large))),
        _Kind("a pipeline", 50.0, of_pipelines),
    ]


def _story(variant_urn: str) -> _Question:
    return _Question(
        lambda connection: stories.why(connection, variant_urn), f"/variants/{quote(variant_urn)}"
    )


def _account(urn: str) -> _Question:
    return _Question(
        lambda connection: accounts.account(connection, urn), f"/score-sets/{quote(urn)}"
    )


def _pipeline(urn: str) -> _Question:
    return _Question(
        lambda connection: pipelines.detail(connection, urn), f"/pipelines/{quote(urn)}"
    )


def _lists(connection: Connection, urn: str) -> Iterator[_Question]:
    """The first pages of a large score set's variants, of each annotation: with a common reason,
    with a rare one, and all."""
    for _, annotation_type, version in filled.ANNOTATIONS:
        for reason in (*filled.ONE_IN, None):
            asked = {"annotation_type": annotation_type, "version": version, "reason": reason}
            narrowed = {name: str(value) for name, value in asked.items() if value is not None}
            for _ in range(_PAGES_OF_A_LIST):
                question = _list(urn, narrowed)
                yield question
                found = question.ask(connection)
                assert isinstance(found, accounts.VariantPage)
                if found.next_cursor is None:
                    break
                narrowed = {**narrowed, "cursor": found.next_cursor}


def _list(urn: str, asked: Mapping[str, str]) -> _Question:
    return _Question(
        # All that is asked is text: mypy takes it for the limit, too.
        lambda connection: accounts.variants(connection, urn, **asked),  # type: ignore[arg-type]
        f"/score-sets/{quote(urn)}/variants?{urlencode(asked)}",
    )


def _answers(engine: Engine, asked: Sequence[_Question], keys: Sequence[int]) -> Pair:
    """Question and look-up in turn, each on a connection of the pool."""
    lookup = text("SELECT * FROM variants WHERE id = :id")
    ours, baseline = [], []
    for question, key in zip(asked, keys, strict=True):
        look_up = partial(Connection.execute, statement=lookup, parameters={"id": key})
        ours.append(_milliseconds(engine, question.ask))
        baseline.append(_milliseconds(engine, look_up))
    return Pair(p99(ours), p99(baseline))


def _milliseconds(engine: Engine, ask: Callable[[Connection], object]) -> float:
    began = time.perf_counter()
    with engine.connect() as connection:
        ask(connection)
    return (time.perf_counter() - began) * 1000


def _page(http: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    http.get(path).raise_for_status()
    return (time.perf_counter() - began) * 1000


def _of_large_and_small(http: httpx.Client, variants: int) -> Figure:
    """The same pages of two score sets: a large one, and one that is as small as most."""
    pairs = [
        Pair(_page(http, ours), _page(http, baseline))
        for _ in range(_TURNS)
        for ours, baseline in zip(_pages(f"{_URN}-1"), _pages(f"{_URN}-2"), strict=True)
    ]
    name = f"a page of a score set of {variants:,} variants, of {_SMALL}"
    return figure_of(name, "ms", pairs, each_below(_MOST_MILLISECONDS_OF_A_PAGE, "ms"))


def _pages(urn: str) -> Sequence[str]:
    lists = [
        _list(urn, {"annotation_type": str(type_), "version": version, "reason": reason}).path
        for _, type_, version in filled.ANNOTATIONS
        if version is not None
        for reason in (Reason.NOT_IN_SOURCE, Reason.MALFORMED_RECORD)
    ]
    return [_account(urn).path, *lists, _story(f"{urn}#{_SMALL}").path]


@contextmanager
def _served(engine: Engine) -> Iterator[httpx.Client]:
    """Our HTTP server alone, in a process of its own, and who may read there."""
    token, line = new_token("bench", Role.READ)
    with tempfile.TemporaryDirectory(prefix="mavedb-bench-") as folder:
        state = Path(folder)
        processes.prepare_folder(state)
        processes.claim(state)
        port = choose(state, ["audit"])["audit"]
        url = f"http://{LOOPBACK}:{port}"
        try:
            part = processes.start(
                state,
                "audit",
                [sys.executable, "-m", "uvicorn", *_APPLICATION, "--port", str(port)],
                {
                    "DATABASE_URL": engine.url.render_as_string(hide_password=False),
                    "AUDIT_API_TOKENS": line,
                },
                folder=PROJECT,
            )
            headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
            with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as http:
                wait_for_http(http, part, "/health")
                yield http
        finally:
            processes.stop(state)
