"""The reference pages that are made from code. Run as a program, it writes them."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import yaml
from cyclopts import App
from fastapi import FastAPI
from pydantic import TypeAdapter

from mavedb_audit import api
from mavedb_audit.alerts.messages import WHEN, Alert
from mavedb_audit.annotation_events import TOLD
from mavedb_audit.api.problems import documented
from mavedb_audit.cli import EXAMPLES
from mavedb_audit.cli import app as command_line
from mavedb_audit.cli import views as cli_views
from mavedb_audit.doctor import Finding
from mavedb_audit.exposition import BUCKETS, METRICS
from mavedb_audit.limits import AppliedLimit
from mavedb_audit.logs import EVENTS
from mavedb_audit.pipelines import PIPELINES, AnnotationType, Pipeline, Step
from mavedb_audit.provenance import Exported
from mavedb_audit.prune import Pruned
from mavedb_audit.queries import accounts, failures, histories, pipelines, releases, stories
from mavedb_audit.reasons import MEANINGS, AnnotationStatus, Reason
from mavedb_audit.reconcile import Reconciled
from mavedb_audit.services import Service
from mavedb_audit.taking_over import TakenOver
from mavedb_audit.uploads import Upload
from mavedb_audit.verify import Verification

DOCS = Path(__file__).parent
PROJECT = DOCS.parent

#: Helpers whose reasons a step never passes on: the mapping step has the mapper's own outcomes,
#: and writes down a mapped variant's HGVS where there is one.
_NOT_PASSED_ON = {"map_variants_for_score_set": {"tasks.vrs"}}


#: What each command prints with --output json, by when it does.
_ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "status": {
        "without a URN": cli_views.Overview,
        "of a pipeline": pipelines.Detail,
        "of a score set": accounts.Account,
    },
    "watch": {"a line for each change": cli_views.StepChange},
    "why": {"": stories.Story},
    "failures": {"": list[failures.FailureGroup]},
    "history": {"": histories.History},
    "diff": {"": releases.ReleaseDiff},
    "uploads": {"": list[Upload]},
    "export": {"": Exported},
    "request": {"": cli_views.Asked},
    "rerun-failed": {"": cli_views.Asked},
    **{verb: {"": cli_views.Outcome} for verb in ("pause", "resume", "cancel", "retry", "restart")},
    "verify": {"": Verification},
    "reconcile": {"": Reconciled},
    "recover": {"": cli_views.Recovered},
    "prune": {"": list[Pruned]},
    "take-over": {"": list[TakenOver]},
    "doctor": {"": list[Finding]},
    "limits apply": {"": list[AppliedLimit]},
    "token": {"": dict[str, str]},
}


def pages() -> dict[str, str]:
    """Each page by its path in docs/."""
    return {
        "reference/reasons.md": _reasons(),
        "reference/pipelines.md": _pipelines(),
        "reference/http.md": _http(),
        "reference/metrics.md": _metrics(),
        "reference/logs.md": _logs(),
        "reference/alerts.md": _alerts(),
        "reference/cli.md": _cli(),
        "reference/cli-output.md": _cli_output(),
    }


def planned_steps() -> dict[str, Step]:
    """Every step by its function, as the largest of the pipelines that have it plans it."""
    return {
        step.function: step
        for plan in sorted(PIPELINES.values(), key=lambda plan: len(plan.steps))
        for step in plan.steps
    }


def reasons_of(step: Step) -> frozenset[Reason]:
    """The reasons that a step gives by itself."""
    used = _used_by(step)
    reasons = {Reason[name] for owner, name in used if owner == "Reason"}
    return frozenset(reasons | {Reason.STEP_SKIPPED} if ("step", "skip") in used else reasons)


def services_of(step: Step) -> frozenset[Service]:
    """The services that a step asks."""
    return frozenset(Service[name] for owner, name in _used_by(step) if owner == "Service")


def _used_by(step: Step) -> frozenset[tuple[str, str]]:
    """Each `name.attribute` in a step's code, its helpers' in tasks/ included."""
    used: set[tuple[str, str]] = set()
    waiting = [f"tasks.{step.function}"]
    seen = set(waiting) | _NOT_PASSED_ON.get(step.function, set())
    while waiting:
        code = ast.parse((PROJECT / f"{waiting.pop().replace('.', '/')}.py").read_text())
        for node in ast.walk(code):
            match node:
                case ast.Attribute(value=ast.Name(id=owner), attr=name):
                    used.add((owner, name))
                case ast.ImportFrom(module=str(module)) if module.startswith("tasks."):
                    if module not in seen and not module.startswith("tasks.clients"):
                        seen.add(module)
                        waiting.append(module)
    return frozenset(used)


def _reasons() -> str:
    given: dict[Reason, set[AnnotationType]] = {reason: set() for reason in Reason}
    for step in planned_steps().values():
        closing = {Reason.STEP_FAILED, Reason.STEP_CANCELLED}
        if step.after:
            closing.add(Reason.UPSTREAM_NOT_DONE)
        for reason in reasons_of(step) | closing:
            given[reason].update(step.annotation_types)

    def annotations(reason: Reason) -> str:
        if len(given[reason]) == len(AnnotationType):
            return "every one"
        return ", ".join(f"`{name}`" for name in AnnotationType if name in given[reason])

    def table(status: AnnotationStatus) -> str:
        return _table(
            ("reason", "sentence", "what to do", "annotations"),
            (
                (f"`{reason}`", meaning.sentence, meaning.hint, annotations(reason))
                for reason, meaning in MEANINGS.items()
                if meaning.status is status
            ),
        )

    newer = _table(
        ("reason", "`failure_category`", "event's `disposition`", "event's `reason`"),
        (tuple(f"`{word}`" for word in (reason, *astuple(TOLD[reason]))) for reason in Reason),
    )
    return f"""# Reasons

