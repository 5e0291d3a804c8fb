"""The reference pages name all that there is, and nothing else."""

import re
from pathlib import Path

import pytest

from docs.generate import pages
from mavedb_audit.models import OUR_TABLES
from mavedb_audit.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"
PAGES = pages()

#: What stands in the column of defaults, by the variable.
SHOWN = dict(
    re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \|", (REFERENCE / "settings.md").read_text(), re.M)
)
#: What .env.example sets, or would set without the "# " before it.
EXAMPLES = dict(
    re.findall(r"^(?:# )?([A-Z0-9_]+)=(.*)$", (DOCS.parent / ".env.example").read_text(), re.M)
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_from_code_is_what_the_code_makes(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name], "make it anew: make docs"


def test_the_settings_are_described_and_no_others() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    assert set(SHOWN) == settings
    assert set(EXAMPLES) == settings | {"PREFECT_API_URL"}


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_a_settings_default_is_the_one_that_is_shown(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Settings.model_fields[setting].default
    shown = SHOWN[setting.upper()]
    if default in (None, ""):
        # None at all, or that of another setting, which is named.
        assert shown in {"-", "as above", *(f"`{name}`" for name in SHOWN)}
        return
    for value in (shown.strip("`"), EXAMPLES[setting.upper()]):
        monkeypatch.setenv(setting, value)
        assert getattr(Settings(), setting) == default


@pytest.mark.parametrize("table", sorted(OUR_TABLES))
def test_every_table_of_ours_is_described(table: str) -> None:
    assert f"| `{table}` |" in (REFERENCE / "tables.md").read_text()


def test_every_command_that_prints_json_has_a_schema_of_it() -> None:
    sections = re.split(r"^## ", PAGES["reference/cli.md"], flags=re.M)[1:]
    printing = {text.partition("\n")[0] for text in sections if "`--output CHOICE`" in text}
    answers, _, _ = PAGES["reference/cli-output.md"].partition("### ")
    assert set(re.findall(r"^\| `([a-z -]+)` \|", answers, re.M)) == printing
