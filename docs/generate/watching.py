"""The pages of what an operator watches: metrics, events in the log, alerts."""

import json

from docs.generate.text import table
from mavedb_audit.alerts.messages import WHEN, Alert
from mavedb_audit.exposition import BUCKETS, METRICS
from mavedb_audit.logs import EVENTS


def metrics() -> str:
    rows = table(
        ("metric", "kind", "labels", "what"),
        (
            (
                f"`mavedb_audit_{metric.name}{'_total' * (metric.kind == 'counter')}`",
                metric.kind,
                ", ".join(f"`{label}`" for label in metric.labels) or "-",
                metric.help,
            )
            for metric in METRICS
        ),
    )
    return f"""# Metrics

Made from `mavedb_audit/exposition.py` by `make docs`.

Where `serve` answers HTTP (`AUDIT_HTTP_PORT`), Prometheus scrapes `/metrics` with a token of the
role read: `mavedb-audit token prometheus` makes one, and Prometheus takes it as
`authorization: {{credentials_file: ...}}`. The text is kept for five seconds.

The figures come from the database: every `serve` tells the same, so take `max` over the instances
and not `sum`, except for `events`, which each counts for itself. Counters count on when `serve` is
started again. What `mavedb-audit prune` deletes stays counted until then; Prometheus takes the
lower value after it as a reset.

{rows}

A step's seconds have the buckets {", ".join(map(str, BUCKETS))} and +Inf. Rules for Prometheus's
own alerts: `deployments/production/prometheus-rules.yaml`.
"""


def logs() -> str:
    events = table(("event", "what"), ((f"`{event}`", said) for event, said in EVENTS.items()))
    return f"""# Logs

Made from `mavedb_audit/logs.py` by `make docs`.

`mavedb-audit serve` logs to stderr, on a terminal for people, else as JSON with one object a line
(`LOG_FORMAT`). Each has `timestamp` (UTC), `level`, `logger` and `event`, one of those below, and
what the event is about: `correlation_id`, `pipeline_urn`, `flow_run_id`, `error` and others. The
`correlation_id` is the one that MaveDB's API gave with its request, in every line about a pipeline.

Passwords, tokens and the URLs of webhooks are shown as `***`, wherever they stand: those of our
settings, of Prefect's and of AWS's variables, and any password in a URL.

In a worker Prefect formats and keeps the lines. Ours have the form `event key=value ...` there,
with `correlation_id`, `pipeline_urn`, `job_urn` and `step`. To see more than warnings, start the
worker with `PREFECT_LOGGING_ROOT_LEVEL=INFO`; to have them in Prefect's UI, too, with
`PREFECT_LOGGING_EXTRA_LOGGERS=mavedb_audit,tasks` besides.

{events}

## Traces

With `OTEL_EXPORTER_OTLP_ENDPOINT` set and the extra `otel` installed
(`pip install 'mavedb-audit[otel]'`), `serve` and workers send spans there over HTTP: `dispatch`,
`step`, and within a step `service.request` for each request. All have the attribute
`correlation_id`, by which a pipeline's spans are found. Of a request they tell service, method and
host, never the path. A process that is killed loses the spans of its last seconds.
"""


def alerts() -> str:
    kinds = table(("kind", "sent when"), ((f"`{kind}`", when) for kind, when in WHEN.items()))
    schema = json.dumps(Alert.model_json_schema(by_alias=True), indent=2)
    return f"""# Alerts

Made from `mavedb_audit/alerts/messages.py` by `make docs`.

`mavedb-audit serve` tells Slack (`SLACK_WEBHOOK_URL`), any webhook (`ALERT_WEBHOOK_URL`), or both,
what somebody should know:

{kinds}

Nothing is told that will be tried again, and nothing that had ended before alerts were switched on,
or more than a day ago. Each alert is found once and sent once, however many `serve` run.

A receiver that is away, too slow (`ALERT_TIMEOUT_SECONDS`), or answers 408, 425, 429 or 5xx is told
again: after 5 seconds, then after twice as long each time up to an hour, or as its Retry-After
asks, 80 times. Any other answer than 2xx is final. What waits and what was given up stands in
`alert_deliveries`, with the last error, and among the [metrics](metrics.md).

**At least once.** When `serve` is killed after a receiver took an alert and before it noted that,
the alert is sent again a minute later, under the same key. A webhook can know it by that key; Slack
shows it twice.

## What a webhook gets

A POST as [Standard Webhooks](https://www.standardwebhooks.com) has it: `webhook-id` is the alert's
key (also in `Idempotency-Key`), `webhook-timestamp` the seconds of the try, and, with
`ALERT_WEBHOOK_SECRET`, `webhook-signature` is `v1,` and the base64 of
HMAC-SHA256(secret, `id.timestamp.body`). The body is JSON:

```json
{schema}
```
"""
