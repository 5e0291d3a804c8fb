"""How fast a release of ClinVar is loaded, and in how much memory, beside unpacking its file."""

import gzip
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from deployments.local.bench.clinvar_release import write_release
from deployments.local.bench.figures import Figure, Pair, each_below, figure_of, ratio_at_most
from mavedb_audit.metrics import Meter, Usage
from tasks.clinvar.store import Store
from tasks.clinvar.variant_summary import read_summary

_MOST = 3
_MOST_MEGABYTES = 500
#: The start of polars would rule the ratio of a smaller release.
_FEWEST_FOR_TARGET = 1_000_000
_RELEASE = "2026-01"
_PIECE_BYTES = 4 * 1024**2


def loading(rows: int, pairs: int) -> list[Figure]:
    """From a gz file on the disk to the release in the store. Each pair has a fresh process."""
    with tempfile.TemporaryDirectory(prefix="mavedb-bench-") as folder:
        file = Path(folder) / "variant_summary.txt.gz"
        write_release(file, rows)
        used = []
        for _ in range(pairs):
            # It would count what this process holds as a peak of its own if this one started it:
            # the server of forks does.
            with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
                used.append(pool.submit(_unpack_and_load, file).result())
    return [
        figure_of(
            f"loading a ClinVar release of {rows:,} rows",
            "s",
            [Pair(loaded.wall_seconds, unpacked.wall_seconds) for unpacked, loaded in used],
            ratio_at_most(_MOST) if rows >= _FEWEST_FOR_TARGET else None,
        ),
        figure_of(
            "peak memory of that",
            "MB",
            [
                Pair(loaded.peak_memory_bytes / 1e6, unpacked.peak_memory_bytes / 1e6)
                for unpacked, loaded in used
            ],
            each_below(_MOST_MEGABYTES, "MB"),
        ),
    ]


def _unpack_and_load(file: Path) -> tuple[Usage, Usage]:
    """What each took; the unpacking, which holds a piece at a time, goes first."""
    return _usage_of(_unpack, file), _usage_of(_load, file)


def _usage_of(work: Callable[[Path], None], file: Path) -> Usage:
    meter = Meter()
    work(file)
    return meter.usage()


def _load(file: Path) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        store = Store(f"{folder}/store", s3_endpoint_url=None)
        store.put(_RELEASE, read_summary(file, _RELEASE).alleles, Path(folder))


def _unpack(file: Path) -> None:
    with gzip.open(file) as packed:
        while packed.read(_PIECE_BYTES):
            pass
