"""What the benchmark says of a figure: whether it meets its target, and if not, why."""

import json
from pathlib import Path

from deployments.local.bench.figures import (
    Pair,
    figure_of,
    obstacles_of,
    ratio_at_most,
    write_json,
)

SLOW = [Pair(2.0, 1.0), Pair(3.0, 1.0), Pair(9.0, 3.0)]


def test_only_a_figure_that_misses_its_target_tells_what_keeps_it_from_that(tmp_path: Path) -> None:
    missed = figure_of("slow", "s", SLOW, ratio_at_most(1.1, "the disk is slow"))
    met = figure_of("fast", "s", SLOW, ratio_at_most(3.0, "the disk is slow"))
    looked_at = figure_of("looked at", "s", SLOW, None)

    assert obstacles_of([missed, met, looked_at]) == ["slow: the disk is slow"]
    write_json([missed, met, looked_at], tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["ratio"], row["spread"], row["met"], row["why"]) for row in rows] == [
        (3.0, [2.0, 3.0], False, "the disk is slow"),
        (3.0, [2.0, 3.0], True, None),
        (3.0, [2.0, 3.0], None, None),
    ]
