"""Brings a Prefect server up to the files beside this one and to prefect.yaml.

Nothing is done twice: what is there already as it should be is left alone, and what an operator has
changed meanwhile (a paused pool, a limit) is kept unless the files are to be enforced.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from mavedb_audit import limits
from mavedb_audit.errors import ConfigurationError, MaveDBAuditError
from mavedb_audit.services import Service

FILES = Path(__file__).parent / "prefect"
PROJECT = Path(__file__).resolve().parents[2]
_WEBHOOK = "mavedb-notifications"
_WEBHOOK_TYPE = "custom-webhook"


class DeployFailedError(MaveDBAuditError):
    """`prefect deploy` failed; the message is what it said."""


@dataclass(frozen=True)
class Change:
    """Something in Prefect, and what was done with it: made, changed, kept or unchanged."""

    what: str
    done: str

    def __str__(self) -> str:
        return f"{self.what}: {self.done}"


def apply(
    client: SyncPrefectClient, webhook_url: str | None, *, dry_run: bool, reset: bool
) -> Iterator[Change]:
    """Do all of it, and tell of each thing as it is done; with `dry_run`, as it would be.

    Pools come before the deployments that name them. Without a webhook no automation is made.
    Raises httpx errors while Prefect does not answer, and DeployFailedError.
    """
    for pool in _read("work-pools.yaml"):
        yield _apply_pool(client, WorkPoolCreate.model_validate(pool), dry_run)
    yield from _apply_limits(client, dry_run, reset)
    yield from _deploy(client, dry_run)
    automations = _read("automations.yaml")
    if webhook_url is None:
        for automation in automations:
            yield Change(
                f"automation {automation['name']}", "left out: SLACK_WEBHOOK_URL is not set"
            )
        return
    block_id = _webhook(client) if dry_run else _save_webhook(webhook_url)
    for automation in automations:
        yield _apply_automation(client, automation, block_id, dry_run)


def _read(name: str) -> Any:
    return yaml.safe_load((FILES / name).read_text())


def _apply_pool(client: SyncPrefectClient, pool: WorkPoolCreate, dry_run: bool) -> Change:
    what = f"work pool {pool.name}"
    try:
        there = client.read_work_pool(pool.name)
    except ObjectNotFound:
        if not dry_run:
            client.create_work_pool(pool)
        return Change(what, "made")
    if there.type != pool.type:
        raise ConfigurationError(
            f"The work pool {pool.name} is of type {there.type}, not {pool.type}: Prefect cannot"
            " change that. Delete it, or name another in work-pools.yaml and prefect.yaml"
        )
    wanted = {"description": pool.description, "concurrency_limit": pool.concurrency_limit}
    changed = {
        name: (getattr(there, name), value)
        for name, value in wanted.items()
        if getattr(there, name) != value
    }
    if not changed:
        return Change(what, "unchanged")
    if not dry_run:
        client.update_work_pool(pool.name, WorkPoolUpdate.model_validate(wanted))
    return Change(what, f"changed {_differences(changed)}")


def _differences(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} from {before} to {now}" for name, (before, now) in changed.items())


def _apply_limits(client: SyncPrefectClient, dry_run: bool, reset: bool) -> Iterator[Change]:
    wanted = {Service(name): limit for name, limit in _read("limits.yaml").items()}
    if dry_run:
        there = {limit.name: limit.limit for limit in client.read_global_concurrency_limits(200, 0)}
        applied = [
            limits.AppliedLimit(
                service,
                limit if reset else there.get(service, limit),
                there.get(service),
            )
            for service, limit in wanted.items()
        ]
    else:
        applied = limits.apply(client, wanted, reset=reset)
    for one in applied:
        yield Change(f"limit {one.service}", _limit_done(one, wanted[one.service]))


def _limit_done(applied: limits.AppliedLimit, wanted: int) -> str:
    if applied.before is None:
        return f"made, {applied.limit}"
    if applied.before != applied.limit:
        return f"changed from {applied.before} to {applied.limit}"
    return "unchanged" if applied.limit == wanted else f"kept at {applied.limit}, not {wanted}"


def _deploy(client: SyncPrefectClient, dry_run: bool) -> Iterator[Change]:
    names = sorted(
        f"{deployment['entrypoint'].partition(':')[2]}/{deployment['name']}"
        for deployment in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    )
    before = {name: _deployed(client, name) for name in names}
    if not dry_run:
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DeployFailedError(f"`prefect deploy --all` failed: {done.stdout}{done.stderr}")
    for name in names:
        now = before[name] if dry_run else _deployed(client, name)
        done_with_it = "unchanged" if before[name] == now else "changed"
        if before[name] is None:
            done_with_it = "made"
        elif dry_run:
            done_with_it = "deployed again"
        yield Change(f"deployment {name}", done_with_it)


#: What a deployment gets at each time anew, or when it runs.
_PASSING = {"updated", "id", "created", "status", "last_polled", "created_by", "updated_by"}


def _deployed(client: SyncPrefectClient, name: str) -> dict[str, Any] | None:
    try:
        deployment = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None
    shown = deployment.model_dump(mode="json", exclude=_PASSING)
    shown["schedules"] = [
        {"schedule": schedule["schedule"], "active": schedule["active"]}
        for schedule in shown["schedules"]
    ]
    return shown


def _save_webhook(url: str) -> UUID:
    """The block that sends notifications. Its address is one of its secrets, so no UI shows it."""
    block = CustomWebhookNotificationBlock.model_validate(
        {
            "name": _WEBHOOK,
            "url": "{{url}}",
            "json_data": {"text": "{{subject}}\n{{body}}"},
            "secrets": {"url": url},
        }
    )
    return cast("UUID", block.save(_WEBHOOK, overwrite=True))


def _webhook(client: SyncPrefectClient) -> UUID:
    """The block's id; before it is there, one that no block has."""
    try:
        return client.read_block_document_by_name(_WEBHOOK, _WEBHOOK_TYPE).id
    except ObjectNotFound:
        return UUID(int=0)


def _apply_automation(
    client: SyncPrefectClient, given: Mapping[str, Any], block_id: UUID, dry_run: bool
) -> Change:
    actions = [{**action, "block_document_id": block_id} for action in given["actions"]]
    wanted = AutomationCore.model_validate({**given, "actions": actions})
    what = f"automation {wanted.name}"
    there = client.read_automations_by_name(wanted.name)
    if not there:
        if not dry_run:
            client.create_automation(wanted)
        return Change(what, "made")
    # An automation that somebody switched off stays off.
    wanted.enabled = there[0].enabled
    if there[0].model_dump(exclude={"id"}) == wanted.model_dump():
        return Change(what, "unchanged")
    if not dry_run:
        client.update_automation(there[0].id, wanted)
    return Change(what, "changed")