Made from `mavedb_audit/reasons.py` by `docs/generate.py`: change the words there.

Why a variant lacks an annotation. The reason stands in
`variant_annotation_status.failure_category`; `error_message` holds its sentence and then, where
there is more to say, what the service or the step said: that is meant by "follows" below. How to
run a step again, also for the failed variants alone: [run something again](../how-to/rerun.md).
Which outcome of which step has which reason: [steps](steps.md).

## Failed

Something went wrong, and the annotation may exist.

{table(AnnotationStatus.FAILED)}

## Skipped

There is nothing to have, or nobody has asked yet.

{table(AnnotationStatus.SKIPPED)}

## In newer releases of MaveDB

Their `failure_category` is a closed list, and they keep a log of annotation events. There our
reason stands in `annotation_metadata` (of an event: in `metadata`) under `reason`, and the columns
hold MaveDB's words for it. More of that: [annotation events](../explanation/annotation-events.md).

{newer}
"""


def _pipelines() -> str:
    several = [plan for plan in PIPELINES.values() if len(plan.steps) > 1]
    jobs: dict[str, Step] = {}
    for plan in several:
        for step in plan.steps:
            jobs.setdefault(step.key, step)  # as the largest pipeline, the first, plans it
    in_order = _table(
        ("", "job", "begins after", "annotation", *(f"`{plan.name}`" for plan in several)),
        (
            (
                str(number),
                f"[`{step.key}`](steps.md#{step.function})",
                ", ".join(f"`{key}`" for key in step.after) or "-",
                ", ".join(f"`{a}`" for a in step.annotation_types) or "-",
                *("x" if step.key in {s.key for s in plan.steps} else "" for plan in several),
            )
            for number, step in enumerate(jobs.values(), 1)
        ),
    )
    return f"""# Pipelines

Made from `mavedb_audit/pipelines.py` and `prefect.yaml` by `docs/generate.py`.

A pipeline is a Prefect flow with a deployment `NAME/mavedb`. MaveDB asks for one with
`request_pipeline`, an operator with `mavedb-audit request` or `prefect deployment run`
([run something again](../how-to/rerun.md)). What each step does: [steps](steps.md).

## Of several steps

{_table_of_plans(several)}

Their jobs. One begins once those it comes after have succeeded, beside others that are ready;
where a pipeline lacks one of those, it does not wait for it. Each pipeline has a job
`start_pipeline` besides, which is the flow run itself.

{in_order}

## Of a single step

