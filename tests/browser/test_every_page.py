"""What holds for every page: it fits, it can be read and walked by everybody, it stays at home."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from deployments.local.stack import Stack
from tests.browser.conftest import Open, Visit
from tests.support import MAIN_JOB, MaveDB, Submitted

_HERE = Path(__file__).parent
_VIOLATIONS = (_HERE / "violations.js").read_text()
_FAINT = (_HERE / "contrast.js").read_text()


@pytest.fixture(scope="module")
def paths(mavedb: MaveDB, annotated: Submitted) -> Mapping[str, str]:
    """Every page with its title's beginning."""
    score_set = quote(annotated.score_set_urn)
    pipeline = f"/pipelines/{annotated.pipeline_urn}"
    rejected = mavedb.value(
        """
        SELECT variants.urn FROM variant_annotation_status AS status
          JOIN variants ON variants.id = variant_id
         WHERE scoreset_id = :id AND current AND status = 'failed' LIMIT 1
        """,
        id=annotated.score_set_id,
    )
    job = mavedb.value(
        "SELECT min(urn) FROM job_runs WHERE pipeline_id = :id", id=annotated.pipeline_id
    )
    return {
        "/": "Pipelines",
        "/?status=paused&name=publish_score_set": "Pipelines",
        pipeline: "validate_map_annotate_score_set of",
        f"{pipeline}/history": "History of",
        f"{pipeline}/restart": "Restart",
        f"/jobs/{job}": "",
        f"/score-sets/{score_set}": annotated.score_set_urn,
        f"/score-sets/{score_set}/variants?annotation_type=clinvar_control": "ClinVar",
        f"/score-sets/{score_set}/rerun-failed": "Annotate the failed variants again",
        f"/variants/{quote(rejected)}": "p.",
        "/failures": "Failures by reason",
        "/failures?by=service": "Failures by service",
        "/failures?by=score-set&days=1": "Failures by score set",
        "/system": "System",
        "/nothing": "There is nothing here",
        "/variants/tmp:nothing%231": "There is nothing here",
        "/pipelines/urn:mavedb:pipeline-0": "There is nothing here",
        "/failures?by=colour": "This cannot be answered",
    }


def _signed_in(visit: Open, stack: Stack, **options: object) -> Visit:
    visitor = visit(stack.audit_url, **options)
    visitor.sign_in(stack.audit_token)
    return visitor


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_a_narrow_screen_and_is_made_for_everybody(
    visit: Open, stack: Stack, paths: Mapping[str, str], scheme: str
) -> None:
    visitor = _signed_in(visit, stack, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    for path, title in paths.items():
        page = visitor.go(path)
        page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
        assert page.title().startswith(title), path
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360, path
        assert page.evaluate(_VIOLATIONS) == [], path
        assert page.evaluate(_FAINT) == [], path


def test_the_form_to_sign_in_fits_and_is_made_for_everybody(visit: Open, stack: Stack) -> None:
    page = visit(stack.audit_url, viewport={"width": 360, "height": 740}).go("/sign-in")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
    assert page.evaluate(_VIOLATIONS) == []
    assert page.evaluate(_FAINT) == []


def test_dark_is_dark_and_light_is_light(visit: Open, stack: Stack) -> None:
    def paper(scheme: str) -> int:
        page = visit(stack.audit_url, color_scheme=scheme).go("/sign-in")
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    assert paper("light") > 3 * 200
    assert paper("dark") < 3 * 50


def test_pages_are_read_without_javascript(
    visit: Open, stack: Stack, paths: Mapping[str, str], annotated: Submitted
) -> None:
    visitor = _signed_in(visit, stack, java_script_enabled=False)
    for path, title in paths.items():
        assert visitor.go(path).title().startswith(title), path
    page = visitor.go(f"/pipelines/{annotated.pipeline_urn}")
    assert page.locator(".step").count() == len(MAIN_JOB.steps) + 1
    expect(page.locator("#step-map_variants_for_score_set")).to_contain_text("succeeded")


def test_the_keyboard_reaches_what_matters(visit: Open, stack: Stack, annotated: Submitted) -> None:
    visitor = _signed_in(visit, stack)
    page = visitor.go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"

    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('href')"))
        if reached[-1] == f"/pipelines/{annotated.pipeline_urn}":
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/pipelines/{annotated.pipeline_urn}")


def test_search_finds_what_a_urn_of_any_kind_names(
    visit: Open, stack: Stack, mavedb: MaveDB, annotated: Submitted
) -> None:
    job, variant = mavedb.rows(
        """
        SELECT (SELECT min(urn) FROM job_runs WHERE pipeline_id = :pipeline),
               (SELECT min(urn) FROM variants WHERE scoreset_id = :score_set)
        """,
        pipeline=annotated.pipeline_id,
        score_set=annotated.score_set_id,
    )[0]
    visitor = _signed_in(visit, stack)
    for urn in (annotated.pipeline_urn, job, annotated.score_set_urn, variant):
        page = visitor.go("/")
        page.get_by_label("URN of a pipeline, job, score set or variant").fill(f" {urn} ")
        page.keyboard.press("Enter")
        page.locator("main").get_by_text(urn, exact=True).first.wait_for()
    page = visitor.go("/")
    page.get_by_role("searchbox").fill("urn:mavedb:nothing")
    page.keyboard.press("Enter")
    page.get_by_text("There is no score set urn:mavedb:nothing").wait_for()


def test_what_a_page_loads_is_kept_by_the_browser(visit: Open, stack: Stack) -> None:
    visitor = visit(stack.audit_url)
    answers = []
    visitor.page.on("response", lambda response: answers.append(response))
    visitor.go("/sign-in")
    by_path = {answer.url.removeprefix(stack.audit_url): answer for answer in answers}
    style = next(answer for path, answer in by_path.items() if path.startswith("/static/page.css?"))
    assert "immutable" in (style.header_value("cache-control") or "")
    assert by_path["/sign-in"].header_value("cache-control") == "no-store"
    assert "script-src 'self';" in (
        by_path["/sign-in"].header_value("content-security-policy") or ""
    )
