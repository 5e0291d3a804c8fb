"""The local deployment starts whole or says what is wrong, and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from deployments.local import processes
from deployments.local.stack import Stack

LOCAL = (sys.executable, "-m", "deployments.local")


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder of the test's own, in which nothing runs afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mavedb-audit-tests-"))
    yield folder
    processes.stop(folder)
    shutil.rmtree(folder)


def local(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOCAL, *arguments], capture_output=True, text=True, timeout=120)


def pids_by_part(state: Path) -> dict[str, int]:
    file = state / "pids.json"
    parts = json.loads(file.read_text())["parts"] if file.exists() else []
    return {part["name"]: part["pid"] for part in parts}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain for 60 seconds"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """A dead process that nobody has buried yet is dead."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_every_part_of_the_stack_answers(stack: Stack) -> None:
    assert httpx.get(stack.prefect_ui_url).status_code == 200
    deployments = httpx.post(f"{stack.prefect_api_url}/deployments/filter", json={}).json()
    assert {d["entrypoint"].partition(":")[2] for d in deployments} >= {
        "validate_map_annotate_score_set",
        "map_annotate_score_set",
        "annotate_score_set",
        "publish_score_set",
    }
    assert {d["name"] for d in deployments} == {"mavedb"}
    for simulator in (stack.mapper_url, stack.clingen_url):
        assert httpx.get(f"{simulator}/simulator/requests").status_code == 200
    with psycopg.connect(stack.database_url) as connection:
        tables = connection.execute(
            "SELECT to_regclass('scoresets'), to_regclass('job_runs')"
        ).fetchone()
    assert tables == ("scoresets", "job_runs")


def test_a_shell_reads_the_environment_and_strangers_do_not(stack: Stack) -> None:
    file = stack.state / "env"
    shown = subprocess.run(
        ["/bin/sh", "-c", 'set -a; . "$0"; set +a; env -0', file],
        env={},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    read = dict(line.split("=", 1) for line in shown.split("\0") if line)
    assert {name: read.get(name) for name in stack.env} == stack.env
    assert file.stat().st_mode & 0o077 == 0
    without_password = stack.database_url.replace(stack.env["PGPASSWORD"], "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(without_password)


def test_a_second_start_says_that_it_runs_already_and_harms_nothing(stack: Stack) -> None:
    before = pids_by_part(stack.state)
    second = local("start", "--state", stack.state)
    assert second.returncode == 1
    assert f"The stack in {stack.state} is running already" in second.stderr
    assert "Traceback" not in second.stderr
    assert pids_by_part(stack.state) == before
    assert all(is_alive(pid) for pid in before.values())


def test_a_killed_start_is_cleaned_up_and_the_next_one_works(state: Path, stack: Stack) -> None:
    """Beside the session's stack: two state folders do not meet."""
    supervisor = subprocess.Popen([*LOCAL, "start", "--state", state])
    wait_for(lambda: "prefect" in pids_by_part(state))
    supervisor.kill()
    supervisor.wait()
    left_behind = pids_by_part(state)
    assert all(is_alive(pid) for pid in left_behind.values())
    os.kill(left_behind["postgres"], signal.SIGKILL)

    started = local("start", "--state", state)
    assert started.returncode == 0, started.stderr
    running = pids_by_part(state)
    assert not set(left_behind.values()) & set(running.values())
    assert not any(is_alive(pid) for pid in left_behind.values())
    assert set(running) == {"postgres", "valkey", "prefect", "simulators", "audit", "worker"}
    of_the_other = pids_by_part(stack.state)
    assert set(running) == set(of_the_other)

    stopped = local("stop", "--state", state)
    assert stopped.returncode == 0
    assert not any(is_alive(pid) for pid in running.values())
    assert processes.running_pids(state) == []
    assert all(is_alive(pid) for pid in of_the_other.values())


def test_ctrl_c_while_it_starts_stops_everything(state: Path) -> None:
    supervisor = subprocess.Popen([*LOCAL, "start", "--state", state], stderr=subprocess.DEVNULL)
    wait_for(lambda: "prefect" in pids_by_part(state))
    started = pids_by_part(state)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(timeout=60) == 128 + signal.SIGINT
    assert not any(is_alive(pid) for pid in started.values())
    assert processes.running_pids(state) == []


def test_a_part_that_fails_is_named_with_its_log_and_the_others_are_stopped(state: Path) -> None:
    (state / "postgres").mkdir(mode=0o700)
    (state / "postgres" / "PG_VERSION").write_text("12\n")
    failed = local("start", "--state", state)
    assert failed.returncode == 1
    assert "postgres ended with exit code" in failed.stderr
    assert str(state / "logs" / "postgres.log") in failed.stderr
    assert "postgresql.conf" in failed.stderr  # which the log names as missing
    assert "Traceback" not in failed.stderr
    assert processes.running_pids(state) == []


def test_stop_leaves_a_process_alone_that_was_given_a_remembered_pid(state: Path) -> None:
    processes.prepare_folder(state)
    processes.claim(state)
    part = processes.start(state, "part", ["sleep", "300"], {})
    memory = json.loads((state / "pids.json").read_text())
    with subprocess.Popen(["sleep", "300"]) as stranger:
        memory["parts"][0]["pid"] = stranger.pid
        memory["parts"][0]["started"] -= 60
        (state / "pids.json").write_text(json.dumps(memory))
        processes.stop(state)
        assert stranger.poll() is None
        stranger.kill()
    assert not is_alive(part.process.pid)  # found all the same, by its mark


def test_stop_finds_what_a_killed_part_had_started(state: Path) -> None:
    processes.prepare_folder(state)
    processes.claim(state)
    script = "setsid sleep 300 & echo $! > child; wait"
    part = processes.start(state, "part", ["/bin/sh", "-c", script], {})
    wait_for(lambda: (state / "child").exists() and (state / "child").read_text() != "")
    child = int((state / "child").read_text())
    os.kill(part.process.pid, signal.SIGKILL)
    part.process.wait()
    assert is_alive(child)
    processes.stop(state)
    wait_for(lambda: not is_alive(child))
