"""What the service and the steps log: one stable event a line, with keys and values, no secrets.

Modules log through `logger_of`, under the names of EVENTS. It goes through Python's own logging:
`serve` formats all lines as `configure` says, a flow's process as Prefect is set up to.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.types import EventDict, Processor, WrappedLogger

from mavedb_audit.texts import passwords_in_urls, without_passwords

if TYPE_CHECKING:  # so that clients of services can log, which know no settings
    from mavedb_audit.settings import Settings

#: Every event that we log, and what it says.
EVENTS: Mapping[str, str] = {
    "service.started": "`serve` runs; its settings were read and the tables are there",
    "service.stopped": "`serve` was told to stop, and all its loops have ended",
    "service.loop_died": "a loop ended by an error that nobody expected; the whole service ends",
    "pipeline.dispatched": "a request became a flow run in Prefect",
    "pipeline.put_off": "Prefect did not take a request; it is tried again, later each time",
    "pipeline.recovered": "a pipeline whose flow run had died was tried again or closed",
    "pipeline.sent_again": "Prefect does not know a flow run; its pipeline is sent again or closed",
    "pipeline.not_recovered": "Prefect did not answer as it should about a dead flow run",
    "pipeline.not_planned": "a flow run has no pipeline, and its parameters allow none",
    "database.interrupted": "the database does not answer; `part` waits for it",
    "database.resumed": "the database answers `part` again",
    "prefect.interrupted": "Prefect does not answer `part`, which tries again",
    "prefect.resumed": "Prefect answers `part` again",
    "prefect.run_not_ended": "Prefect does not know a task run that a dead flow run left open",
    "mirror.closed_late": "Prefect did not close the event stream in time",
    "mirror.event_malformed": "something in the event stream is no event; logged once a kind",
    "mirror.event_ignored": "an event is no state of a run of ours; logged once a kind",
    "mirror.events_dropped": "more events wait than are kept; the reconciler finds the rest",
    "mirror.events_unreadable": "Prefect's stored events cannot be read; the reconciler must",
    "mirror.state_refused": "the database refuses a state; logged once a kind",
    "mirror.state_unknown": "a state has a name that nobody has seen; logged once a name",
    "reconciler.reconciled": "a round recorded states, or could not ask for some",
    "reconciler.history_unread": "Prefect did not give a run's history; it is asked again",
    "reconciler.history_unrecorded": "the database did not take a run's history; asked again",
    "audit.verified": "the audit was compared with Prefect and itself; as an error, it differs",
    "audit.not_verified": "the audit could not be compared with Prefect",
    "alerts.interrupted": "the database does not answer; alerts wait",
    "alerts.sent": "an alert reached its channel",
    "alerts.put_off": "a channel did not take an alert; it is tried again, later each time",
    "alerts.given_up": "a channel refuses an alert for good",
    "http.not_answered": "a request failed by an error of ours, or the database did not answer",
    "http.sign_in_refused": "somebody gave the form to sign in no token of ours",
    "http.operated": "somebody did something to a pipeline over HTTP",
    "attempt.began": "a step began",
    "attempt.ended": "a step ended, with its state",
    "attempt.failure_unrecorded": "a step's failure could not be written down; recovery does it",
    "attempt.lost": "a step failed whose attempt was no longer the current one",
    "prefect.not_shown": "a name, a progress bar or a summary is not in Prefect's UI",
    "progress.not_shown": "a step's progress could not be written down; the step goes on",
    "hook.not_recorded": "a hook could not write down a state; the reconciler does it",
    "lock.wait_interrupted": "the database went away while a step waited for its lock",
    "lock.lost": "a session that held a lock was cut off; the lock is taken again",
    "lock.session_closed": "a session was gone when it let its lock go; another is opened",
    "lock.not_retaken": "the database does not answer yet; the lock is taken later",
    "slot.not_returned": "Prefect did not take back a service's slot; its lease ends by itself",
    "cache.failed": "the cache of ClinGen's answers fails; the registry is asked instead",
    "library.message": "a line of a library's, in `message`",
}

#: Settings with these words in their names are secrets as a whole.
_SECRET_NAME = re.compile(
    r"password|secret|token|session_key|api_key|access_key|webhook|auth_str", re.I
)
#: A shorter secret is also a word: it is only hidden where it stands in a URL, or as a password.
_SHORTEST = 8


def logger_of(name: str) -> BoundLogger:
    """The logger of a module: `logger.info("pipeline.dispatched", flow_run_id=...)`."""
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            _as_record,
        ],
        wrapper_class=BoundLogger,
        context_class=dict,
    )
    return logger


def saying(**values: Any) -> AbstractContextManager[None]:
    """Meanwhile, each line of this context says these things, too, unless they are None."""
    known = {key: str(value) for key, value in values.items() if value is not None}
    return structlog.contextvars.bound_contextvars(**known)


def configure(settings: "Settings", log_format: Literal["json", "console"] | None = None) -> None:
    """Let this process write every line to stderr, as JSON or for people, without secrets.

    By default for people on a terminal, else as JSON: one object a line.
    """
    to_people = (log_format or _suitable_format()) == "console"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(_secrets(settings), to_people=to_people))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Formatter(ProcessorFormatter):
    """Formats our lines and those of libraries alike, and hides what is secret in either."""

    def __init__(self, secrets: Collection[str], *, to_people: bool) -> None:
        renderer: list[Processor] = (
            [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), repr_native_str=True)]
            if to_people
            else [
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
            ]
        )
        super().__init__(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _from_record,
            ],
            processors=[ProcessorFormatter.remove_processors_meta, *renderer],
        )
        # Secrets may stand in JSON, too, where some of their characters are escaped.
        forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def format(self, record: logging.LogRecord) -> str:
        line = without_passwords(super().format(record))
        return self._secrets.sub("***", line) if self._secrets else line


def _as_record(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> dict[str, Any]:
    """Our line for Python's logging: as text for whoever formats it, and in parts for us."""
    exc_info = event_dict.pop("exc_info", None)
    event = event_dict.pop("event")
    values = (f"{key}={_in_text(value)}" for key, value in event_dict.items())
    return {
        "msg": without_passwords(" ".join([event, *values])),
        "extra": {"audit_event": event, "audit_values": dict(event_dict)},
        "exc_info": exc_info,
    }


def _in_text(value: Any) -> str:
    shown = str(value)
    return shown if re.fullmatch(r"[\w.:/#@+-]+", shown) else repr(shown)


def _from_record(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """The parts of a line of ours; the text of any other."""
    record = event_dict["_record"]
    if (event := getattr(record, "audit_event", None)) is not None:
        return {**event_dict, **record.audit_values, "event": event}
    return {**event_dict, "event": "library.message", "message": event_dict["event"]}


def _secrets(settings: "Settings") -> set[str]:
    """What must not be shown: of our own settings, and of Prefect's and others' in the environment.

    A URL's password also as it is written without percent-encoding.
    """
    given = {**os.environ, **{name: str(value) for name, value in settings if value is not None}}
    secrets = {value for name, value in given.items() if _SECRET_NAME.search(name)}
    for value in given.values():
        for password in passwords_in_urls(value):
            secrets |= {password, unquote(password)}
    return {secret for secret in secrets if len(secret) >= _SHORTEST}


def _suitable_format() -> Literal["json", "console"]:
    return "console" if sys.stderr.isatty() else "json"
