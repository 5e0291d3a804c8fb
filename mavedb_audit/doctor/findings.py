"""What the doctor finds, and how a check says so."""

from collections.abc import Callable, Iterable

from mavedb_audit.views import View


class Finding(View):
    """One thing that was looked at.

    `ok` is None where it cannot be seen from here, and `found` says why. `remedy` says what to do;
    there is one exactly where something is wrong.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None


#: Looks at something, within its own time-outs. Raises only what nobody expects.
Check = Callable[[], Iterable[Finding]]


def fine(name: str, found: str) -> Finding:
    return Finding(name=name, ok=True, found=found)


def wrong(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, ok=False, found=found, remedy=remedy)


def unseen(name: str, found: str) -> Finding:
    return Finding(name=name, ok=None, found=found)


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
