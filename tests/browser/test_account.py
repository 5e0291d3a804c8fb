"""From a score set's account to its variants and their stories, as a curator goes."""

import re

from playwright.sync_api import expect
from sqlalchemy import text

from deployments.local.stack import Stack
from mavedb_audit.database import connect
from tests.browser.conftest import Open
from tests.support import MaveDB, Submitted, insert_brca1
from tests.support_http import AuditServer


def _number(words: str) -> int:
    return int(words.replace(",", ""))


def test_a_count_leads_to_its_variants_and_those_to_their_stories(
    visit: Open, stack: Stack, mavedb: MaveDB, annotated: Submitted
) -> None:
    account = mavedb.account(annotated)
    visitor = visit(stack.audit_url)
    page = visitor.sign_in(stack.audit_token, f"/score-sets/{annotated.score_set_urn}")
    row = page.get_by_role("row").filter(
        has=page.get_by_role("rowheader", name="ClinGen allele id")
    )
    (refused,) = (
        number
        for (annotation_type, status, _), number in account.items()
        if annotation_type == "clingen_allele_id" and status == "failed"
    )
    link = row.locator("a[href*='status=failed']")
    assert _number(link.inner_text()) == refused
    link.click()

    expect(page.get_by_role("heading", level=1)).to_have_text(
        "ClinGen allele id: rejected by clingen"
    )
    listed = page.get_by_role("region", name="Variants").locator("tbody tr")
    assert listed.count() == min(refused, 50)
    variant = listed.first.get_by_role("link").inner_text()
    listed.first.get_by_role("link").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(variant)
    chapter = page.get_by_role("article").filter(
        has=page.get_by_role("heading", name="ClinGen allele id")
    )
    expect(chapter).to_contain_text("ClinGen's Allele Registry refused to register this variant.")
    expect(chapter).to_contain_text("Check the mapped HGVS expression")
    chapter.get_by_role("link", name="submit_score_set_mappings_to_car").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("submit_score_set_mappings_to_car")


def test_pages_of_variants_follow_each_other_without_gap_or_repetition(
    visit: Open, stack: Stack, mavedb: MaveDB, annotated: Submitted
) -> None:
    visitor = visit(stack.audit_url)
    path = f"/score-sets/{annotated.score_set_urn}/variants?annotation_type=vrs_mapping"
    page = visitor.sign_in(stack.audit_token, path)
    seen: list[str] = []
    while True:
        seen += page.get_by_role("rowheader").get_by_role("link").all_inner_texts()
        following = page.get_by_role("link", name="Next page")
        if not following.count():
            break
        following.click()
        page.wait_for_load_state()
    there = mavedb.rows(
        "SELECT urn FROM variants WHERE scoreset_id = :id ORDER BY id", id=annotated.score_set_id
    )
    assert seen == [row.urn for row in there]


def test_the_matrix_and_its_picture_agree_with_the_account(
    visit: Open, stack: Stack, mavedb: MaveDB, annotated: Submitted
) -> None:
    visitor = visit(stack.audit_url)
    page = visitor.sign_in(stack.audit_token, f"/score-sets/{annotated.score_set_urn}")
    page.get_by_text("11 other versions of ClinVar").last.click()
    shown = sum(_number(cell) for cell in page.locator(".matrix td a").all_inner_texts())
    assert shown == sum(mavedb.account(annotated).values())

    words = page.get_by_role("img", name=re.compile("^VRS mapping")).get_attribute("aria-label")
    of_mapping = {
        status: number
        for (annotation_type, status, _), number in mavedb.account(annotated).items()
        if annotation_type == "vrs_mapping"
    }
    assert words is not None
    assert f"{of_mapping['success']} have it, {of_mapping['failed']} failed" in words


def test_pipelines_are_found_by_what_they_are(
    visit: Open, stack: Stack, annotated: Submitted
) -> None:
    visitor = visit(stack.audit_url)
    page = visitor.sign_in(stack.audit_token)
    listed = page.get_by_role("region", name="Pipelines").locator("tbody tr")
    page.get_by_label("Score set", exact=True).fill(annotated.score_set_urn)
    page.get_by_label("Status", exact=True).select_option("succeeded")
    page.get_by_label("Name", exact=True).select_option("validate_map_annotate_score_set")
    page.get_by_role("button", name="Filter").click()
    expect(listed).to_have_count(1)
    expect(listed).to_contain_text(annotated.pipeline_urn)
    expect(page.get_by_label("Status", exact=True)).to_have_value("succeeded")

    page.get_by_label("Until", exact=True).fill("2020-01-01")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No pipeline matches.")).to_be_visible()
    page.get_by_role("link", name="Clear the filters").first.click()
    expect(page.get_by_label("Status", exact=True)).to_have_value("")
    assert listed.count() >= 1


def test_what_others_wrote_is_shown_and_not_run(visit: Open, audit_server: AuditServer) -> None:
    evil = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"
    with connect() as connection, connection.begin():
        urn, score_set_id, _ = insert_brca1(connection)
        connection.execute(
            text("UPDATE scoresets SET title = :title WHERE id = :id"),
            {"title": evil, "id": score_set_id},
        )
    page = visit(audit_server.url).sign_in(audit_server.reader_token, f"/score-sets/{urn}")
    expect(page.get_by_role("heading", level=1)).to_have_text(evil)
    assert page.title().startswith("<script>")
    expect(page.get_by_text("It has no variants.")).to_be_visible()
