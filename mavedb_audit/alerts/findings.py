"""Finds what is worth an alert, and records it: in sets, and once, whoever else looks."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection, text

from mavedb_audit.alerts.messages import Alert, FailedPipeline, Kind, of_pipeline
from mavedb_audit.queries.system import Service, system
from mavedb_audit.settings import settings

#: What ended longer ago is no news, such as after alerts had been switched off.
_LONGEST_AGO = "24 hours"
#: A pipeline bears the time at which its last transaction began, and is seen when that commits.
_OVERLAP = "1 hour"
_PIPELINES = "pipelines"
_VERIFICATION = "verification"
_AUDIT = "audit"


def find_pipelines(connection: Connection, channels: Collection[str]) -> int:
    """Record an alert for each pipeline that failed for good. Returns their number.

    Its key holds the last attempt and what operators and recovery did: a pipeline that is run again
    and fails anew is news. What ended before the first look is none.
    """
    connection.execute(
        text("INSERT INTO alert_checks (name) VALUES (:name) ON CONFLICT DO NOTHING"),
        {"name": _PIPELINES},
    )
    rows = connection.execute(
        text(
            f"""
            WITH looked AS (
                SELECT greatest(began_at, checked_at - interval '{_OVERLAP}',
                                now() - interval '{_LONGEST_AGO}') AS since
                  FROM alert_checks WHERE name = :name
            ), ended AS (
                SELECT pipeline.*,
                       format('pipeline_failed/%s/%s-%s', pipeline.urn,
                         (SELECT coalesce(max(attempt.id), 0) FROM job_attempts AS attempt
                            JOIN job_runs AS job ON job.id = attempt.job_id
                           WHERE job.pipeline_id = pipeline.id),
                         (SELECT coalesce(max(id), 0) FROM operator_actions AS action
                           WHERE action.pipeline_id = pipeline.id)) AS key
                  FROM pipelines AS pipeline, looked
                 WHERE pipeline.status IN ('failed', 'partial')
                   AND pipeline.finished_at >= looked.since
                   AND pipeline.finished_at <= now() - :delay * interval '1 second'
                   AND EXISTS (SELECT FROM planned_jobs AS planned
                                WHERE planned.pipeline_id = pipeline.id)
            )
            SELECT ended.key, ended.finished_at, ended.urn, ended.name, ended.status,
                   ended.correlation_id, score_set.urn AS score_set_urn,
                   coalesce(failed.steps, '[]') AS failed_steps
              FROM ended
              LEFT JOIN LATERAL (
                SELECT scoresets.urn
                  FROM planned_jobs JOIN scoresets ON scoresets.id = planned_jobs.score_set_id
                 WHERE planned_jobs.pipeline_id = ended.id LIMIT 1
              ) AS score_set ON true
              LEFT JOIN LATERAL (
                SELECT jsonb_agg(jsonb_build_object(
                         'job_urn', job.urn, 'job_key', planned.job_key,
                         'attempts', (SELECT count(*) FROM job_attempts WHERE job_id = job.id),
                         'failure_category', job.failure_category,
                         'error_message', job.error_message) ORDER BY job.finished_at, job.id)
                       AS steps
                  FROM planned_jobs AS planned JOIN job_runs AS job ON job.id = planned.job_id
                 WHERE planned.pipeline_id = ended.id AND job.status IN ('failed', 'errored')
              ) AS failed ON true
             WHERE NOT EXISTS (SELECT FROM alerts WHERE alerts.key = ended.key)
               -- A pipeline is partial, too, where a step is switched off.
               AND (ended.status = 'failed' OR failed.steps IS NOT NULL)
            """
        ),
        {"name": _PIPELINES, "delay": settings().alert_delay_seconds},
    )
    page = settings().audit_page_url
    found = [
        of_pipeline(row.key, row.finished_at, FailedPipeline.model_validate(row), page)
        for row in rows
    ]
    recorded = _record(connection, found, channels)
    connection.execute(
        text("UPDATE alert_checks SET checked_at = now() WHERE name = :name"),
        {"name": _PIPELINES},
    )
    return recorded


def find_conditions(connection: Connection, channels: Collection[str]) -> int:
    """Record what lasts and what is over: open circuits, the mirror's lag, what verify found."""
    now = system(connection)
    circuits = {service.service: service for service in now.services}
    unreachable = [service for service in now.services if service.circuit_open]
    recorded = _follow(
        connection,
        channels,
        begun={service.service: _circuit_open(service) for service in unreachable},
        kind=Kind.CIRCUIT_OPEN,
        # A service that nobody asked for a while is not known to answer again.
        is_over=lambda subject: subject in circuits and not circuits[subject].circuit_open,
        over=_circuit_closed,
    )
    lag, limit = now.mirror_lag_seconds or 0.0, settings().alert_mirror_lag_seconds
    recorded += _follow(
        connection,
        channels,
        begun={_AUDIT: _mirror_lag(lag)} if lag > limit else {},
        kind=Kind.MIRROR_LAG,
        is_over=lambda _: lag < limit / 2,
        over=_mirror_caught_up,
    )
    problems = _problems(connection)
    return recorded + _follow(
        connection,
        channels,
        begun={_AUDIT: _audit_differs(problems)} if problems else {},
        kind=Kind.AUDIT_DIFFERS,
        is_over=lambda _: not problems,
        over=_audit_agrees,
    )


