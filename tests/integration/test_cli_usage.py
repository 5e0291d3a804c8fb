"""What holds for every command: how it is called, what it prints where, how it ends."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from mavedb_audit.cli import EXAMPLES, app
from tests.support_cli import play
from tests.support_command import COMMAND, run_command

NOWHERE = "postgresql://postgres@127.0.0.1:9/mavedb"
URN = "urn:mavedb:pipeline-1"
_HEAVY = ("prefect", "polars", "sqlalchemy", "httpx", "pydantic", "fastapi", "alembic")
_REPORT_HEAVY = (
    "import json, sys, mavedb_audit.cli as cli\n"
    "try: {call}\n"
    "except SystemExit: pass\n"
    f"print(json.dumps([name for name in {_HEAVY!r} if name in sys.modules]))"
)


def heavy_after(call: str, **env: str) -> list[str]:
    """The heavy packages that are loaded after the call, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _REPORT_HEAVY.format(call=call)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": os.environ["PATH"], **env},
    )
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_the_command_line_loads_nothing_heavy_before_it_needs_it() -> None:
    assert heavy_after("pass") == []
    assert heavy_after("cli.app(['--help'])") == []
    assert heavy_after("cli.app(['why', '--help'])") == []
    assert heavy_after("cli.app(['--version'])") == []


def test_looking_loads_no_prefect(domain_database: str) -> None:
    loaded = heavy_after("cli.app(['status'])", DATABASE_URL=domain_database)
    assert "sqlalchemy" in loaded
    assert not {"prefect", "polars", "fastapi", "alembic", "httpx"} & set(loaded)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_help_begins_with_examples_that_the_command_would_take(name: str) -> None:
    done = run_command(*name.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Examples:\n  ")
    registered = app
    for part in name.split():
        registered = registered[part]
    for example in EXAMPLES[name]:
        command = example.partition("#  ")[0].partition(" |")[0].partition("    #")[0]
        _, _, arguments = command.partition("mavedb-audit ")
        # Binds them, and raises where one is unknown or missing.
        parsed, _, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        assert parsed is registered.default_command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["wy"], 'Unknown command "wy". Did you mean "why"?'),
        (["status", "--limt", "3"], "--limt"),
        (["why"], "VARIANT_URN requires an argument"),
        (["verify", "--since", "yesterday"], 'unable to convert "yesterday" into datetime'),
        (["status", "--limit", "many"], 'unable to convert "many" into int'),
        (["failures", "--by", "moon"], 'Invalid value "moon" for --by'),
        (["status", "--output", "yaml"], 'Invalid value "yaml" for --output'),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(arguments: list[str], says: str) -> None:
    done = run_command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mavedb-audit: ")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", URN],
        ["why", "tmp:1#1"],
        ["failures"],
        ["history", URN],
        ["watch", URN],
        ["prune"],
        ["diff", "tmp:1", "--from", "a", "--to", "b"],
    ],
)
def test_a_database_out_of_reach_is_exit_code_3(arguments: list[str]) -> None:
    done = run_command(*arguments, DATABASE_URL=NOWHERE)
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Check DATABASE_URL" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["verify"], ["reconcile"], ["cancel", URN], ["limits", "apply"]]
)
def test_a_prefect_out_of_reach_is_exit_code_3(
    domain_database: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    played = play(domain_database, monkeypatch)
    asked = [played.urn if argument == URN else argument for argument in arguments]
    env = {
        "DATABASE_URL": domain_database,
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_CLIENT_MAX_RETRIES": "0",
    }
    done = run_command(*asked, **env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Prefect" in done.stderr
    assert "Traceback" not in done.stderr
    played.pipeline.engine.dispose()


def test_an_older_database_is_told_what_it_lacks(empty_database: str) -> None:
    done = run_command("status", DATABASE_URL=empty_database)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"The table \w+ is missing", done.stderr)


def test_who_reads_no_further_gets_no_traceback(
    domain_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = play(domain_database, monkeypatch)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [COMMAND, "history", played.urn],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": domain_database},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
    played.pipeline.engine.dispose()


def on_a_terminal(*arguments: str, **env: str) -> str:
    """What the command prints on a terminal of so many COLUMNS."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **env},
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            some = os.read(main, 65536)
        except OSError:  # the terminal is gone with the process
            break
        shown += some
    os.close(main)
    process.wait(timeout=60)
    return shown.decode().replace("\r\n", "\n")


def test_a_urn_is_in_one_piece_on_a_narrow_terminal(
    domain_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = play(domain_database, monkeypatch)
    shown = on_a_terminal("status", DATABASE_URL=domain_database, COLUMNS="40")
    assert played.urn in shown
    assert played.score_set_urn in shown
    played.pipeline.engine.dispose()


def test_colours_are_for_terminals_that_want_them(
    domain_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = play(domain_database, monkeypatch)
    played.end()
    env = {"DATABASE_URL": domain_database, "COLUMNS": "120"}
    red = "\x1b[31mfailed"
    assert red in on_a_terminal("status", **env)
    assert red not in on_a_terminal("status", NO_COLOR="1", **env)
    assert "\x1b" not in run_command("status", **env).stdout
    played.pipeline.engine.dispose()


def test_completion_can_be_installed(tmp_path: os.PathLike[str]) -> None:
    done = run_command("--install-completion", "--shell", "bash", HOME=str(tmp_path))
    assert done.returncode == 0
    script = tmp_path / ".local/share/bash-completion/completions/mavedb-audit"
    assert "rerun-failed" in script.read_text()
