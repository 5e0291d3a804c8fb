"""What lists are narrowed to, as SQL."""

from collections.abc import Mapping
from typing import Any

from mavedb_audit.views import View


def clauses(given: View, sql_of: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The conditions of the fields that are given, joined by AND, and their parameters.

    Fields that are not given stay out, so that the planner sees which index serves the rest.
    """
    values = {name: value for name, value in given if value is not None}
    return " AND ".join(sql_of[name] for name in values) or "true", values
