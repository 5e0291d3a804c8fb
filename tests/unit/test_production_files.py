"""What lies in deployments/production can be started: its names, commands and files are real."""

import configparser
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.settings.legacy import _get_valid_setting_names
from prefect.settings.models.root import Settings as PrefectSettings
from prefect_redis.client import RedisMessagingSettings

from mavedb_audit.limits import LIMITS
from mavedb_audit.settings import Settings

PROJECT = Path(__file__).parents[2]
PRODUCTION = PROJECT / "deployments" / "production"
COMPOSE: dict[str, Any] = yaml.safe_load((PRODUCTION / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "mavedb-audit"}
UNITS = sorted((PRODUCTION / "systemd").glob("*.service"))
#: Of libraries, of Python and of images.
OTHERS = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DO_NOT_TRACK", "PYTHONUNBUFFERED"),
    "POSTGRES_PASSWORD_FILE",
}
KNOWN = {
    *(name.upper() for name in Settings.model_fields),
    *_get_valid_setting_names(PrefectSettings),
    *(f"PREFECT_REDIS_MESSAGING_{name.upper()}" for name in RedisMessagingSettings.model_fields),
    *OTHERS,
}


def env_file(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """A unit's sections; a key may be given several times."""

    class Several(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and isinstance(self.get(key), list):
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(dict_type=Several, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return {
        name: {key: value.splitlines() for key, value in parser.items(name)}
        for name in parser.sections()
    }


def secrets_of(service: dict[str, Any]) -> list[str]:
    given = service.get("secrets", [])
    return [one if isinstance(one, str) else one["target"] for one in given]


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_variables_are_settings(service: str) -> None:
    given = SERVICES[service]
    files = [env_file(PRODUCTION / name) for name in given.get("env_file", [])]
    variables = {*given.get("environment", {}), *(name for file in files for name in file)}
    secrets = {name for name in secrets_of(given) if name.isupper()} if service in OURS else set()

    assert variables | secrets <= KNOWN
    assert {one if isinstance(one, str) else one["source"] for one in given.get("secrets", [])} <= (
        COMPOSE["secrets"].keys()
    )


def test_a_secret_is_given_to_whom_it_is_for_alone() -> None:
    holders: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for secret in service.get("secrets", []):
            holders.setdefault(secret if isinstance(secret, str) else secret["source"], set()).add(
                name
            )

    assert holders["OWNER_DATABASE_URL"] == {"migrations"}
    assert holders["DATABASE_URL"] == {"worker", "audit-1", "audit-2"}
    assert holders["GENBOREE_ACCOUNT_PASSWORD"] == {"worker"}
    assert holders["AUDIT_API_TOKENS"] == {"audit-1", "audit-2"}
    assert "worker" not in holders["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert holders.keys() == COMPOSE["secrets"].keys()


def test_the_settings_of_production_are_read_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    given = env_file(PRODUCTION / "env" / "audit.env")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert read.upload_store_url == given["UPLOAD_STORE_URL"]
    assert read.audit_http_port == int(given["AUDIT_HTTP_PORT"])

    for name, value in env_file(PRODUCTION / "env" / "prefect.env").items():
        monkeypatch.setenv(name, value)
    prefect = PrefectSettings()
    assert prefect.server.database.migrate_on_start is False
    assert prefect.server.database.sqlalchemy.max_overflow == 10
    for module in (
        prefect.server.events.messaging_broker,
        prefect.server.events.messaging_cache,
        prefect.server.events.causal_ordering,
        prefect.server.concurrency.lease_storage,
    ):
        assert import_module(module).__name__.startswith("prefect_redis.")


def commands() -> Iterator[list[str]]:
    """Each command that is ours or Prefect's, without where it lies."""
    for service in OURS.values():
        if "command" in service:
            yield shlex.split(service["command"])
    for path in UNITS:
        program, *arguments = shlex.split(unit(path)["Service"]["ExecStart"][0])
        if "/.venv/bin/" in program:
            yield [Path(program).name, *arguments]


@pytest.mark.parametrize(
    "command", [*{" ".join(words): words for words in commands()}.values()], ids=" ".join
)
def test_a_command_and_its_options_exist(command: list[str]) -> None:
    program, *arguments = command
    options = [word for word in arguments if word.startswith("--") and word != "--no-prompt"]
    verbs = [word for word in arguments if re.fullmatch(r"[a-z]+", word)]
    at = next((place for place, word in enumerate(arguments) if word in options), len(arguments))
    verbs = [word for word in arguments[:at] if word in verbs]
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *verbs, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert [option for option in options if option not in done.stdout] == []


def test_what_is_ours_runs_as_nobody_who_could_change_it() -> None:
    for name, service in OURS.items():
        assert service["user"] == "10001:10001", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    for name, service in SERVICES.items():
        assert "mem_limit" in service or service["restart"] == "no", name
        assert not service["image"].endswith(":latest"), name


def test_what_should_go_on_is_started_again_and_watched() -> None:
    for name, service in SERVICES.items():
        runs_once = name in {"migrations", "prefect-migrations", "apply"}
        assert service["restart"] == ("no" if runs_once else "always"), name
    watched = {name for name, service in SERVICES.items() if "healthcheck" in service}
    assert {"postgres", "broker", "cache", "server-1", "server-2", "worker", "audit-1"} <= watched


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_started_again_and_is_not_root(path: Path) -> None:
    given = unit(path)
    service = given["Service"]
    assert service["Restart"] == ["always"]
    assert service["User"] in (["mavedb"], ["valkey"])
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert given["Unit"]["StartLimitIntervalSec"] == ["0"]
    files = [Path(name) for name in service.get("EnvironmentFile", [])]
    assert all((PRODUCTION / "env" / name.name).exists() for name in files[:1])


def test_the_load_balancer_leads_to_services() -> None:
    text = (PRODUCTION / "nginx.conf").read_text()
    servers = re.findall(r"server ([\w-]+):(\d+)", text)
    assert {name for name, _ in servers} == {"server-1", "server-2", "audit-1", "audit-2"}
    for name, port in servers:
        assert port in str(SERVICES[name]["healthcheck"])
    assert text.count("{") == text.count("}")


def test_no_file_holds_a_secret() -> None:
    for path in PRODUCTION.rglob("*"):
        if path.suffix in {".yaml", ".env", ".service", ".conf", ".sql"}:
            assert not re.search(
                r"(?i)(password|secret_key|token)\s*[:=]\s*[a-z0-9]{4,}\s*$", path.read_text(), re.M
            ), path


def test_secrets_become_variables_by_their_files_names(tmp_path: Path) -> None:
    for name, content in (
        ("DATABASE_URL", "postgresql://a b:'c'\"$HOME@host/db\n"),
        ("valkey-broker-password.conf", "requirepass x"),
    ):
        (tmp_path / name).write_text(content)

    done = subprocess.run(
        [PRODUCTION / "with-secrets", "env"],
        env={"SECRETS_FOLDER": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "DATABASE_URL=postgresql://a b:'c'\"$HOME@host/db\n" in done.stdout
    assert "requirepass" not in done.stdout


def test_the_limits_are_those_that_the_project_suggests() -> None:
    assert yaml.safe_load((PRODUCTION / "prefect" / "limits.yaml").read_text()) == LIMITS


def test_every_deployment_has_its_pool() -> None:
    pools = yaml.safe_load((PRODUCTION / "prefect" / "work-pools.yaml").read_text())
    made = {WorkPoolCreate.model_validate(pool).name for pool in pools}
    deployments = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    assert {deployment["work_pool"]["name"] for deployment in deployments} == made


def test_the_automations_are_such() -> None:
    for given in yaml.safe_load((PRODUCTION / "prefect" / "automations.yaml").read_text()):
        actions = [{**action, "block_document_id": UUID(int=1)} for action in given["actions"]]
        assert AutomationCore.model_validate({**given, "actions": actions}).name == given["name"]
