"""The commands of the README, the quickstart and the how-tos do what these say they do.

A block is what stands in ```sh, ```console or, indented, in no fence at all. Right before it an
HTML comment may say why it is not run here:

    <!-- not run: it needs Docker -->
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from markdown_it import MarkdownIt

from deployments.local.stack import PROJECT
from tests.support import TERMINAL, MaveDB, Submitted, brca1, raise_limits, wait_until

PAGES = [
    PROJECT / "README.md",
    PROJECT / "docs" / "quickstart.md",
    *sorted((PROJECT / "docs" / "how-to").glob("*.md")),
]
#: The score set that pages speak of.
URN = "urn:mavedb:00000001-a-1"
#: What is set up on several hosts is run in another form, by tests/topology.
FOR_OTHER_HOSTS = {"deploy.md"}
_MARK = re.compile(r"<!-- not run: (\S.*?) -->\s*", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands that begin on a line of a page, or, in a console, after "$ ".

    `shown` is what the page says that a console prints, with … for anything. `not_run` is why the
    block cannot be run here.
    """

    page: Path
    line: int
    commands: str
    shown: tuple[str, ...]
    not_run: str | None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    mark: re.Match[str] | None = None
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block" and token.content.startswith("<!-- not run"):
            mark = _MARK.fullmatch(token.content)
            assert mark, f"{page}: {token.content}"
            continue
        language = token.info.split(" ")[0]
        is_fence = token.type == "fence" and language in ("sh", "console")
        if is_fence or token.type == "code_block":
            assert token.map is not None
            line, not_run = token.map[0] + 1, mark and mark[1]
            yield Block(page, line, *_commands(token.content, language), not_run)
        else:
            assert mark is None, f"{page}: nothing to run comes right after {mark and mark[0]}"
        mark = None


def _commands(content: str, language: str) -> tuple[str, tuple[str, ...]]:
    if language != "console":
        return content, ()
    lines = content.splitlines()
    shown = tuple(line for line in lines if line.strip() and not line.startswith("$ "))
    return "".join(f"{line[2:]}\n" for line in lines if line.startswith("$ ")), shown


BLOCKS = {page: list(blocks_of(page)) for page in PAGES}


@pytest.mark.parametrize("page", [page.name for page in PAGES if BLOCKS[page]])
def test_what_is_not_run_says_why(page: str) -> None:
    blocks = next(blocks for path, blocks in BLOCKS.items() if path.name == page)
    for block in blocks:
        if block.not_run is not None:
            assert len(block.not_run.split()) >= 3, block.name


@pytest.mark.parametrize("page", [page.name for page in PAGES if BLOCKS[page]])
def test_whatever_is_run_or_not_is_well_formed(page: str) -> None:
    for block in next(blocks for path, blocks in BLOCKS.items() if path.name == page):
        checked = subprocess.run(
            ["bash", "-n", "-c", block.commands], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{block.name}: {checked.stderr}"


def test_little_is_not_run() -> None:
    blocks = [
        block
        for page, blocks in BLOCKS.items()
        if page.name not in FOR_OTHER_HOSTS
        for block in blocks
    ]
    not_run = [block.name for block in blocks if block.not_run is not None]
    assert len(not_run) < len(blocks) / 2, not_run


@pytest.fixture(scope="module")
def shown(mavedb: MaveDB) -> Iterator[Submitted]:
    """The published score set of the pages: annotated, though ClinGen rejected a variant of it.

    Its newest pipeline has failed.
    """
    with mavedb.fault(mavedb.stack.clingen_url, "rejected", times=1):
        submitted = mavedb.submit(*brca1(30), urn=URN)
        assert mavedb.wait_for(submitted) == "succeeded"
    mavedb.execute(
        "UPDATE scoresets SET published_date = CURRENT_DATE, private = false WHERE urn = :urn",
        urn=URN,
    )
    with mavedb.fault(mavedb.stack.mapper_url, "status", status=422, times=1):
        failed = mavedb.request("map_annotate_score_set", submitted)
        assert mavedb.wait_for(failed) == "failed"
    yield failed
    mavedb.execute("UPDATE scoresets SET urn = :new WHERE urn = :urn", urn=URN, new="tmp:shown")
    mavedb.execute(
        "UPDATE variants SET urn = replace(urn, :urn, 'tmp:shown') WHERE scoreset_id = :id",
        urn=URN,
        id=submitted.score_set_id,
    )


@pytest.mark.parametrize("page", [page.name for page in PAGES if BLOCKS[page]])
def test_a_pages_commands_run_one_after_another(
    mavedb: MaveDB, shown: Submitted, page: str, tmp_path: Path
) -> None:
    blocks = next(blocks for path, blocks in BLOCKS.items() if path.name == page)
    todo = [block for block in blocks if block.not_run is None]
    # A folder as of a clone where `make demo KEEP=1` was run.
    (tmp_path / ".demo").symlink_to(mavedb.stack.state)
    (tmp_path / ".curlrc").write_text("fail\n")  # an HTTP error is one of the command, too
    for name in ("deployments", "prefect.yaml", "alembic", "alembic.ini", "flows", "docs"):
        (tmp_path / name).symlink_to(PROJECT / name)
    try:
        printed = _run(mavedb, shown, todo, tmp_path)
    finally:
        _restore(mavedb)
    for block in todo:
        for line in block.shown:
            wanted = ".*".join(map(re.escape, re.split(r"…|\s+", line.strip())))
            assert re.search(wanted, printed[block.name]), f"{block.name} prints no {line!r}"


def _run(mavedb: MaveDB, shown: Submitted, blocks: list[Block], folder: Path) -> dict[str, str]:
    """What each block prints. All of a page run in one shell, which what they set stays in."""
    script = "".join(
        f"echo '#### {block.name}'\necho '#### {block.name}' >&2\n{block.commands}"
        for block in blocks
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "URN": shown.pipeline_urn,
            **mavedb.stack.env,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    parts = re.split(r"^#### (.+)\n", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _restore(mavedb: MaveDB) -> None:
    """Undo what a page has switched on, and let what it has asked for end."""
    for url in mavedb.stack.simulator_urls.values():
        httpx.delete(f"{url}/simulator/faults").raise_for_status()
    raise_limits(mavedb.stack)
    opened = "SELECT count(*) FROM pipelines WHERE status <> ALL (:terminal)"
    wait_until(lambda: mavedb.value(opened, terminal=list(TERMINAL)) == 0)
