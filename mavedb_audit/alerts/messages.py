"""What an alert says, to a program and to people in Slack: no I/O."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import quote

from mavedb_audit.failures import RETRYABLE, FailureCategory
from mavedb_audit.views import View

_SLACK_HEADER = 150
_SLACK_SECTION = 3000
_MESSAGE_IN_SLACK = 500
_STEPS_IN_SLACK = 5


class Kind(StrEnum):
    """What happened. The latter of each pair tells that a lasting condition is over."""

    PIPELINE_FAILED = "pipeline_failed"
    CIRCUIT_OPEN = "circuit_open"
    CIRCUIT_CLOSED = "circuit_closed"
    MIRROR_LAG = "mirror_lag"
    MIRROR_CAUGHT_UP = "mirror_caught_up"
    AUDIT_DIFFERS = "audit_differs"
    AUDIT_AGREES = "audit_agrees"


#: When an alert of each kind is sent.
WHEN: Mapping[Kind, str] = {
    Kind.PIPELINE_FAILED: "a pipeline ended failed, or partial because a step failed, and nothing"
    " tries it again by itself; anew when it is run again and fails again",
    Kind.CIRCUIT_OPEN: "none of the last attempts that asked a service got an answer that is one",
    Kind.CIRCUIT_CLOSED: "an attempt did again",
    Kind.MIRROR_LAG: "a state was recorded later than `ALERT_MIRROR_LAG_SECONDS` after it arose",
    Kind.MIRROR_CAUGHT_UP: "the lag is below half of that",
    Kind.AUDIT_DIFFERS: "`serve` verified the audit (every `VERIFY_INTERVAL_SECONDS`) and found a"
    " difference that the reconciler did not mend",
    Kind.AUDIT_AGREES: "the next verification found none",
}


class FailedStep(View):
    """A job that failed, as its last attempt ended."""

    job_urn: str
    job_key: str
    attempts: int
    failure_category: str | None
    error_message: str | None


class FailedPipeline(View):
    """`status` is failed, or partial where only steps failed that no other one needs."""

    urn: str
    name: str
    status: str
    score_set_urn: str | None
    correlation_id: str | None
    failed_steps: list[FailedStep]


class Alert(View):
    """The body of a webhook's request, in version 1 of its schema.

    `subject` is a pipeline's URN, a service's name or "audit". `hint` says what to do, and `url` is
    a page of ours, where AUDIT_PAGE_URL is set.
    """

    version: Literal[1] = 1
    key: str
    kind: Kind
    subject: str
    happened_at: datetime
    title: str
    text: str
    hint: str
    url: str | None = None
    pipeline: FailedPipeline | None = None


def of_pipeline(key: str, ended_at: datetime, failed: FailedPipeline, page: str | None) -> Alert:
    """The alert of a pipeline that ended so, and is not tried again by itself."""
    about = f" of {failed.score_set_urn}" if failed.score_set_urn else ""
    first = failed.failed_steps[0] if failed.failed_steps else None
    category = f", {first.failure_category}" if first and first.failure_category else ""
    text = (
        f"{first.job_key} failed after {_times(first.attempts)}{category}: {first.error_message}"
        if first
        else "It ended before any of its steps began."
    )
    return Alert(
        key=key,
        kind=Kind.PIPELINE_FAILED,
        subject=failed.urn,
        happened_at=ended_at,
        title=f"{failed.name}{about} ended {failed.status}",
        text=text,
        hint=_what_to_do(failed, first),
        url=f"{page}/pipelines/{quote(failed.urn, safe=':')}" if page else None,
        pipeline=failed,
    )


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _what_to_do(failed: FailedPipeline, first: FailedStep | None) -> str:
    again = f"`mavedb-audit retry {failed.urn}` runs the failed steps again"
    match first.failure_category if first else None:
        case FailureCategory.VALIDATION_ERROR | FailureCategory.DATA_ERROR:
            return (
                "The uploaded file, or what a service made of it, must be mended: see the message"
            )
        case FailureCategory.CONFIGURATION_ERROR:
            return f"Mend the setting that the message names; then {again}"
        case category if category in RETRYABLE:
            return f"Once the service answers again, {again}"
        case _:
            return f"`mavedb-audit history {failed.urn}` tells what happened; {again}"


def slack_message(alert: Alert) -> Mapping[str, Any]:
    """The body for Slack's incoming webhooks: a text for notifications, and blocks."""
    sections = [_quoted(alert.text)]
    if alert.pipeline:
        others = alert.pipeline.failed_steps[1:]
        sections += [
            f"*{_plain(step.job_key)}* {_plain(step.failure_category or '')}\n"
            + _quoted(step.error_message or "")
            for step in others[: _STEPS_IN_SLACK - 1]
        ]
        if len(others) >= _STEPS_IN_SLACK:
            sections.append(f"… and {len(others) - _STEPS_IN_SLACK + 1} more steps")
    sections.append(_plain(alert.hint))
    if alert.url:
        sections.append(f"<{_plain(alert.url)}|Open the page>")
    context = [_plain(alert.subject), f"{alert.happened_at:%Y-%m-%d %H:%M:%S} UTC"]
    if alert.pipeline and alert.pipeline.correlation_id:
        context.append(f"correlation id {_plain(alert.pipeline.correlation_id)}")
    return {
        "text": _plain(alert.title),
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": alert.title[:_SLACK_HEADER]},
            },
            *(_section(text) for text in sections),
            {"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(context)}]},
        ],
    }


def _section(text: str) -> Mapping[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_SLACK_SECTION]}}


def _quoted(text: str) -> str:
    shown = text if len(text) <= _MESSAGE_IN_SLACK else f"{text[:_MESSAGE_IN_SLACK]}…"
    return "\n".join(f"> {line}" for line in _plain(shown).splitlines())


def _plain(text: str) -> str:
    """Text that Slack shows as it is: no link, and nobody is called."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signed_headers(
    key: str, sent_at: datetime, body: bytes, secret: bytes | None
) -> dict[str, str]:
    """The headers of a webhook's request, as the Standard Webhooks specification has them.

    The signature is over "key.seconds.body". https://www.standardwebhooks.com
    """
    seconds = str(int(sent_at.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": key,
        "webhook-id": key,
        "webhook-timestamp": seconds,
    }
    if secret is not None:
        signed = b".".join((key.encode(), seconds.encode(), body))
        digest = hmac.new(secret, signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
