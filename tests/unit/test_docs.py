"""The reference pages name all that there is."""

from pathlib import Path

import pytest

from mavedb_audit.models.audit import OUR_TABLES
from mavedb_audit.reasons import MEANINGS, Reason
from mavedb_audit.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_described(setting: str) -> None:
    page = (REFERENCE / "settings.md").read_text()
    example = (REFERENCE.parents[1] / ".env.example").read_text()
    assert f"| `{setting.upper()}` |" in page
    assert setting.upper() in example


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_described_in_its_own_words(reason: Reason) -> None:
    line = f"| `{reason}` | {MEANINGS[reason].status} | {MEANINGS[reason].sentence}"
    assert line in (REFERENCE / "tables.md").read_text()


@pytest.mark.parametrize("table", sorted(OUR_TABLES))
def test_every_table_of_ours_is_described(table: str) -> None:
    assert f"| `{table}` |" in (REFERENCE / "tables.md").read_text()