{_table_of_plans([plan for plan in PIPELINES.values() if len(plan.steps) == 1])}
"""


def _table_of_plans(plans: Sequence[Pipeline]) -> str:
    schedules = _schedules()
    return _table(
        ("pipeline", "what", "parameters", "failed variants alone", "schedule (UTC)"),
        (
            (
                f"`{plan.name}`",
                plan.description,
                ", ".join(f"`{name}`" for name in plan.params if name != "correlation_id") or "-",
                "yes" if plan.is_limitable and "score_set_id" in plan.params else "no",
                schedules.get(plan.name, "-"),
            )
            for plan in plans
        ),
    )


def _schedules() -> Mapping[str, str]:
    deployments = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    return {
        deployment["entrypoint"].partition(":")[2]: ", ".join(
            f"`{schedule['cron']}`" for schedule in deployment["schedules"]
        )
        for deployment in deployments
        if "schedules" in deployment
    }


def _cli() -> str:
    _, _, described = command_line.generate_docs().partition("## mavedb-audit ")
    commands = re.sub(
        r"^#+ mavedb-audit (.+)$",
        lambda heading: _with_examples(heading[1]),
        f"## mavedb-audit {described}",
        flags=re.M,
    )
    listed = _table(
        ("command", "what"),
        (
            (f"[`{name}`](#{name.replace(' ', '-')})", _command(name).help.partition("\n")[0])
            for name in sorted(EXAMPLES)
        ),
    )
    codes = _table(
        ("exit code", "when"),
        (
            ("0", "it is done, and nothing is wrong"),
            (
                "1",
                "`failures`, `verify`, `reconcile`, `doctor` and `uploads` found problems;"
                " of `watch`: the pipeline did not succeed",
            ),
            (
                "2",
                "wrong usage: a command, an option, a URN or a setting; a table that is missing, or"
                " a right that the database's role lacks",
            ),
            ("3", "the database, Prefect or the store of uploads cannot be reached"),
            ("130, 141", "Ctrl-C; who reads the output reads no further"),
        ),
    )
    return f"""# The command line

Made from `mavedb_audit/cli/` by `docs/generate.py`.

{listed}

Data goes to stdout, messages to stderr. A terminal that is too narrow for a table breaks the lines
itself, so a URN is copied in one piece. What is no terminal gets each row in one line, and no
colours; nor does a terminal where `NO_COLOR` is set. With `--output json` what is printed keeps to
[a schema](cli-output.md).

{codes}

What changes a pipeline is written to `operator_actions`, under the name that `--as` gives, or that
of the process's user. `mavedb-audit --install-completion` completes commands and options in bash,
zsh, fish and PowerShell.

{commands.rstrip()}
"""


def _command(name: str) -> App:
    found = command_line
    for part in name.split():
        found = found[part]
    return found


def _with_examples(name: str) -> str:
    examples = "".join(f"    {example}\n" for example in EXAMPLES.get(name, ()))
    return f"## {name}\n\n{examples}".rstrip()


def _cli_output() -> str:
    given = {
        (command, when): TypeAdapter(answer)
        for command, answers in _ANSWERS.items()
        for when, answer in answers.items()
    }
    schemas, defined = TypeAdapter.json_schemas(
        [(key, "serialization", adapter) for key, adapter in given.items()], by_alias=False
    )
    answers = _table(
        ("command", "", "prints"),
        (
            (f"`{command}`", when, _type_of(schemas[(command, when), "serialization"]))
            for command, when in given
        ),
    )
    described = "\n\n".join(_schema(name, schema) for name, schema in defined["$defs"].items())
    page = f"""# What the command line prints as JSON

Made from what the [commands](cli.md) answer with, by `docs/generate.py`. Within a major version
keys may come, and none goes or changes its meaning. Times are ISO 8601 in UTC, durations in
seconds; what is unknown is null. `watch` prints an object a line, the others one value.

{answers}

{described}
"""
    # What two modules call the same is called by its module, too.
    return re.sub(r"mavedb_audit__\w+", lambda name: name[0][14:].replace("__", "-"), page)


def _http() -> str:
    application = FastAPI()
    application.include_router(api.router())
    described = application.openapi()
    operations = [
        (path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    tags = dict.fromkeys(operation["tags"][0] for _, _, operation in operations)
    routes = "\n\n".join(
        f"## {tag}\n\n"
        + _table(
            ("route", "what", "role", "takes", "answers", "problems"),
            (
                _route(path, method, operation)
                for path, method, operation in operations
                if operation["tags"][0] == tag
            ),
        )
        for tag in tags
    )
    answers = "\n\n".join(
        _schema(name, schema)
        for name, schema in described["components"]["schemas"].items()
        if name not in {"HTTPValidationError", "ValidationError"}
    )
    problems = _table(
        ("status", "when", "such as"),
        (
            (str(code), problem["description"], example["detail"])
            for code, problem in documented(400, 401, 403, 404, 409, 503).items()
            for example in [problem["content"]["application/json"]["example"]]
        ),
    )
    return f"""# HTTP

