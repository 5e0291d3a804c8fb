"""The 22 defects of MaveDB's earlier job system, by their numbers, and what is right instead.

They are shown on one score set that meets them all, part after part; each part is a fixture, and
changes what the one before it has left. What was only about the old queue is shown as the same risk
here. Longer tests of the same stand beside: test_recovery.py (9), test_replaced.py (12),
test_upload_rules.py (13), test_clinvar.py and test_clingen_cache.py (15), test_accounts.py (20),
test_trigger.py (21) and test_failures_of_the_old_system.py (22).
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from deployments.local.stack import Stack
from flows.pipelines import annotate_score_set
from mavedb_audit import pipelines
from mavedb_audit.histories import prefect_client
from mavedb_audit.pipelines import DependencyType
from tests.support import MaveDB, Submitted
from tests.support_defects import (
    LINK,
    MAP,
    REGISTER,
    VARIANTS,
    Annotated,
    Mended,
    Refused,
    Uploaded,
    Watched,
    annotate_again,
    map_nothing_and_try_again,
    refuse_a_file_and_miss_the_registry,
    table,
    upload_that_nobody_hears_of,
    watch_and_cancel,
)
from tests.support_links import (
    Odd,
    Replaced,
    ask_about_odd_alleles,
    copy_of,
    replace_variants,
)

CREATE = "create_variants_for_score_set"
POLL = "poll_uniprot_mapping_jobs_for_score_set"
VIEW = """
    SELECT count(DISTINCT variant_id) FROM published_variants_materialized_view
     WHERE score_set_id = :id
"""
#: By annotation type, what the score set's statuses say of who wrote them.
WRITERS = """
    SELECT annotation_type, array_agg(DISTINCT job.job_function) AS functions,
           count(*) FILTER (WHERE job.id IS NULL) AS nobodys
      FROM variant_annotation_status AS status JOIN variants ON variants.id = status.variant_id
      LEFT JOIN job_runs AS job ON job.id = status.job_run_id
     WHERE scoreset_id = :id GROUP BY 1
"""


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - the server it asks
    with prefect_client() as client:
        yield client


@pytest.fixture(scope="module")
def uploaded(mavedb: MaveDB) -> Uploaded:
    return upload_that_nobody_hears_of(mavedb)


@pytest.fixture(scope="module")
def submitted(uploaded: Uploaded) -> Submitted:
    return uploaded.submitted


@pytest.fixture(scope="module")
def watched(mavedb: MaveDB, client: SyncPrefectClient, submitted: Submitted) -> Watched:
    return watch_and_cancel(mavedb, client, submitted)


@pytest.fixture(scope="module")
def mended(
    mavedb: MaveDB,
    client: SyncPrefectClient,
    submitted: Submitted,
    watched: Watched,  # noqa: ARG001 - the part before
) -> Mended:
    return map_nothing_and_try_again(mavedb, client, submitted)


@pytest.fixture(scope="module")
def counts(mavedb: MaveDB, submitted: Submitted, mended: Mended) -> dict[str, Any]:  # noqa: ARG001
    """The counts of each of its variants."""
    rows = mavedb.rows(
        "SELECT hgvs_nt, data -> 'count_data' FROM variants WHERE scoreset_id = :id",
        id=submitted.score_set_id,
    )
    return {row[0]: row[1] for row in rows}


@pytest.fixture(scope="module")
def refused(mavedb: MaveDB, submitted: Submitted, counts: Any) -> Refused:  # noqa: ARG001
    return refuse_a_file_and_miss_the_registry(mavedb, submitted)


@pytest.fixture(scope="module")
def annotated(mavedb: MaveDB, submitted: Submitted, refused: Refused) -> Annotated:  # noqa: ARG001
    return annotate_again(mavedb, submitted)


@pytest.fixture(scope="module")
def writers(
    mavedb: MaveDB,
    submitted: Submitted,
    annotated: Annotated,  # noqa: ARG001
) -> dict[str, Any]:
    rows = mavedb.rows(WRITERS, id=submitted.score_set_id)
    return {row.annotation_type: row for row in rows}


@pytest.fixture(scope="module")
def published(mavedb: MaveDB, submitted: Submitted, annotated: Annotated) -> Submitted:  # noqa: ARG001
    """A copy of the score set, published."""
    twin = copy_of(mavedb, submitted)
    mavedb.execute(
        "UPDATE scoresets SET private = false, published_date = CURRENT_DATE WHERE id = :id",
        id=twin.score_set_id,
    )
    assert mavedb.wait_for(mavedb.request("publish_score_set", twin)) == "succeeded"
    return twin


@pytest.fixture(scope="module")
def odd(mavedb: MaveDB, submitted: Submitted, writers: Any) -> Odd:  # noqa: ARG001
    return ask_about_odd_alleles(mavedb, submitted)


@pytest.fixture(scope="module")
def replaced(mavedb: MaveDB, submitted: Submitted, odd: Odd) -> Replaced:  # noqa: ARG001
    return replace_variants(mavedb, submitted)


def test_01_a_failure_has_its_category_and_what_may_pass_is_tried_again(mended: Mended) -> None:
    assert mended.retried.status == "succeeded"
    assert mended.retried.jobs[MAP].error_message is None
    *_, refused, again = mended.attempts
    assert (refused.outcome, refused.failure_category) == ("failed", "service_unavailable")
    assert "HTTP 500" in refused.error_message
    assert (again.outcome, again.task_run_id) == ("succeeded", refused.task_run_id)


def test_02_progress_is_seen_while_a_step_runs(watched: Watched) -> None:
    line = line_of(watched.shown, MAP)
    assert " running " in line
    assert f"Waiting for the mapper to map {VARIANTS} variants" in line
    assert watched.mapping_state == "processing"


def line_of(shown: str, job_function: str) -> str:
    return next(line for line in shown.splitlines() if line.startswith(job_function))


def test_03_a_cancelled_job_stays_cancelled_whatever_its_step_still_does(watched: Watched) -> None:
    assert (watched.status, watched.job_status) == ("cancelled", "cancelled")
    assert watched.mapped == 0


def test_04_a_restart_and_a_retry_within_the_hour_run(mended: Mended) -> None:
    assert mended.nothing_mapped.status == "failed"
    assert mended.retried.status == "succeeded"
    assert [attempt.outcome for attempt in mended.attempts] == [
        "cancelled",
        "failed",  # restarted: nothing was mapped
        "failed",  # retried: the mapper refused
        "succeeded",
    ]


def test_05_a_leaf_that_fails_takes_no_other_job_with_it(annotated: Annotated) -> None:
    assert annotated.ended.status == "partial"
    ends = {key: job.status for key, job in annotated.ended.jobs.items()}
    assert ends.pop(POLL) == "failed"
    assert set(ends.values()) == {"succeeded"}


def test_06_what_needs_only_the_end_of_a_job_runs_after_its_failure(
    mavedb: MaveDB, submitted: Submitted, annotated: Annotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No plan of ours has such a step. Here is one, and its flow runs in this process."""
    plan = pipelines.PIPELINES["annotate_score_set"]
    register, link = (step for step in plan.steps if step.key in (REGISTER, LINK))
    steps = (register, replace(link, dependency_type=DependencyType.COMPLETION_REQUIRED))
    monkeypatch.setitem(pipelines.PIPELINES, plan.name, replace(plan, steps=steps))
    twin = copy_of(mavedb, submitted)
    parameters = {"score_set_id": twin.score_set_id, "updater_id": None, "correlation_id": None}
    with mavedb.fault(mavedb.stack.clingen_url, "status", status=403):
        asyncio.run(annotate_score_set(**parameters, return_state=True))
    jobs = mavedb.rows(
        """
        SELECT job_function, status FROM job_runs JOIN planned_jobs ON job_id = job_runs.id
         WHERE score_set_id = :id ORDER BY job_runs.id
        """,
        id=twin.score_set_id,
    )
    assert jobs == [(REGISTER, "failed"), (LINK, "succeeded")]
    success = ("gnomad_allele_frequency", "success", None)
    assert mavedb.account(twin)[success] == annotated.ended.account[success]