def _follow(
    connection: Connection,
    channels: Collection[str],
    *,
    begun: Mapping[str, Alert],
    kind: Kind,
    is_over: Callable[[str], bool],
    over: Callable[[str], Alert],
) -> int:
    """Record which conditions of a kind have begun and which are over, by their subjects."""
    open_subjects = set(
        connection.execute(
            text("SELECT subject FROM alerts WHERE kind = :kind AND is_open"), {"kind": kind}
        ).scalars()
    )
    news = [alert for subject, alert in begun.items() if subject not in open_subjects]
    ended = connection.execute(
        text(
            """
            UPDATE alerts SET is_open = false
             WHERE kind = :kind AND is_open AND subject = ANY (:subjects) RETURNING subject
            """
        ),
        {"kind": kind, "subjects": [subject for subject in open_subjects if is_over(subject)]},
    ).scalars()
    recorded = _record(connection, news, channels, is_open=True)
    return recorded + _record(connection, [over(subject) for subject in ended], channels)


def _record(
    connection: Connection,
    alerts: Sequence[Alert],
    channels: Collection[str],
    *,
    is_open: bool = False,
) -> int:
    """Insert those that nobody has inserted, each to go to every channel."""
    if not alerts:
        return 0
    alerts = sorted(alerts, key=lambda alert: alert.key)  # so that others lock in the same order
    recorded: int = connection.execute(
        text(
            """
            WITH news AS (
                INSERT INTO alerts (key, kind, subject, payload, is_open)
                SELECT payload ->> 'key', payload ->> 'kind', payload ->> 'subject', payload,
                       :is_open
                  FROM unnest(CAST(:payloads AS jsonb[])) AS payload
                    ON CONFLICT DO NOTHING RETURNING id
            ), queued AS (
                INSERT INTO alert_deliveries (alert_id, channel)
                SELECT news.id, channel
                  FROM news CROSS JOIN unnest(CAST(:channels AS text[])) AS channel
            )
            SELECT count(*) FROM news
            """
        ),
        {
            "payloads": [alert.model_dump_json(by_alias=True) for alert in alerts],
            "channels": sorted(channels),
            "is_open": is_open,
        },
    ).scalar_one()
    return recorded