Made from the routes in `mavedb_audit/api/` by `docs/generate.py`. How to let somebody in, ask, and
mount the routes in MaveDB's API: [ask over HTTP](../how-to/ask-over-http.md). The same as OpenAPI
is at `/openapi.json`. Keys are camelCase, query parameters snake_case, times in UTC, durations in
seconds. MaveDB's own admin routes are those of job runs and pipelines without anything after the
URN: their filters and fields are MaveDB's.

{routes}

## Problems

An error is `{{"detail": "…"}}`, a sentence for people; of 422 it is a list with the place and the
reason of each thing that was given wrongly. A 503 has `Retry-After`.

{problems}

## Keys

{answers}
"""


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    keys = schema.get("properties", {})
    parts = [
        f"### {name}",
        " ".join(schema.get("description", "").split()),
        _table(("key", "type"), ((f"`{key}`", _type_of(keys[key])) for key in keys))
        if keys
        else f"One of {_type_of(schema)}.",
    ]
    return "\n\n".join(filter(None, parts))


def _route(path: str, method: str, operation: Mapping[str, Any]) -> tuple[str, ...]:
    taken = [
        f"`{parameter['name']}`{' (needed)' if parameter['required'] else ''}"
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "path"
    ]
    if "requestBody" in operation:
        (body,) = operation["requestBody"]["content"].values()
        taken.append(f"JSON: {_type_of(body['schema'])}")
    responses = operation["responses"]
    answers = [
        ", ".join(
            _type_of(content["schema"]) if "schema" in content else f"`{kind}`"
            for kind, content in answer["content"].items()
        )
        if "content" in answer
        else f"or {code}: {answer['description']}"
        for code, answer in responses.items()
        if code.startswith("2")
    ]
    return (
        f"`{method.upper()} {path}`",
        operation["summary"],
        "operate" if method == "post" else "read",
        ", ".join(taken) or "-",
        "; ".join(answers),
        ", ".join(sorted(code for code in responses if not code.startswith("2"))),
    )


def _type_of(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": list(choices)}:
            return " or ".join(map(_type_of, choices))
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type_of(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {_type_of(values)}"
        case {"type": "string", "format": str(form)}:
            return form
        case {"type": str(name)}:
            return name
    return "anything"


def _metrics() -> str:
    table = _table(
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

Made from `mavedb_audit/exposition.py` by `docs/generate.py`.

Where `serve` answers HTTP (`AUDIT_HTTP_PORT`), Prometheus scrapes `/metrics` with a token of the
role read: `mavedb-audit token prometheus` makes one, and Prometheus takes it as
`authorization: {{credentials_file: ...}}`. The text is kept for five seconds.

The figures come from the database: every `serve` tells the same, so take `max` over the instances
and not `sum`, except for `events`, which each counts for itself. Counters count on when `serve` is
started again. What `mavedb-audit prune` deletes stays counted until then; Prometheus takes the
lower value after it as a reset.

{table}

A step's seconds have the buckets {", ".join(map(str, BUCKETS))} and +Inf. Rules for Prometheus's
own alerts: `deployments/production/prometheus-rules.yaml`.
"""


def _logs() -> str:
    events = _table(("event", "what"), ((f"`{event}`", said) for event, said in EVENTS.items()))
    return f"""# Logs

Made from `mavedb_audit/logs.py` by `docs/generate.py`.

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


def _alerts() -> str:
    kinds = _table(("kind", "sent when"), ((f"`{kind}`", when) for kind, when in WHEN.items()))
    schema = json.dumps(Alert.model_json_schema(by_alias=True), indent=2)
    return f"""# Alerts

Made from `mavedb_audit/alerts/messages.py` by `docs/generate.py`.

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


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for row in (headings, ["---"] * len(headings), *rows):
            yield f"| {' | '.join(row)} |"

    return "\n".join(lines())


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)
