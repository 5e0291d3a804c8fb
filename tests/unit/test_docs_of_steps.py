"""The page of the steps says what the code says: steps, annotations, reasons, categories."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate.plans import planned_steps, reasons_of, services_of
from mavedb_audit.failures import RETRYABLE, FailureCategory
from mavedb_audit.pipelines import Step
from mavedb_audit.reasons import MEANINGS, AnnotationStatus, Reason
from mavedb_audit.services import Service
from mavedb_audit.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
EVERY_STEP = (DOCS / "reference" / "every-step.md").read_text()
PAGE = (DOCS / "reference" / "steps.md").read_text()
SECTIONS = re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE, re.M | re.S)
SECTION = dict(SECTIONS)

STEPS = planned_steps()
of_each_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


def words(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def rows(text: str, *headings: str) -> Iterator[tuple[str, ...]]:
    """The rows of the tables with these headings."""
    for table in re.findall(
        r"^\| " + r" \| ".join(headings) + r" \|\n(.+?)(?:\n\n|\Z)", text, re.M | re.S
    ):
        for row in table.splitlines()[1:]:
            yield tuple(cell.strip() for cell in row.strip("|").split(" | "))


def outcomes(step: Step) -> list[tuple[AnnotationStatus, list[str]]]:
    """(status, reasons) of each row."""
    found = rows(SECTION[step.function], "outcome", "status", "reason")
    return [(AnnotationStatus(status), words(reason)) for _, status, reason in found]


def test_every_step_has_one_section_and_nothing_else_has() -> None:
    assert sorted(name for name, _ in SECTIONS) == sorted(STEPS)


@of_each_step
def test_a_section_names_what_the_step_annotates(step: Step) -> None:
    section = " ".join(SECTION[step.function].split())
    named = re.search(r"\*\*Annotation:\*\* (`\w+`)", section)
    assert tuple(words(named[1]) if named else ()) == step.annotation_types
    assert ("It writes no annotation" in section) == (not step.annotation_types)


@of_each_step
def test_a_section_lists_the_reasons_that_the_steps_code_gives(step: Step) -> None:
    owed = reasons_of(step)
    assert ("Skipped unless" in SECTION[step.function]) == (Reason.STEP_SKIPPED in owed)
    listed = [
        Reason(reason)
        for status, reasons in outcomes(step)
        for reason in reasons
        if status is not AnnotationStatus.SUCCESS
    ]
    assert sorted(listed) == sorted(owed if step.annotation_types else ())


@of_each_step
def test_a_reason_is_listed_under_its_status(step: Step) -> None:
    statuses = [status for status, _ in outcomes(step)]
    assert statuses.count(AnnotationStatus.SUCCESS) == len(step.annotation_types)
    for status, reasons in outcomes(step):
        if status is not AnnotationStatus.SUCCESS:
            assert {MEANINGS[Reason(reason)].status for reason in reasons} == {status}


@pytest.mark.parametrize("text", [EVERY_STEP, *SECTION.values()], ids=["every step", *SECTION])
def test_what_is_tried_again_is_told_by_the_category(text: str) -> None:
    for _, category, again in rows(text, "what happens", "category", "tried again"):
        for name in words(category):
            assert again == ("yes" if FailureCategory(name) in RETRYABLE else "no")


@of_each_step
def test_a_section_names_the_limits_of_the_services_that_the_step_asks(step: Step) -> None:
    limits = {word for word in words(SECTION[step.function]) if word in set(Service)}
    assert limits == services_of(step)


def test_the_settings_that_are_named_exist() -> None:
    named = {word for word in words(PAGE + EVERY_STEP) if re.fullmatch("[A-Z]+(_[A-Z0-9]+)+", word)}
    named -= {"MM_YYYY"}
    in_urls = set(re.findall(r"\{([A-Z]+_[A-Z_]+)\}", PAGE))
    assert named | in_urls <= {name.upper() for name in Settings.model_fields}
