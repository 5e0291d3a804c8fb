"""Which releases of ClinVar can be asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mavedb_audit.clinvar import ANNOTATED_RELEASES, version_if_any, version_of
from mavedb_audit.errors import RequestError
from mavedb_audit.pipelines import PIPELINES, REFRESH_CLINVAR_RELEASES
from tasks.clients.clinvar_archive import Release

NOW = datetime.now(UTC)
NEXT_MONTH = NOW.replace(day=1) + timedelta(days=32)


@pytest.mark.parametrize("release", [*ANNOTATED_RELEASES, (NOW.year, NOW.month)])
def test_a_release_is_written_as_mavedb_does(release: tuple[int, int]) -> None:
    year, month = release
    version = version_of({"year": year, "month": month})
    assert version == f"{month:02d}_{year}" == Release(year, month).version
    assert version_if_any({"year": year, "month": month}) == version


def test_the_plan_has_the_twelve_releases_of_mavedb() -> None:
    versions = [version_of({"year": year, "month": month}) for year, month in ANNOTATED_RELEASES]
    assert versions == ["02_2015", *(f"01_{year}" for year in range(2016, 2027))]


@pytest.mark.parametrize(
    ("year", "month"),
    [
        (2015, 1),
        (2026, 13),
        (2026, 0),
        (NEXT_MONTH.year, NEXT_MONTH.month),
        (2026, None),
        (None, 1),
        ("2026", "01"),
        (2026, True),
    ],
)
def test_a_release_that_there_cannot_be_is_refused_before_anything_runs(
    year: Any, month: Any
) -> None:
    for refuse in (version_of, version_if_any):
        with pytest.raises(RequestError):
            refuse({"year": year, "month": month})


def test_only_a_load_may_leave_the_release_out() -> None:
    assert version_if_any({"year": None, "month": None}) is None
    with pytest.raises(RequestError, match="2026 and 1"):
        version_of({"year": None, "month": None})


def test_a_release_that_fails_holds_up_no_other_job() -> None:
    releases = {step.key for step in REFRESH_CLINVAR_RELEASES}
    for pipeline in PIPELINES.values():
        assert all(releases.isdisjoint(step.after) for step in pipeline.steps)
