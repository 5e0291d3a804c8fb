"""Checks of the Prefect server: is it there, has it what `serve` and the steps count on."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from mavedb_audit.dispatcher import DEPLOYMENT_NAME
from mavedb_audit.doctor.database import apart
from mavedb_audit.doctor.findings import Finding, fine, first_line, unseen, wrong
from mavedb_audit.events import OUR_FLOWS
from mavedb_audit.histories import UNANSWERED
from mavedb_audit.limits import LIMITS

_TIMEOUT_SECONDS = 5.0
_PAGE = 200
_DEPLOY = "Run `prefect --no-prompt deploy --all`"


def reachable() -> Iterable[Finding]:
    name = "Prefect"
    if PREFECT_API_URL.value() is None:
        yield wrong(
            name,
            "PREFECT_API_URL is not set",
            "Set it to the API of the Prefect server, such as http://prefect:4200/api",
        )
        return
    try:
        with _client() as client:
            version = str(client.request("GET", "/admin/version").json())
    except UNANSWERED as error:
        yield wrong(
            name,
            f"does not answer at {PREFECT_API_URL.value()} ({first_line(error)})",
            "Check PREFECT_API_URL, and that the server runs",
        )
        return
    ours = prefect.__version__
    if _minor(version) == _minor(ours):
        yield fine(name, f"answers, version {version}")
    else:
        yield wrong(
            name,
            f"the server is {version}, and {ours} is installed here",
            f"Run a server of version {_minor(ours)}: others' answers are not known",
        )


def clock() -> Iterable[Finding]:
    name = "clock of Prefect"

    def look(client: SyncPrefectClient) -> Iterable[Finding]:
        before = datetime.now(UTC)
        date = client.request("GET", "/admin/version").headers.get("Date")
        after = datetime.now(UTC)
        if date is None:
            yield unseen(name, "its answers bear no date")
        else:
            # Whole seconds: on average half of one has gone by.
            there = parsedate_to_datetime(date) + timedelta(seconds=0.5)
            yield apart(name, there, before, after, resolution=0.5)

    return _asking_prefect(name, look)


def deployments_and_workers() -> Iterable[Finding]:
    name = "deployments"

    def look(client: SyncPrefectClient) -> Iterable[Finding]:
        flows = {
            flow["id"]: flow["name"]
            for flow in _page(client, "/flows/filter", flows={"name": {"any_": sorted(OUR_FLOWS)}})
        }
        found = [
            deployment
            for deployment in _page(
                client, "/deployments/filter", deployments={"name": {"any_": [DEPLOYMENT_NAME]}}
            )
            if deployment["flow_id"] in flows
        ]
        missing = OUR_FLOWS - {flows[deployment["flow_id"]] for deployment in found}
        if missing:
            yield wrong(name, f"missing: {', '.join(sorted(missing))}", _DEPLOY)
        else:
            yield fine(name, f"all {len(found)} are there")
        pools = sorted({d["work_pool_name"] for d in found if d["work_pool_name"]})
        if not pools:
            yield unseen("workers", "no deployment names a work pool")
        for pool in pools:
            yield _pool(client, pool)

    return _asking_prefect(name, look)


def _pool(client: SyncPrefectClient, pool: str) -> Finding:
    name = f"work pool {pool}"
    if client.request("GET", "/work_pools/{name}", path_params={"name": pool}).json()["is_paused"]:
        return wrong(name, "is paused: no run is started", f"Run `prefect work-pool resume {pool}`")
    workers = client.request(
        "POST",
        "/work_pools/{work_pool_name}/workers/filter",
        path_params={"work_pool_name": pool},
        json={},
    ).json()
    online = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
    if not online:
        return wrong(
            name,
            "has no worker that is online: no run is started",
            f"Start `prefect worker start --pool {pool}` on a host",
        )
    return fine(name, f"workers online: {len(online)}")


def service_limits() -> Iterable[Finding]:
    name = "limits of services"

    def look(client: SyncPrefectClient) -> Iterable[Finding]:
        there = {limit["name"]: limit for limit in _page(client, "/v2/concurrency_limits/filter")}
        missing = sorted(LIMITS.keys() - there.keys())
        idle = sorted(n for n in LIMITS if n in there and not there[n]["active"])
        if missing:
            yield wrong(
                name,
                f"missing: {', '.join(missing)}: steps that need them fail",
                "Run `mavedb-audit limits apply`",
            )
        else:
            # Somebody may have lifted one on purpose.
            lifted = f"; not active, so they hold back nobody: {', '.join(idle)}" if idle else ""
            yield fine(name, f"all {len(LIMITS)} are there{lifted}")

    return _asking_prefect(name, look)


def storage() -> Iterable[Finding]:
    """What Prefect keeps its runs in, and the leases of slots, as far as it says."""
    name = "Prefect's database"

    def look(client: SyncPrefectClient) -> Iterable[Finding]:
        server: dict[str, Any] = client.request("GET", "/admin/settings").json()["server"]
        driver = server["database"].get("driver")
        url = server["database"].get("connection_url")
        if driver is None and url is not None:
            yield unseen(name, "its URL is a secret of the server's: it must not be SQLite")
        elif driver is None or driver.startswith("sqlite"):
            yield wrong(
                name,
                "is SQLite, which answers `database is locked` under a worker",
                "Set PREFECT_API_DATABASE_CONNECTION_URL of the server to a PostgreSQL",
            )
        else:
            yield fine(name, driver)
        leases = server["concurrency"]["lease_storage"]
        if leases.endswith(".memory"):
            yield unseen(
                "leases of slots",
                "in the server's memory, which is right for one server; several need Redis"
                " (PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE); their number cannot be seen",
            )
        else:
            yield fine("leases of slots", leases)

    return _asking_prefect(name, look)


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    with (
        # Its own retries take minutes.
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(httpx_settings={"timeout": _TIMEOUT_SECONDS}, sync_client=True) as client,
    ):
        yield client


def _page(client: SyncPrefectClient, path: Any, **chosen: Any) -> list[dict[str, Any]]:
    answer = client.request("POST", path, json={**chosen, "limit": _PAGE, "offset": 0})
    rows: list[dict[str, Any]] = answer.json()
    return rows


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _asking_prefect(
    name: str, look: Callable[[SyncPrefectClient], Iterable[Finding]]
) -> Iterable[Finding]:
    if PREFECT_API_URL.value() is None:
        # Asked nevertheless, Prefect's client would start a server of its own.
        yield unseen(name, "PREFECT_API_URL is not set")
        return
    try:
        with _client() as client:
            yield from look(client)
    except UNANSWERED as error:
        yield unseen(name, f"Prefect does not answer ({type(error).__name__})")
