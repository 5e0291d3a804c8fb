"""How the page shows values: durations, shares, URNs in addresses, and the account as a matrix."""

from datetime import UTC, datetime

import pytest

from mavedb_audit.queries.accounts import Account, Count
from mavedb_audit.queries.pipelines import Step
from mavedb_audit.web.estimates import seconds_left
from mavedb_audit.web.matrix import matrix_of
from mavedb_audit.web.pages import annotation_label, duration, in_path, moment, percent, state


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (-0.5, "0.0 s"),
        (3.21, "3.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, ""),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 3, "33.3 %"),
        (1, 500_000, "< 0.1 %"),
        (499_999, 500_000, "> 99.9 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_none(part: int, whole: int, shown: str) -> None:
    assert percent(part, whole) == shown


def test_a_urn_in_an_address_keeps_all_of_its_characters() -> None:
    assert in_path("urn:mavedb:00000001-a-1#17") == "urn:mavedb:00000001-a-1%2317"
    assert in_path("tmp:a/../b?c") == "tmp:a%2F..%2Fb%3Fc"


def test_a_time_is_shown_in_utc_and_as_how_long_ago() -> None:
    shown = moment(datetime(2026, 1, 5, 7, 8, 9, tzinfo=UTC))
    assert '<time datetime="2026-01-05T07:08:09+00:00">5 Jan 2026, 07:08:09 UTC</time>' in shown
    assert " ago</span>" in shown


def test_a_status_is_a_sign_and_a_word_also_one_that_nobody_knows() -> None:
    assert "✕" in state("failed")
    assert "failed</span>" in state("failed")
    assert "&lt;b&gt;" in state("<b>")


def test_an_annotation_that_nobody_knows_keeps_its_name() -> None:
    assert annotation_label("clinvar_control", "01_2026") == "ClinVar 01_2026"
    assert annotation_label("spliceai_score") == "spliceai score"


def _count(annotation_type: str, version: str | None, status: str, number: int) -> Count:
    return Count(
        annotation_type=annotation_type,
        version=version,
        status=status,
        reason=None if status == "success" else f"{status}_reason",
        sentence=None,
        hint=None,
        variants=number,
    )


def test_the_matrix_has_a_row_for_the_newest_version_and_folds_the_others() -> None:
    account = Account(
        score_set_urn="urn",
        title="title",
        variants=10,
        processing_state=None,
        mapping_state=None,
        counts=[
            _count("vrs_mapping", "2", "success", 7),
            _count("vrs_mapping", "2", "failed", 3),
            _count("clinvar_control", "01_2025", "success", 1),
            _count("clinvar_control", "01_2025", "skipped", 9),
            _count("clinvar_control", "01_2026", "skipped", 8),
        ],
    )
    matrix = matrix_of(account)
    assert [(row.annotation_type, row.version) for row in matrix.rows] == [
        ("vrs_mapping", "2"),
        ("clinvar_control", "01_2026"),
    ]
    assert [row.without for row in matrix.rows] == [0, 2]
    assert [row.version for row in matrix.earlier[0].rows] == ["01_2025"]
    assert matrix.columns == [
        ("success", None),
        ("failed", "failed_reason"),
        ("skipped", "skipped_reason"),
    ]
    assert matrix.rows[0].of("failed") == 3


def _step(key: str, status: str, left: float | None, *after: str) -> Step:
    unknown = dict.fromkeys(set(Step.model_fields) - {"retry_count", "max_retries"})
    return Step(
        **unknown
        | {
            "job_urn": f"urn:{key}",
            "job_key": key,
            "job_function": key,
            "status": status,
            "attempts": 1,
            "remaining_seconds": left,
            "after": after,
        },
        retry_count=0,
        max_retries=0,
    )


def test_the_time_left_is_that_of_the_longest_way_through_the_steps() -> None:
    steps = [
        _step("create", "succeeded", None),
        _step("map", "running", 5.0, "create"),
        _step("register", "pending", 3.0, "map"),
        _step("vep", "pending", 20.0, "create"),
        _step("link", "pending", 30.0, "register"),
    ]
    assert seconds_left(steps) == 38.0
    assert seconds_left(steps[:1]) is None
    assert seconds_left([*steps, _step("load", "pending", None)]) is None
