"""How much of a service our steps take: its slots in Prefect, and the wait that it asks for."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context

import httpx
import pytest

from mavedb_audit.limits import LIMITS, slot_at
from mavedb_audit.services import Service
from tests.support import MaveDB, Submitted, brca1, raise_limits, wait_until
from tests.support_command import run_command


@pytest.fixture(scope="module")
def annotated(mavedb: MaveDB) -> Submitted:
    submitted = mavedb.submit(*brca1(10))
    assert mavedb.wait_for(submitted) == "succeeded"
    return submitted


def test_who_finds_no_slot_waits_and_says_so(mavedb: MaveDB) -> None:
    requests = f"{mavedb.stack.mapper_url}/simulator/requests"
    httpx.delete(requests).raise_for_status()
    with limit(mavedb, Service.VRS_MAPPER, 1):
        with slot_at(Service.VRS_MAPPER, on_wait=lambda: pytest.fail("somebody has the slot")):
            submitted = mavedb.submit(*brca1(10))

            def message() -> str:
                return mavedb.jobs(submitted)["map_variants_for_score_set"].progress_message or ""

            wait_until(lambda: message() == "Waiting for mavedb-vrs-mapper")
            assert httpx.get(requests).json() == []
        assert mavedb.wait_for(submitted) == "succeeded"
    assert len(httpx.get(requests).json()) == 1


def test_of_two_who_come_at_once_the_one_that_waits_says_so(mavedb: MaveDB) -> None:
    somebody_waits = threading.Event()
    at_once = threading.Barrier(2)

    def ask() -> None:
        at_once.wait(timeout=60)
        with slot_at(Service.UNIPROT, on_wait=somebody_waits.set):
            assert somebody_waits.wait(timeout=60)

    with limit(mavedb, Service.UNIPROT, 1), ThreadPoolExecutor(2) as callers:
        # Each caller with Prefect's settings, which are of the context.
        asked = [callers.submit(copy_context().run, ask) for _ in range(2)]
        for each in asked:
            each.result()


def test_a_limit_that_is_switched_off_holds_nobody_up(mavedb: MaveDB) -> None:
    with limit(mavedb, Service.UNIPROT, 1):
        mavedb.prefect("PATCH", f"v2/concurrency_limits/{Service.UNIPROT}", {"active": False})
        try:
            with ExitStack() as slots:
                for _ in range(2):
                    slots.enter_context(
                        slot_at(Service.UNIPROT, on_wait=lambda: pytest.fail("there is no limit"))
                    )
        finally:
            mavedb.prefect("PATCH", f"v2/concurrency_limits/{Service.UNIPROT}", {"active": True})


def test_a_limit_that_is_missing_is_named_and_made_by_one_command(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    with limit(mavedb, Service.UNIPROT, 7):
        mavedb.prefect("DELETE", f"v2/concurrency_limits/{Service.GNOMAD}")
        again = mavedb.request("link_gnomad_variants", annotated)
        assert mavedb.wait_for(again) == "failed"
        job = mavedb.jobs(again)["link_gnomad_variants"]
        assert job.failure_category == "configuration_error"
        assert "mavedb-gnomad: `mavedb-audit limits apply` makes it" in job.error_message

        assert "mavedb-gnomad: 4 (made)\n" in limits_apply(mavedb)
        assert "mavedb-uniprot: 7 (kept)\n" in limits_apply(mavedb)
        assert "mavedb-uniprot: 4 (was 7)\n" in limits_apply(mavedb, "--reset")
        assert [limit_now(mavedb, service) for service in LIMITS] == list(LIMITS.values())
    again = mavedb.request("link_gnomad_variants", annotated)
    assert mavedb.wait_for(again) == "succeeded"


def test_a_service_is_left_alone_for_as_long_as_it_asks(
    mavedb: MaveDB, annotated: Submitted
) -> None:
    """The stack's own delay before the next attempt is none."""
    too_many = {"status": 429, "headers": {"Retry-After": "3"}, "times": 1}
    with mavedb.fault(mavedb.stack.clingen_url, "status", **too_many):
        again = mavedb.request("submit_score_set_mappings_to_car", annotated)
        assert mavedb.wait_for(again) == "succeeded"
    waited = mavedb.value(
        """
        SELECT extract(epoch FROM max(attempt.started_at) - min(attempt.finished_at))
          FROM job_attempts AS attempt
          JOIN job_runs ON job_runs.id = job_id
         WHERE pipeline_id = :id AND job_function = 'submit_score_set_mappings_to_car'
        """,
        id=again.pipeline_id,
    )
    assert waited >= 3


@contextmanager
def limit(mavedb: MaveDB, service: Service, slots: int) -> Iterator[None]:
    """The limit as somebody set it in Prefect; afterwards all are as the tests have them."""
    set_limit(mavedb, service, slots)
    try:
        yield
    finally:
        raise_limits(mavedb.stack)


def limit_now(mavedb: MaveDB, service: Service) -> int:
    found: int = mavedb.prefect("GET", f"v2/concurrency_limits/{service}")["limit"]
    return found


def set_limit(mavedb: MaveDB, service: Service, slots: int) -> None:
    mavedb.prefect("PATCH", f"v2/concurrency_limits/{service}", {"limit": slots})


def limits_apply(mavedb: MaveDB, *options: str) -> str:
    done = run_command("limits", "apply", *options, **mavedb.stack.env)
    assert done.returncode == 0, done.stderr
    return done.stdout
