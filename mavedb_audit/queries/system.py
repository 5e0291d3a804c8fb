"""How the whole does: how late the mirror is, what is open, what waits, how services answer."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from mavedb_audit.states import (
    FINAL_STATE_TYPES,
    TERMINAL_JOB_STATUSES,
    TERMINAL_PIPELINE_STATUSES,
    JobStatus,
    PipelineStatus,
)
from mavedb_audit.views import View

#: So many attempts in a row, without an answer that is one, and a service counts as out of reach.
OPENS_CIRCUIT = 3
#: Outcomes of requests, as job_metrics counts them, that are no answer to what was asked; "failed"
#: is that of a query.
UNREACHABLE = ("no answer", "5xx", "failed")
_LAST_ATTEMPTS = 2000


class Service(View):
    """What the attempts of the last hour asked of a service, by outcome.

    Its circuit is open while none of its last three attempts got an answer that is one. The error
    is that of the last such attempt that failed.
    """

    service: str
    requests: dict[str, int]
    circuit_open: bool
    last_error: str | None
    last_error_at: datetime | None


class System(View):
    """How the whole does at the moment `now`.

    `mirror_lag_seconds` is the longest that a state of the last minutes took to be recorded, None
    where there was none; `mirror_seen_at` is until when the event stream was recorded. Pipelines
    and jobs are those that are open, and those of the last day. `open_runs` are Prefect's runs that
    have not ended, but for those that wait for their time, `unsettled_runs` those whose history may
    lack a state, `recoveries` how often recovery took up what had died. Alerts were given up in the
    last day; the error is of the newest that waits or was given up, and says what its receiver
    answered.
    """

    now: datetime
    mirror_lag_seconds: float | None
    mirror_seen_at: datetime | None
    pipelines_by_status: dict[str, int]
    jobs_by_status: dict[str, int]
    open_runs: int
    unsettled_runs: int
    requests_waiting: int
    oldest_request_seconds: float | None
    oldest_open_job_seconds: float | None
    recoveries: int
    alerts_waiting: int
    alerts_given_up: int
    alert_error: str | None
    database_size_bytes: int
    services: list[Service]


_BY_STATUS = """
    SELECT status, count(*) FROM {table}
     WHERE status = ANY (:open) OR created_at > now() - interval '1 day'
     GROUP BY status ORDER BY status
"""

_SYSTEM = """
    SELECT now() AS now,
           (SELECT extract(epoch FROM max(greatest(recorded_at - timestamp, interval '0')))::float
              FROM prefect_transitions
             WHERE recorded_at > now() - interval '5 minutes'
               AND timestamp > now() - interval '1 hour') AS mirror_lag_seconds,
           (SELECT max(occurred) FROM mirror_checkpoints) AS mirror_seen_at,
           (SELECT count(*) FROM prefect_runs
             WHERE state_type IS NULL OR state_type <> ALL (:not_open)) AS open_runs,
           (SELECT count(*) FROM prefect_runs WHERE settled_at IS NULL) AS unsettled_runs,
           (SELECT count(*) FROM pipeline_requests WHERE dispatched_at IS NULL)
             AS requests_waiting,
           (SELECT extract(epoch FROM now() - min(requested_at))::float FROM pipeline_requests
             WHERE dispatched_at IS NULL) AS oldest_request_seconds,
           (SELECT extract(epoch FROM now() - min(started_at))::float FROM job_runs
             WHERE status = 'running') AS oldest_open_job_seconds,
           (SELECT count(*) FROM operator_actions WHERE action = 'recover') AS recoveries,
           (SELECT count(*) FROM alert_deliveries WHERE sent_at IS NULL AND gave_up_at IS NULL)
             AS alerts_waiting,
           (SELECT count(*) FROM alert_deliveries WHERE gave_up_at > now() - interval '1 day')
             AS alerts_given_up,
           (SELECT channel || ': ' || last_error FROM alert_deliveries
             WHERE last_error IS NOT NULL
               AND (gave_up_at IS NULL OR gave_up_at > now() - interval '1 day')
             ORDER BY alert_id DESC LIMIT 1) AS alert_error,
           pg_database_size(current_database()) AS database_size_bytes
"""

_SERVICES = """
    WITH asked AS (
        SELECT service.key AS service, service.value AS outcomes, attempt.finished_at,
               attempt.error_message,
               row_number() OVER (PARTITION BY service.key ORDER BY attempt.id DESC) AS newness,
               NOT EXISTS (SELECT FROM jsonb_object_keys(service.value) AS outcome
                            WHERE outcome <> ALL (:unreachable)) AS unreachable
          FROM job_attempts AS attempt
          JOIN job_metrics AS metrics ON metrics.attempt_id = attempt.id
         CROSS JOIN LATERAL jsonb_each(metrics.http_requests) AS service
         WHERE attempt.id > (SELECT max(id) - :last_attempts FROM job_attempts)
           AND attempt.finished_at > now() - interval '1 hour'
    ), counted AS (
        SELECT service, outcome.key AS outcome, sum(outcome.value::int) AS requests
          FROM asked CROSS JOIN LATERAL jsonb_each_text(outcomes) AS outcome
         GROUP BY service, outcome.key
    ), failed AS (
        SELECT DISTINCT ON (service) service, error_message, finished_at FROM asked
         WHERE unreachable AND error_message IS NOT NULL
         ORDER BY service, newness
    )
    SELECT service,
           (SELECT jsonb_object_agg(outcome, requests) FROM counted
             WHERE counted.service = asked.service) AS requests,
           count(*) FILTER (WHERE newness <= :opens AND unreachable) = :opens AS circuit_open,
           failed.error_message AS last_error, failed.finished_at AS last_error_at
      FROM asked LEFT JOIN failed USING (service)
     GROUP BY service, failed.error_message, failed.finished_at
     ORDER BY service
"""


def system(connection: Connection) -> System:
    """How the whole does now."""
    row = connection.execute(
        text(_SYSTEM), {"not_open": sorted(FINAL_STATE_TYPES | {"SCHEDULED"})}
    ).one()
    return System(
        **row._mapping,
        pipelines_by_status=_by_status(
            connection, "pipelines", set(PipelineStatus) - TERMINAL_PIPELINE_STATUSES
        ),
        jobs_by_status=_by_status(connection, "job_runs", set(JobStatus) - TERMINAL_JOB_STATUSES),
        services=list(services(connection)),
    )


def services(connection: Connection) -> Sequence[Service]:
    """The services that were asked in the last hour, by name."""
    rows = connection.execute(
        text(_SERVICES),
        {
            "unreachable": list(UNREACHABLE),
            "opens": OPENS_CIRCUIT,
            "last_attempts": _LAST_ATTEMPTS,
        },
    )
    return [Service.model_validate(row) for row in rows]


def _by_status(connection: Connection, table: str, still_open: Collection[str]) -> dict[str, int]:
    rows = connection.execute(text(_BY_STATUS.format(table=table)), {"open": sorted(still_open)})
    return {status: count for status, count in rows}
