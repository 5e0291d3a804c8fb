"""How fast variants are created, and in what memory, beside a parse of the same file and a COPY of
its rows."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, text

from deployments.local.bench.figures import (
    Figure,
    Pair,
    each_below,
    figure_of,
    ratio_at_least,
)
from deployments.local.bench.rows import PAIRS, insert_bench_score_set, vacuum
from deployments.local.score_set import generate, synthetic_target
from deployments.local.stack import PROJECT

_LEAST = 0.5
_MOST_MEGABYTES = 1_000.0
_SEED = 1
_VARIANTS_A_CODON = 50
_CREATION = "deployments.local.bench.creation"


@dataclass(frozen=True)
class _Upload:
    """A score set, the file of its scores and that of its target's DNA."""

    score_set_id: int
    scores: Path
    target: Path


def creation(engine: Engine, variants: int) -> list[Figure]:
    """From a score file's bytes to committed rows; each run is a process of its own."""
    with _uploaded(engine, variants) as upload:
        runs = [
            (_run(engine, "create", upload), _run(engine, "copy", upload)) for _ in range(PAIRS)
        ]
    speeds = [Pair(variants / ours, variants / baseline) for (ours, _), (baseline, _) in runs]
    peaks = [Pair(ours, baseline) for (_, ours), (_, baseline) in runs]
    return [
        figure_of("variant creation", "rows/s", speeds, ratio_at_least(_LEAST)),
        figure_of(
            "peak memory of variant creation", "MB", peaks, each_below(_MOST_MEGABYTES, "MB")
        ),
    ]


def seconds_to_create(engine: Engine, variants: int) -> float:
    """From a score file's bytes to committed rows, which are deleted after it."""
    with _uploaded(engine, variants) as upload:
        return _run(engine, "create", upload)[0]


@contextmanager
def _uploaded(engine: Engine, variants: int) -> Iterator[_Upload]:
    sequence = synthetic_target(_SEED, 1 + variants // _VARIANTS_A_CODON)
    scores, _ = generate(_SEED, variants, sequence)
    with engine.begin() as connection:
        score_set_id = insert_bench_score_set(connection, f"tmp:{uuid4()}", sequence)
    with tempfile.TemporaryDirectory(prefix="mavedb-bench-") as folder:
        upload = _Upload(score_set_id, Path(folder) / "scores.csv", Path(folder) / "target.txt")
        upload.scores.write_text(scores)
        upload.target.write_text(sequence)
        yield upload


def _run(engine: Engine, what: str, upload: _Upload) -> tuple[float, float]:
    """The seconds that it takes and the megabytes of its process. Its rows are deleted after it.

    The peak of a process counts that of the one that started it: a shell's is small.
    """
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", _CREATION, what, url, str(upload.score_set_id)]
    ended = subprocess.run(
        ["sh", "-c", '"$@"; exit', "sh", *command, upload.scores, upload.target],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
    )
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM variants WHERE scoreset_id = :id"), {"id": upload.score_set_id}
        )
    vacuum(engine, "variants")
    usage = json.loads(ended.stdout)
    return usage["wall_seconds"], usage["peak_memory_bytes"] / 1e6
