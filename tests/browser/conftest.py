"""The page in a real Chromium, where one is at hand. Without it nothing here is collected."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support import MaveDB, Submitted, brca1

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

collect_ignore_glob = [] if CHROMIUM else ["test_*.py"]

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A browser's page on our server, and what it asked elsewhere or complained of meanwhile."""

    url: str
    page: Page
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        self.page.goto(f"{self.url}{path}")
        return self.page

    def sign_in(self, token: str, to: str = "/") -> Page:
        """As a person does, who is sent to the form from the page that they asked for."""
        self.go(to)
        self.page.get_by_label("Token").fill(token)
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Sign in").click()
        return self.page

    def listen(self) -> None:
        self.page.on("request", lambda request: self._note_request(request.url))
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note_request(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            self.foreign.append(url)

    def _note_message(self, message: ConsoleMessage) -> None:
        # That a page itself was answered as not found, say, is a message, too.
        is_of_the_page = message.location.get("url") == self.page.url
        if message.type in ("error", "warning") and not is_of_the_page:
            self.errors.append(message.text)


Open = Callable[..., Visit]


# For a module, not for the session: Playwright's loop would be in the way of other modules' own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """Opens a browser of one's own on a server: nothing may come from elsewhere, or go wrong."""
    visits: list[Visit] = []

    def open_on(url: str, **options: Any) -> Visit:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(15_000)
        visits.append(Visit(url, context.new_page()))
        visits[-1].listen()
        return visits[-1]

    yield open_on
    for one in visits:
        one.page.context.close()
        assert one.foreign == []
        assert one.errors == []


@pytest.fixture(scope="session")
def annotated(mavedb: MaveDB) -> Submitted:
    """A score set whose main job has ended: some variants failed, some were skipped."""
    submitted = mavedb.submit(*brca1(300, seed=5))
    assert mavedb.wait_for(submitted) == "succeeded"
    return submitted
