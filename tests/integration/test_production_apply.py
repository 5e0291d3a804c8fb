"""`python -m deployments.production apply`: one command, which may be repeated."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from tests.support import MaveDB, raise_limits, wait_until
from tests.support_receiver import receiving

PROJECT = Path(__file__).parents[2]
PREFECT = PROJECT / "deployments" / "production" / "prefect"
NAMES = [
    automation["name"] for automation in yaml.safe_load((PREFECT / "automations.yaml").read_text())
]


def run_apply(mavedb: MaveDB, *options: str, **env: str) -> dict[str, str]:
    """What was done with each thing."""
    done = subprocess.run(
        [sys.executable, "-m", "deployments.production", "apply", *options],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **mavedb.stack.env, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.fixture
def mavedb_as_it_was(mavedb: MaveDB) -> Iterator[MaveDB]:
    """Without a limit of the pool and without automations, and with the slots that tests have,
    before and after."""

    def put_back() -> None:
        url = mavedb.stack.prefect_api_url
        httpx.patch(f"{url}/work_pools/mavedb", json={"concurrency_limit": None}).raise_for_status()
        raise_limits(mavedb.stack)
        for automation in automations(mavedb):
            httpx.delete(f"{url}/automations/{automation['id']}").raise_for_status()

    put_back()
    yield mavedb
    put_back()


def automations(mavedb: MaveDB) -> list[dict[str, object]]:
    found: list[dict[str, object]] = mavedb.prefect("POST", "automations/filter", {})
    return [automation for automation in found if automation["name"] in NAMES]


def test_what_is_there_is_left_alone_and_what_differs_is_said(mavedb_as_it_was: MaveDB) -> None:
    mavedb = mavedb_as_it_was

    planned = run_apply(mavedb, "--dry-run")
    assert planned["work pool mavedb"].startswith("changed")
    assert mavedb.prefect("GET", "work_pools/mavedb")["concurrency_limit"] is None
    assert automations(mavedb) == []

    with receiving() as receiver:
        env = {"SLACK_WEBHOOK_URL": receiver.url}
        first = run_apply(mavedb, **env)
        assert first["work pool mavedb"] == planned["work pool mavedb"]
        assert [first[f"automation {name}"] for name in NAMES] == ["made"] * len(NAMES)
        assert mavedb.prefect("GET", "work_pools/mavedb")["concurrency_limit"] == 12

        again = run_apply(mavedb, **env)
        # The tests give each service 100 slots: what somebody changed in Prefect is kept.
        assert again.pop("limit mavedb-ensembl") == "kept at 100, not 1"
        kept = {what: done for what, done in again.items() if not what.startswith("limit")}
        assert set(kept.values()) == {"unchanged"}

        tell_that_no_worker_polls(mavedb)
        wait_until(lambda: receiver.received)
        assert "have no worker" in receiver.received[0].json["text"]


def tell_that_no_worker_polls(mavedb: MaveDB) -> None:
    """The event that Prefect sends when a pool has not been asked for work for a minute."""
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.work-pool.not-ready",
        "resource": {
            "prefect.resource.id": f"prefect.work-pool.{uuid4()}",
            "prefect.resource.name": "mavedb",
        },
    }
    mavedb.prefect("POST", "events", [event])


def test_the_address_of_the_webhook_is_shown_by_nobody(mavedb_as_it_was: MaveDB) -> None:
    run_apply(mavedb_as_it_was, SLACK_WEBHOOK_URL="https://hooks.example/services/secretpart")

    blocks = mavedb_as_it_was.prefect("POST", "block_documents/filter", {})
    assert "secretpart" not in str(blocks)


def test_without_prefects_address_nothing_is_done() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.production", "apply"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "PREFECT_API_URL is not set" in done.stderr