def test_07_a_mapped_score_set_can_be_annotated_again(annotated: Annotated) -> None:
    assert annotated.ended.jobs[REGISTER].status == "succeeded"
    of_registry = {key: n for key, n in annotated.ended.account.items() if "clingen" in key[0]}
    assert of_registry == {
        ("clingen_allele_id", "success", None): 16,
        ("clingen_allele_id", "skipped", "not_mapped"): 8,
    }


def test_08_a_published_score_set_is_in_the_view(mavedb: MaveDB, published: Submitted) -> None:
    assert mavedb.value(VIEW, id=published.score_set_id) == VARIANTS


def test_09_a_step_whose_process_was_killed_is_tried_again(replaced: Replaced) -> None:
    assert set(replaced.actions) == {"recover"}
    killed, *_, again = replaced.attempts
    assert (killed.outcome, killed.failure_category) == ("failed", "system_error")
    assert killed.error_message == (
        f"The process ended while it ran (host {killed.host}, pid {killed.process_id})"
    )
    assert killed.progress_message.startswith("Waiting for the mapper")
    assert again.outcome == "succeeded"
    assert replaced.upload.jobs[CREATE].retry_count == 0


def test_10_the_progress_of_an_unfinished_pipeline_has_its_times(watched: Watched) -> None:
    assert "pipeline running" in watched.shown
    for job_function in (CREATE, MAP):
        assert float(line_of(watched.shown, job_function).partition(" s ")[0].split()[-1]) >= 0


def test_11_a_failure_that_is_returned_has_a_traceback(mended: Mended) -> None:
    job = mended.nothing_mapped.jobs[MAP]
    assert (job.status, job.failure_category) == ("failed", "vrs_mapping_failed")
    assert job.error_traceback.rstrip().endswith("StepError: All variants failed to map.")
    assert mended.words_kept == VARIANTS, "what the mapper said of each variant"


