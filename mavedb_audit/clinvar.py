"""ClinVar's monthly releases: which of them there can be, and how MaveDB writes them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mavedb_audit.errors import RequestError

#: (year, month) of the releases that every score set is annotated with.
ANNOTATED_RELEASES = ((2015, 2), *((year, 1) for year in range(2016, 2027)))

#: The first month that NCBI has archived.
_FIRST = (2015, 2)


def version_of(params: Mapping[str, Any]) -> str:
    """MM_YYYY of the release that a job's year and month name.

    Raises RequestError where there can be no such release.
    """
    year, month = params["year"], params["month"]
    if type(year) is not int or type(month) is not int or not 1 <= month <= 12:
        raise RequestError(
            "year and month name a monthly release of ClinVar, such as 2026 and 1:"
            f" they are {year!r} and {month!r}"
        )
    today = datetime.now(UTC)
    if not _FIRST <= (year, month) <= (today.year, today.month):
        raise RequestError(
            f"There is no ClinVar release {year}-{month:02d}: they begin with"
            f" {_FIRST[0]}-{_FIRST[1]:02d} and end with the current month"
        )
    return f"{month:02d}_{year}"


def version_if_any(params: Mapping[str, Any]) -> str | None:
    """The same of a job that may leave out both year and month, for the newest release."""
    if params["year"] is None and params["month"] is None:
        return None
    return version_of(params)
