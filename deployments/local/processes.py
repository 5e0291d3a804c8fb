"""The child processes of a local deployment: started, waited for, remembered, and ended.

STATE/pids.json remembers each process by its pid and start time, so that what a killed
supervisor left behind can be ended later, and a pid that the system gave to somebody else is
never touched. Each child also carries the state folder's name in its environment: that finds
what a killed child had started itself.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mavedb_audit.errors import MaveDBAuditError

_MARK = "MAVEDB_AUDIT_LOCAL_STATE"
#: How long a part may take to begin, or to do the one thing that it is there for.
PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 10.0
_LOG_LINES_SHOWN = 15
#: What a child needs of its caller's environment; settings come from the deployment alone.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")


class PartFailedError(MaveDBAuditError):
    """A part of the local deployment did not come up; the message names it and quotes its log."""


@dataclass(frozen=True)
class Part:
    """A running child process. `log` holds its output from byte `log_start` on."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int


def prepare_folder(state: Path) -> None:
    """Make the state folder, and the folders that every part needs in it.

    Others may pass through where the database server must run as another user.
    """
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for folder in ("logs", "tmp"):
        (state / folder).mkdir(mode=0o700, exist_ok=True)


def claim(state: Path) -> None:
    """Remember this process as the supervisor of an empty set of parts."""
    _remember(state, {"supervisor": _identity(psutil.Process()), "kept": False, "parts": []})


def keep(state: Path) -> None:
    """Let the parts outlive their supervisor."""
    _remember(state, {**_memory(state), "kept": True})


def is_kept(state: Path) -> bool:
    """Whether `keep` was called for the parts of this state folder."""
    return bool(_memory(state).get("kept"))


def is_running(state: Path) -> bool:
    """Whether parts still run that somebody looks after: their supervisor, or whoever kept them.

    What a killed supervisor left behind does not count.
    """
    memory = _memory(state)
    if not memory:
        return False
    if not memory["kept"]:
        return _alive(memory["supervisor"]) is not None
    return any(_alive(part) is not None for part in memory["parts"])


def start(
    state: Path,
    name: str,
    command: Sequence[str | Path],
    env: Mapping[str, str],
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    group: int | None = None,
    folder: Path | None = None,
) -> Part:
    """Start a part in a session of its own, so that a terminal's Ctrl-C reaches us alone."""
    log = state / "logs" / f"{name}.log"
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(state, env),
            cwd=folder or state,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=[] if user else None,
        )
    memory = _memory(state)
    how = {
        "command": [str(word) for word in command],
        "env": dict(env),
        "stop_signal": stop_signal,
        "user": user,
        "group": group,
        "folder": str(folder) if folder else None,
    }
    identity = _identity(psutil.Process(process.pid))
    memory["parts"].append({"name": name, "how": how, "log_start": log_start, **identity})
    _remember(state, memory)
    return Part(name, process, log, log_start)


def restart(state: Path, name: str) -> Part:
    """Start a part again as it was started before; one that still runs is ended first."""
    memory = _memory(state)
    remembered = next(part for part in memory["parts"] if part["name"] == name)
    process = _alive(remembered)
    if process is not None:
        _end(process, remembered["how"]["stop_signal"])
    wait_for_burial(remembered["pid"])
    memory["parts"].remove(remembered)
    _remember(state, memory)
    how = remembered["how"]
    return start(
        state,
        name,
        how["command"],
        how["env"],
        stop_signal=signal.Signals(how["stop_signal"]),
        user=how["user"],
        group=how["group"],
        folder=Path(how["folder"]) if how["folder"] else None,
    )


def pid_of(state: Path, name: str) -> int | None:
    """The pid of a part, None when it has ended."""
    for remembered in _memory(state).get("parts", []):
        if remembered["name"] == name:
            process = _alive(remembered)
            return process.pid if process is not None else None
    return None


def environment(state: Path, env: Mapping[str, str]) -> dict[str, str]:
    """A child's whole environment: `env`, and of the caller's only what is no setting."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **passed_on,
        "PYTHONUNBUFFERED": "1",
        # Prefect keeps its workers' files there: two users' must not meet in one /tmp.
        "TMPDIR": str(state / "tmp"),
        **env,
        _MARK: str(state),
    }


def wait_until(
    part: Part, is_ready: Callable[[], bool], *, within_seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait for a part's health probe. Raises PartFailedError when it ends or is too late."""
    deadline = time.monotonic() + within_seconds
    while not is_ready():
        if part.process.poll() is not None:
            raise PartFailedError(
                f"{part.name} ended with exit code {part.process.returncode} while it was "
                f"starting. {_quote(part)}"
            )
        if time.monotonic() > deadline:
            raise PartFailedError(
                f"{part.name} did not answer within {within_seconds:.0f} seconds. {_quote(part)}"
            )
        time.sleep(_POLL_SECONDS)