def test_12_a_new_upload_replaces_linked_variants_and_their_end_is_kept(replaced: Replaced) -> None:
    assert replaced.links_before.keys() == {"gnomAD", "ClinVar"}
    assert replaced.upload.status == "succeeded"
    mapped = [n for key, n in replaced.upload.account.items() if key[0] == "vrs_mapping"]
    assert sum(mapped) == 10
    assert replaced.kept == replaced.account_before
    assert replaced.kept_versions_of_gnomad == {"v4.1"}


def test_13_gaps_and_another_order_are_taken_and_infinity_is_named(
    counts: dict[str, Any], refused: Refused
) -> None:
    given = [row.split(",") for row in table(VARIANTS, 51)[1].splitlines()]
    assert counts == {
        row[0]: {name: int(n) for name, n in zip(given[0][2:], row[2:], strict=True)}
        for row in given[1:]
    }
    assert refused.upload.status == "failed"
    assert refused.upload.jobs[CREATE].failure_category == "validation_error"
    says = "line 4, column SE: inf is not a finite number"
    assert says in refused.errors["exception"]
    assert [says in detail for detail in refused.errors["detail"]] == [True]


def test_14_an_outage_fails_the_job_and_a_rejection_its_variant_alone(
    mended: Mended, refused: Refused, annotated: Annotated
) -> None:
    assert mended.retried.jobs[REGISTER].status == "succeeded"
    assert mended.retried.account["clingen_allele_id", "failed", "rejected_by_clingen"] == 8
    assert mended.retried.account["clingen_allele_id", "success", None] == 8
    job = refused.outage.jobs[REGISTER]
    assert (job.status, job.failure_category) == ("failed", "service_unavailable")
    assert job.retry_count == 2
    assert refused.allele_ids == (8, 8), "what is registered stays"
    assert str(annotated.protein_allele_id).startswith("PA")


def test_15_a_refusal_of_clingen_is_no_absence(odd: Odd) -> None:
    unanswered, unknown = odd.variants["unanswered"], odd.variants["unknown"]
    assert (unanswered.clinvar_status, unanswered.clinvar_reason) == ("failed", "clingen_api_error")
    assert "429" in unanswered.error_message
    assert (unknown.clinvar_status, unknown.clinvar_reason) == (
        "skipped",
        "no_associated_clinvar_allele_id",
    )


def test_16_gnomad_keeps_to_its_score_set_and_reads_padded_ids(odd: Odd) -> None:
    padded, unknown = odd.variants["padded"], odd.variants["unknown"]
    assert (padded.gnomad_status, padded.is_linked) == ("success", True)
    assert (unknown.gnomad_reason, unknown.is_linked) == ("not_found", False)
    assert odd.bystanders_rows == 0


def test_17_an_ambiguous_target_fails_nothing_and_a_job_that_is_not_ready_is_no_success(
    mended: Mended, annotated: Annotated
) -> None:
    job = mended.retried.jobs[POLL]
    assert job.status == "succeeded"
    (target,) = job.metadata["result"]["data"]["targets"].values()
    assert (target["outcome"], mended.accessions) == ("ambiguous", {"BRCA1": None})
    late = annotated.ended.jobs[POLL]
    assert (late.status, late.failure_category) == ("failed", "timeout")
    assert "has not finished its job" in late.error_message


def test_18_every_variant_has_its_statuses_whatever_became_of_the_job(mended: Mended) -> None:
    """That each has one of each type was looked at after every part."""
    of_failure, of_success = mended.nothing_mapped.account, mended.retried.account
    assert of_failure["vrs_mapping", "failed", "vrs_mapping_failed"] == VARIANTS
    assert of_failure["gnomad_allele_frequency", "skipped", "dependency_failure"] == VARIANTS
    assert of_success["vrs_mapping", "failed", "not_returned_by_mapper"] == 8
    assert of_success["clingen_allele_id", "skipped", "not_mapped"] == 8
    assert of_success["gnomad_allele_frequency", "skipped", "missing_clingen_allele_id"] == 16


def test_19_every_status_names_the_job_that_wrote_it(
    mavedb: MaveDB, writers: dict[str, Any], published: Submitted
) -> None:
    (of_hub,) = mavedb.rows(WRITERS, id=published.score_set_id)
    rows = {**writers, of_hub.annotation_type: of_hub}
    assert [row.nobodys for row in rows.values()] == [0] * 8
    assert {name: rows[name].functions for name in rows if name != "clinvar_control"} == {
        str(annotation_type): [step.function]
        for plan in pipelines.PIPELINES.values()
        for step in plan.steps
        for annotation_type in step.annotation_types
        if annotation_type != "clinvar_control"
    }


def test_20_two_jobs_at_once_leave_nothing_twice(odd: Odd) -> None:
    assert odd.doubled == []


def test_21_a_request_that_nobody_heard_of_is_found(uploaded: Uploaded, watched: Watched) -> None:
    assert not uploaded.was_dispatched
    assert "pipeline running" in watched.shown


def test_22_a_silent_service_holds_up_no_other_job_and_has_its_time(
    watched: Watched, annotated: Annotated
) -> None:
    assert watched.small == "succeeded"
    first, second = annotated.registering
    assert (first.outcome, first.failure_category) == ("failed", "timeout")
    assert "in time" in first.error_message
    assert second.outcome == "succeeded"
