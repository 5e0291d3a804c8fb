"""A pipeline's summary for Prefect's UI, as markdown."""

from datetime import UTC, datetime

from mavedb_audit.prefect_ui import summary
from mavedb_audit.queries.accounts import Account, Count
from mavedb_audit.queries.pipelines import Detail, Step

NOW = datetime(2026, 11, 29, tzinfo=UTC)
URN = "urn:mavedb:pipeline-1"


def detail(message: str | None = None) -> Detail:
    """A pipeline of one step, which failed with that message."""
    step = Step(
        job_urn="urn:mavedb:job-1",
        job_key="link_gnomad_variants",
        job_function="link_gnomad_variants",
        status="failed",
        attempts=3,
        retry_count=2,
        max_retries=3,
        started_at=NOW,
        finished_at=NOW,
        elapsed_seconds=12.34,
        remaining_seconds=None,
        progress_current=None,
        progress_total=None,
        progress_message=None,
        failure_category="service_unavailable",
        error_message=message,
        after=[],
        run_id=None,
    )
    return Detail(
        urn=URN,
        name="link_gnomad_variants",
        status="failed",
        score_set_urn="tmp:1",
        created_at=NOW,
        started_at=NOW,
        finished_at=NOW,
        duration_seconds=12.34,
        requested_by="curator",
        jobs=1,
        jobs_ended=1,
        jobs_failed=1,
        description=None,
        correlation_id=None,
        flow_run_id=None,
        waiting_because=None,
        steps=[step],
        actions=[],
    )


def count(status: str, variants: int, *, hint: str | None = None) -> Count:
    return Count(
        annotation_type="gnomad_allele_frequency",
        version="v4.1",
        status=status,
        reason=None if hint is None else "step_failed",
        sentence=None if hint is None else "The step failed.",
        hint=hint,
        variants=variants,
    )


def account(*counts: Count) -> Account:
    return Account(
        score_set_urn="tmp:1",
        title="",
        variants=1500,
        processing_state=None,
        mapping_state=None,
        counts=list(counts),
    )


def test_words_of_a_service_are_no_markup_and_break_no_table() -> None:
    shown = summary(detail("a|b\n\n# <img src=x> [here](javascript:x) `c`"), None, None)
    assert r"a\|b # &lt;img src=x&gt; \[here\](javascript:x) \`c\`" in shown
    assert len(summary(detail("x" * 10_000), None, None)) < 1_000


def test_the_page_is_linked_where_there_is_one() -> None:
    assert f"(https://audit.example/pipelines/{URN})" in summary(
        detail(), None, "https://audit.example/"
    )
    assert "](" not in summary(detail(), None, None)


def test_statuses_of_one_annotation_are_counted_in_one_row_with_hints_for_what_failed() -> None:
    counts = (count("success", 1200), count("failed", 200, hint="Run it again."))
    shown = summary(detail(), account(*counts, count("failed", 100, hint="Mend it.")), None)
    assert "| gnomad\\_allele" not in shown
    assert "| gnomad_allele_frequency | v4.1 | 1,200 | 300 | 0 |" in shown
    assert "- 200 of gnomad_allele_frequency v4.1: The step failed. Run it again." in shown


def test_each_step_is_a_row() -> None:
    assert "| link_gnomad_variants | failed | 3 | 12.3 |" in summary(detail("down"), None, None)
    assert "**link_gnomad_variants** (service_unavailable): down" in summary(
        detail("down"), None, None
    )
