"""docs/pages/*.png, of a deployment of its own. Run as a program, with a Chromium at hand."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import text

from deployments.local import demo, stack
from mavedb_audit.database import connect
from mavedb_audit.states import TERMINAL_PIPELINE_STATUSES
from mavedb_audit.trigger import request_pipeline

PICTURES = Path(__file__).parent / "pages"
_WIDE = {"width": 1280, "height": 800}
_NARROW = {"width": 360, "height": 740}
_PATIENCE_SECONDS = 120
_MAPPING_IS_AT_WORK = """
    SELECT progress_message LIKE 'Waiting for%' AND job_runs.status = 'running'
      FROM job_runs JOIN pipelines ON pipelines.id = pipeline_id
     WHERE job_function = 'map_variants_for_score_set' AND pipelines.urn = :urn
"""


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("There is no Chromium here: install one, such as Debian's package chromium")
    PICTURES.mkdir(exist_ok=True)
    state = Path(tempfile.mkdtemp(prefix="mavedb-audit-pictures-"))
    try:
        demo.run(state, None, None, None, True)
        shown = json.loads((state / "demo.json").read_text())
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--headless=new", "--no-sandbox", "--disable-gpu"]
            )
            wide, dark = (
                _signed_in(browser.new_page(viewport=_WIDE, color_scheme=scheme), shown)
                for scheme in ("light", "dark")
            )
            narrow = _signed_in(browser.new_page(viewport=_NARROW, color_scheme="light"), shown)
            narrow_dark = _signed_in(browser.new_page(viewport=_NARROW, color_scheme="dark"), shown)
            _picture_score_set(shown, wide, dark, narrow, narrow_dark)
            _picture_running(shown, wide, narrow_dark)
            _picture_failed(shown, wide, dark)
            browser.close()
    finally:
        stack.stop(state)
        shutil.rmtree(state)


def _picture_score_set(
    shown: dict[str, Any], wide: Page, dark: Page, narrow: Page, narrow_dark: Page
) -> None:
    with connect() as connection:
        # Its publication has renamed it.
        score_set_urn = connection.execute(text("SELECT urn FROM scoresets")).scalar_one()
    score_set = f"/score-sets/{quote(score_set_urn)}"
    _picture(wide, shown, score_set, "score-set", 1090)
    _picture(dark, shown, score_set, "score-set-dark", 600)
    _picture(narrow, shown, score_set, "score-set-narrow")
    refused = "annotation_type=clingen_allele_id&status=failed&reason=rejected_by_clingen"
    _picture(wide, shown, f"{score_set}/variants?{refused}", "variants", 560)
    with connect() as connection:
        urn = connection.execute(
            text(
                """
                SELECT variants.urn FROM variant_annotation_status AS status
                  JOIN variants ON variants.id = variant_id
                 WHERE current AND status = 'failed' AND annotation_type = 'clingen_allele_id'
                 ORDER BY variants.id LIMIT 1
                """
            )
        ).scalar_one()
    _picture(wide, shown, f"/variants/{quote(urn)}", "variant")
    _picture(narrow_dark, shown, f"/variants/{quote(urn)}", "variant-narrow-dark")
    _picture(wide, shown, f"/pipelines/{shown['pipeline_urn']}", "pipeline")


def _picture_running(shown: dict[str, Any], wide: Page, narrow_dark: Page) -> None:
    """A pipeline whose mapper takes its time."""
    with _fault("DCD_MAPPING_URL", {"kind": "slow", "seconds": 10}):
        urn = _request("map_annotate_score_set")
        _wait_for(_MAPPING_IS_AT_WORK, urn)
        _picture(wide, shown, f"/pipelines/{urn}", "pipeline-running")
        _picture(narrow_dark, shown, f"/pipelines/{urn}", "pipeline-running-narrow-dark")
        _wait_for_end(urn)


def _picture_failed(shown: dict[str, Any], wide: Page, dark: Page) -> None:
    """A pipeline whose registration at ClinGen fails for good."""
    with _fault("CAR_SUBMISSION_ENDPOINT", {"kind": "status", "status": 503}):
        urn = _request("annotate_score_set")
        _wait_for_end(urn)
    _picture(dark, shown, f"/pipelines/{urn}", "pipeline-failed-dark")
    _picture(wide, shown, "/", "pipelines")
    _picture(wide, shown, "/failures", "failures")
    _picture(dark, shown, "/system", "system-dark")


def _signed_in(page: Page, shown: dict[str, Any]) -> Page:
    page.goto(f"{shown['audit_url']}/sign-in")
    page.get_by_label("Token").fill(shown["audit_token"])
    with page.expect_navigation():
        page.get_by_role("button", name="Sign in").click()
    return page


def _picture(page: Page, shown: dict[str, Any], path: str, name: str, height: int = 0) -> None:
    """What a browser shows of it, or so much from its top."""
    page.goto(f"{shown['audit_url']}{path}")
    size = page.viewport_size
    assert size is not None
    part = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True, clip=part)


def _request(pipeline: str) -> str:
    with connect() as connection, connection.begin():
        score_set_id, user_id = connection.execute(
            text("SELECT id, created_by_id FROM scoresets")
        ).one()
        planned = request_pipeline(
            connection,
            pipeline,
            {"score_set_id": score_set_id, "updater_id": user_id},
            user_id,
            None,
        )
    return planned.pipeline_urn


@contextmanager
def _fault(variable: str, fault: dict[str, Any]) -> Iterator[None]:
    """The simulator at the address in the variable misbehaves meanwhile."""
    faults = f"{os.environ[variable]}/simulator/faults"
    httpx.post(faults, json=fault).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(faults).raise_for_status()


def _wait_for_end(urn: str) -> None:
    ended = ", ".join(f"'{status}'" for status in TERMINAL_PIPELINE_STATUSES)
    _wait_for(f"SELECT status IN ({ended}) FROM pipelines WHERE urn = :urn", urn)


def _wait_for(condition: str, urn: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with connect() as connection:
            if connection.execute(text(condition), {"urn": urn}).scalar():
                return
        if time.monotonic() > deadline:
            sys.exit(f"{urn} is not where its picture would be taken: {condition}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
