"""A pipeline that runs, watched in a browser: the page moves without being loaded again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

import httpx
from playwright.sync_api import expect

from deployments.local.stack import Stack
from tests.browser.conftest import Open
from tests.support import MaveDB, Submitted, brca1
from tests.support_mapper import mapper_at_work

T = TypeVar("T")


def _elsewhere(work: Callable[[], T]) -> T:
    """Done in another thread: Playwright's loop runs in this one, and the work has its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_running_pipeline_moves_by_itself_until_its_end(
    visit: Open, stack: Stack, mavedb: MaveDB
) -> None:
    urn = f"tmp:{uuid4()}"
    with mapper_at_work(mavedb, urn) as mapper:
        submitted = mavedb.submit(*brca1(40, seed=8), urn=urn)
        _elsewhere(mapper.wait_until_it_has_read)
        visitor = visit(stack.audit_url)
        page = visitor.sign_in(stack.audit_token, f"/pipelines/{submitted.pipeline_urn}")
        page.evaluate("window.loadedOnce = true")
        mapping = page.locator("#step-map_variants_for_score_set")
        car = page.locator("#step-submit_score_set_mappings_to_car")
        announced = page.locator("#announcement")

        expect(page.locator("#connection")).to_have_text("Live")
        expect(mapping).to_contain_text("running")
        expect(car).to_contain_text("pending")
        expect(page.get_by_role("link", name="Pause")).to_be_visible()
        expect(announced).to_contain_text("is running: 2 of 23 steps have ended")
        before = mapping.locator(".step-time").inner_text()
        expect(mapping.locator(".step-time")).not_to_have_text(before)

        # The keyboard stays where it is, although its link is replaced each second.
        mapping.get_by_role("link").focus()
        link = mapping.get_by_role("link").element_handle()
        page.wait_for_function("link => !link.isConnected", arg=link)
        assert page.evaluate("document.activeElement.id") == "job-map_variants_for_score_set"

        _elsewhere(mapper.answer)
        expect(mapping).to_contain_text("succeeded")
        expect(page.locator("#summary")).to_contain_text("succeeded", timeout=60_000)
        expect(announced).to_contain_text("23 of 23 steps have ended")
        expect(page.get_by_role("link", name="Pause")).to_have_count(0)
        expect(page.get_by_role("link", name="Restart")).to_be_visible()
        expect(page.locator("#connection")).to_be_empty()
        assert page.evaluate("window.loadedOnce")
    assert mavedb.wait_for(submitted) == "succeeded"


def test_the_stream_tells_an_ended_pipeline_once_and_ends(
    stack: Stack, annotated: Submitted
) -> None:
    bearer = {"Authorization": f"Bearer {stack.audit_token}"}
    stream = f"{stack.audit_url}/pipelines/{annotated.pipeline_urn}/live"
    told = httpx.get(stream, headers=bearer).text
    assert told.count("event: ") == 1
    assert told.startswith("event: ended\ndata: ")
    assert httpx.get(stream).status_code == 401
    unknown = f"{stack.audit_url}/pipelines/urn:mavedb:pipeline-0/live"
    assert httpx.get(unknown, headers=bearer).status_code == 404


def test_the_links_to_prefect_lead_to_the_runs(
    visit: Open, stack: Stack, mavedb: MaveDB, annotated: Submitted
) -> None:
    visitor = visit(stack.audit_url)
    page = visitor.sign_in(stack.audit_token, f"/pipelines/{annotated.pipeline_urn}")
    flow_run = page.get_by_role("link", name="Flow run in Prefect").get_attribute("href")
    assert flow_run == f"{stack.prefect_ui_url}/runs/flow-run/{mavedb.flow_run(annotated)['id']}"
    page.get_by_role("link", name="map_variants_for_score_set").click()
    task_run = page.get_by_role("link", name="Task run in Prefect").get_attribute("href")
    expected = {
        f"{stack.prefect_ui_url}/runs/task-run/{run['id']}" for run in mavedb.task_runs(annotated)
    }
    assert task_run in expected
