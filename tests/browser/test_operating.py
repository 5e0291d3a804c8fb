"""Signing in and out, and the operators' verbs as forms: confirmed, audited, and nobody else's."""

import pytest
from playwright.sync_api import expect

from deployments.local.stack import Stack
from tests.browser.conftest import Open
from tests.support import MaveDB, Submitted, brca1, no_worker_takes_runs, wait_until
from tests.support_http import AuditServer


def _actions(mavedb: MaveDB, submitted: Submitted) -> list[tuple[str, str, str | None]]:
    rows = mavedb.rows(
        "SELECT action, actor, reason FROM operator_actions WHERE pipeline_id = :id ORDER BY id",
        id=submitted.pipeline_id,
    )
    return [tuple(row) for row in rows]


def test_a_verb_is_confirmed_done_and_audited(visit: Open, stack: Stack, mavedb: MaveDB) -> None:
    with no_worker_takes_runs(mavedb):
        submitted = mavedb.submit(*brca1(20, seed=3))
        wait_until(lambda: mavedb.dispatched_flow_run(submitted))
        visitor = visit(stack.audit_url)
        page = visitor.sign_in(stack.audit_token, f"/pipelines/{submitted.pipeline_urn}")

        page.get_by_role("link", name="Pause").click()
        page.get_by_role("link", name="Leave it").click()
        assert _actions(mavedb, submitted) == []

        page.get_by_role("link", name="Pause").click()
        page.get_by_label("Why").fill("the registry is <b>down</b>")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#summary")).to_contain_text("paused")
        expect(page.get_by_role("region", name="Actions")).to_contain_text(
            "the registry is <b>down</b>"
        )
        assert _actions(mavedb, submitted) == [("pause", "local", "the registry is <b>down</b>")]

        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#summary")).to_contain_text("cancelled")
        assert _actions(mavedb, submitted)[1:] == [("cancel", "local", None)]

        # Somebody else was faster: the form says so, and nothing is done.
        visitor.go(f"/pipelines/{submitted.pipeline_urn}/resume")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("alert")).to_contain_text("Only what is paused can be resumed")
        assert len(_actions(mavedb, submitted)) == 2
    mavedb.wait_for(submitted)


def test_failed_variants_are_annotated_again_from_the_page(
    visit: Open, stack: Stack, annotated: Submitted
) -> None:
    page = visit(stack.audit_url).sign_in(
        stack.audit_token, f"/score-sets/{annotated.score_set_urn}"
    )
    page.get_by_role("link", name="Annotate the failed variants again").click()
    page.get_by_label("Why").fill("a newer registry")
    page.get_by_role("button", name="Annotate the failed variants again").click()
    page.wait_for_url("**/pipelines/urn:mavedb:pipeline-*")
    expect(page.get_by_role("heading", level=1)).to_have_text("annotate_score_set")
    expect(page.get_by_role("region", name="Actions")).to_contain_text("a newer registry")
    expect(page.locator("#summary")).to_contain_text("succeeded", timeout=60_000)


@pytest.mark.parametrize("path", ["/", "/system", "/score-sets/urn:mavedb:00000001-a-1?page=2"])
def test_nobody_reads_before_signing_in(visit: Open, audit_server: AuditServer, path: str) -> None:
    visitor = visit(audit_server.url)
    page = visitor.sign_in("a guess", path)
    expect(page.get_by_role("alert")).to_contain_text("That token is not known here")
    page.get_by_label("Token").fill(audit_server.reader_token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("rita", exact=True)).to_be_visible()
    assert page.url == f"{audit_server.url}{path}"

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    visitor.go(path)
    assert page.get_by_label("Token").is_visible()


def test_who_may_only_read_is_offered_no_verb_and_can_do_none(
    visit: Open, audit_server: AuditServer
) -> None:
    visitor = visit(audit_server.url)
    visitor.sign_in(audit_server.reader_token)
    page = visitor.go("/pipelines/urn:mavedb:pipeline-1/cancel")
    expect(page.get_by_role("heading", level=1)).to_have_text("You may not do this")
    answer = page.request.post(
        f"{audit_server.url}/pipelines/urn:mavedb:pipeline-1/cancel",
        form={"reason": "", "csrf_token": "guessed"},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status == 403


def test_a_form_of_another_site_changes_nothing(
    visit: Open, stack: Stack, annotated: Submitted
) -> None:
    visitor = visit(stack.audit_url)
    page = visitor.sign_in(stack.audit_token)
    answer = page.request.post(
        f"{stack.audit_url}/pipelines/{annotated.pipeline_urn}/restart",
        form={"reason": "", "csrf_token": "guessed"},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status == 403
    assert "csrf_token" in answer.text()
