"""The pages of what is planned: reasons, pipelines, and what each step's code says of itself."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import astuple

import yaml

from docs.generate.text import PROJECT, table
from mavedb_audit.annotation_events import TOLD
from mavedb_audit.pipelines import PIPELINES, AnnotationType, Pipeline, Step
from mavedb_audit.reasons import MEANINGS, AnnotationStatus, Reason
from mavedb_audit.services import Service

#: Helpers whose reasons a step never passes on: the mapping step has the mapper's own outcomes,
#: and writes down a mapped variant's HGVS where there is one.
_NOT_PASSED_ON = {"map_variants_for_score_set": {"tasks.vrs"}}


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


def reasons() -> str:
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

    def of_status(status: AnnotationStatus) -> str:
        return table(
            ("reason", "sentence", "what to do", "annotations"),
            (
                (f"`{reason}`", meaning.sentence, meaning.hint, annotations(reason))
                for reason, meaning in MEANINGS.items()
                if meaning.status is status
            ),
        )

    newer = table(
        ("reason", "`failure_category`", "event's `disposition`", "event's `reason`"),
        (tuple(f"`{word}`" for word in (reason, *astuple(TOLD[reason]))) for reason in Reason),
    )
    return f"""# Reasons

Made from `mavedb_audit/reasons.py` by `make docs`: change the words there.

Why a variant lacks an annotation. The reason stands in
`variant_annotation_status.failure_category`; `error_message` holds its sentence and then, where
there is more to say, what the service or the step said: that is meant by "follows" below. How to
run a step again, also for the failed variants alone: [run something again](../how-to/rerun.md).
Which outcome of which step has which reason: [steps](steps.md).

## Failed

Something went wrong, and the annotation may exist.

{of_status(AnnotationStatus.FAILED)}

## Skipped

There is nothing to have, or nobody has asked yet.

{of_status(AnnotationStatus.SKIPPED)}

## In newer releases of MaveDB

Their `failure_category` is a closed list, and they keep a log of annotation events. There our
reason stands in `annotation_metadata` (of an event: in `metadata`) under `reason`, and the columns
hold MaveDB's words for it. More of that: [annotation events](../explanation/annotation-events.md).

{newer}
"""


def pipelines() -> str:
    several = [plan for plan in PIPELINES.values() if len(plan.steps) > 1]
    jobs: dict[str, Step] = {}
    for plan in several:
        for step in plan.steps:
            jobs.setdefault(step.key, step)  # as the largest pipeline, the first, plans it
    in_order = table(
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

Made from `mavedb_audit/pipelines.py` and `prefect.yaml` by `make docs`.

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
    return table(
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
