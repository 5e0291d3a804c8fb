"""The plot of cost against size: what it draws, and the slope that it tells."""

from pathlib import Path

import pytest

from deployments.local.bench.sizes import draw, slope

SIZES = (1_000, 10_000, 100_000)
SECONDS = {
    "creating variants": [0.02, 0.2, 2.0],
    "mapping them": [0.06, 0.6, 6.0],
    "their statuses": [0.01, 0.1, 10.0],
}


def test_a_slope_of_one_is_a_cost_in_proportion_to_the_size() -> None:
    assert slope(SIZES, SECONDS["mapping them"]) == pytest.approx(1)
    assert slope(SIZES, [n**2 for n in SIZES]) == pytest.approx(2)


def test_the_same_seconds_make_the_same_file_which_names_each_line(tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first.svg", "again.svg", "other.svg"))

    draw(SIZES, SECONDS, first)
    draw(SIZES, SECONDS, again)
    draw(SIZES, {**SECONDS, "mapping them": [0.07, 0.6, 6.0]}, other)

    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    svg = first.read_text()
    assert "<title>" in svg
    for line in SECONDS:
        assert f">{line}</text>" in svg
