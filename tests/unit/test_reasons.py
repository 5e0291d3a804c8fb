"""The vocabulary of the account."""

import pytest

from mavedb_audit.reasons import MEANINGS, AnnotationStatus, Reason, explain


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_tells_a_curator_what_it_is_and_what_to_do(reason: Reason) -> None:
    meaning = MEANINGS[reason]
    assert meaning.status is not AnnotationStatus.SUCCESS
    assert meaning.sentence.endswith(".")
    assert meaning.hint.rstrip(".;").strip()
    assert explain(reason, "Because.").endswith(" Because.")


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_fits_its_column(reason: Reason) -> None:
    assert len(reason.value) <= 100