def claim_verification(connection: Connection, every_seconds: float) -> datetime | None:
    """Since when to verify, if it is time; who gets it is the only one for `every_seconds`."""
    since: datetime | None = connection.execute(
        text(
            """
            WITH claimed AS (
                INSERT INTO alert_checks (name) VALUES (:name)
                ON CONFLICT (name) DO UPDATE SET checked_at = now()
                 WHERE alert_checks.checked_at <= now() - :every * interval '1 second'
                RETURNING checked_at
            )
            SELECT claimed.checked_at - 2 * :every * interval '1 second' FROM claimed
            """
        ),
        {"name": _VERIFICATION, "every": every_seconds},
    ).scalar_one_or_none()
    return since


def note_verification(connection: Connection, found: dict[str, int]) -> None:
    """Write down how much of what was found: `differences`, `broken` and `unanswered`."""
    connection.execute(
        text(
            """
            UPDATE alert_checks SET found = CAST(:found AS jsonb) WHERE name = :name
            """
        ),
        {"name": _VERIFICATION, "found": json.dumps(found)},
    )


def last_verification(connection: Connection) -> tuple[datetime, Mapping[str, int]] | None:
    """When `serve` last verified, and how much of what it found; None before the first."""
    row = connection.execute(
        text(
            """
            SELECT checked_at, found FROM alert_checks WHERE name = :name AND found IS NOT NULL
            """
        ),
        {"name": _VERIFICATION},
    ).one_or_none()
    return (row.checked_at, row.found) if row else None


def _problems(connection: Connection) -> Mapping[str, int]:
    last = last_verification(connection)
    return {name: number for name, number in last[1].items() if number} if last else {}


def _alert(kind: Kind, subject: str, title: str, text: str, hint: str) -> Alert:
    page = settings().audit_page_url
    return Alert(
        key=f"{kind}/{subject}/{uuid4()}",
        kind=kind,
        subject=subject,
        happened_at=datetime.now(UTC),
        title=title,
        text=text,
        hint=hint,
        url=f"{page}/system" if page else None,
    )


def _circuit_open(service: Service) -> Alert:
    return _alert(
        Kind.CIRCUIT_OPEN,
        service.service,
        f"{service.service} is out of reach",
        f"Its last attempts got no answer that is one. The last error: {service.last_error}",
        "Look at the service's own status, and at the network. Steps are tried again by"
        " themselves; what failed for good has an alert of its own",
    )


def _circuit_closed(service: str) -> Alert:
    return _alert(
        Kind.CIRCUIT_CLOSED,
        service,
        f"{service} answers again",
        "Steps that ask it succeed again.",
        "`mavedb-audit failures --by service` lists what failed meanwhile",
    )


def _mirror_lag(seconds: float) -> Alert:
    return _alert(
        Kind.MIRROR_LAG,
        _AUDIT,
        f"The audit is {seconds:.0f} seconds behind Prefect",
        f"A state of the last minutes was recorded {seconds:.0f} seconds after it was entered.",
        "`mavedb-audit doctor` tells whether Prefect, the database and `serve` do well",
    )


def _mirror_caught_up(subject: str) -> Alert:
    return _alert(
        Kind.MIRROR_CAUGHT_UP,
        subject,
        "The audit keeps up with Prefect again",
        "States are recorded soon after they were entered.",
        "Nothing is to be done",
    )


def _audit_differs(problems: Mapping[str, int]) -> Alert:
    # JSONB keeps its keys in an order of its own.
    counted = ", ".join(f"{name}: {number}" for name, number in sorted(problems.items()))
    return _alert(
        Kind.AUDIT_DIFFERS,
        _AUDIT,
        "The audit differs from Prefect, or contradicts itself",
        f"What the last two looks both found. {counted}",
        "`mavedb-audit verify` lists it, `mavedb-audit reconcile --all` brings what is missing",
    )


def _audit_agrees(subject: str) -> Alert:
    return _alert(
        Kind.AUDIT_AGREES,
        subject,
        "The audit agrees with Prefect again",
        "The last verification found no difference.",
        "Nothing is to be done",
    )