def wait_for_burial(pid: int) -> None:
    """Wait until the system has forgotten a process that has ended."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + _GRACE_SECONDS
    while not _runs(process) and psutil.pid_exists(pid) and time.monotonic() < deadline:
        with suppress(ChildProcessError):  # not a child of ours: its own parent buries it
            os.waitpid(pid, os.WNOHANG)
        time.sleep(_POLL_SECONDS)


def wait_for_success(state: Path, part: Part, *, within_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a part that does one thing and ends. Raises PartFailedError when it fails."""
    try:
        code = part.process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        raise PartFailedError(
            f"{part.name} was not done within {within_seconds:.0f} seconds. {_quote(part)}"
        ) from None
    if code != 0:
        raise PartFailedError(f"{part.name} failed with exit code {code}. {_quote(part)}")
    memory = _memory(state)
    memory["parts"] = [p for p in memory["parts"] if p["pid"] != part.process.pid]
    _remember(state, memory)


def check_all_alive(state: Path) -> None:
    """Raises PartFailedError when a part that should go on has ended."""
    for remembered in _memory(state)["parts"]:
        if _alive(remembered) is None:
            name = remembered["name"]
            log = state / "logs" / f"{name}.log"
            raise PartFailedError(f"{name} has ended. {_last_lines(log, remembered['log_start'])}")


def stop(state: Path) -> list[str]:
    """End every process of this state folder, the last started first. Gives their names."""
    memory = _memory(state)
    ended = []
    for remembered in reversed(memory.get("parts", [])):
        process = _alive(remembered)
        if process is not None:
            _end(process, remembered["how"]["stop_signal"])
            ended.append(str(remembered["name"]))
    for process in _marked(state):
        _end(process, signal.SIGTERM)
    (state / "pids.json").unlink(missing_ok=True)
    return ended


def running_pids(state: Path) -> list[int]:
    """The pids of all processes of this state folder that can be told by pid or by mark."""
    remembered = (_alive(part) for part in _memory(state).get("parts", []))
    return sorted({p.pid for p in [*remembered, *_marked(state)] if p is not None})


def _end(process: psutil.Process, stop_signal: int) -> None:
    """Ask a process to end, and end it and what it started by force when it does not."""
    try:
        descendants = process.children(recursive=True)
        process.send_signal(stop_signal)
    except psutil.NoSuchProcess:
        return
    stubborn = _wait_for_end([process], _GRACE_SECONDS)
    # What a part had started ends with it, or a moment later.
    stubborn += _wait_for_end(descendants, 0 if stubborn else 1)
    for survivor in stubborn:
        try:
            survivor.kill()
        except psutil.NoSuchProcess:
            continue
    _wait_for_end(stubborn, _GRACE_SECONDS)


def _wait_for_end(waited_for: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after that time. One that only waits to be buried has ended."""
    deadline = time.monotonic() + seconds
    while (running := [p for p in waited_for if _runs(p)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _marked(state: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get(_MARK) == str(state)
            if is_ours and _runs(process) and process.pid != os.getpid():
                yield process
        except psutil.Error:
            continue  # it ended meanwhile, or it is somebody else's


def _identity(process: psutil.Process) -> dict[str, Any]:
    return {"pid": process.pid, "started": process.create_time()}


def _alive(identity: Mapping[str, Any]) -> psutil.Process | None:
    try:
        process = psutil.Process(identity["pid"])
        same = abs(process.create_time() - identity["started"]) < 1
    except psutil.NoSuchProcess:
        return None
    return process if same and _runs(process) else None


def _memory(state: Path) -> dict[str, Any]:
    try:
        memory: dict[str, Any] = json.loads((state / "pids.json").read_text())
    except FileNotFoundError:
        return {}
    return memory


def _remember(state: Path, memory: Mapping[str, Any]) -> None:
    """Replace pids.json in one step: a kill in between leaves the old one whole."""
    new = state / "pids.json.new"
    new.touch(mode=0o600)  # it holds how parts are started, with their passwords
    new.write_text(json.dumps(memory, indent=1))
    new.replace(state / "pids.json")


def _quote(part: Part) -> str:
    return _last_lines(part.log, part.log_start)


def _last_lines(log: Path, log_start: int) -> str:
    text = log.read_bytes()[log_start:].decode(errors="replace")
    lines = "\n".join(f"    {line}" for line in text.splitlines()[-_LOG_LINES_SHOWN:])
    return f"The last lines of {log}:\n{lines}"
