"""How many steps ask an external service at once: Prefect's global concurrency limits.

Within a step its client keeps its own manners (requests a second, requests at once); these limits
hold across all processes and hosts. A slot is taken once for all that a step asks, since taking
one costs a tenth of a second.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import stamina
from httpx import codes
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from mavedb_audit.errors import ConfigurationError, ServiceError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.logs import logger_of
from mavedb_audit.services import Service
from mavedb_audit.settings import settings

logger = logger_of(__name__)

#: How long a killed process keeps its slot: the least that Prefect grants.
_LEASE_SECONDS = 60
_LONGEST_PAUSE_SECONDS = 5.0
#: Prefect's server is away, or stands before a database that is.
_UNANSWERED = (httpx.HTTPError, ConcurrencySlotAcquisitionError)


#: The mapper aligns each score set on several cores. ClinGen bears five requests at once, which is
#: what one look-up makes; registering makes one at a time. NCBI asks for two downloads at most.
#: Ensembl allows 15 requests a second in all, and a step makes 10.
LIMITS: Mapping[Service, int] = {
    Service.VRS_MAPPER: 4,
    Service.CLINGEN_ALLELE_REGISTRY: 2,
    Service.LINKED_DATA_HUB: 1,
    Service.GNOMAD: 4,
    Service.CLINVAR_ARCHIVE: 2,
    Service.UNIPROT: 4,
    Service.ENSEMBL: 1,
}


@contextmanager
def slot_at(service: Service, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold one of the service's slots. Calls `on_wait` if all are taken now, then waits for one.

    A limit that is switched off in Prefect holds nobody up.
    A slot whose lease Prefect does not renew, because it is away, stays ours, and one that it does
    not take back is left to its lease's end: what the step does is not worth throwing away for it.
    Raises ConfigurationError when Prefect has no such limit, and ServiceError (network_error) when
    it does not answer for SLOT_PATIENCE_SECONDS.
    """
    slot = _take_patiently(service, on_wait)
    try:
        yield
    finally:
        try:
            slot.close()
        except httpx.HTTPError as error:
            logger.warning("slot.not_returned", service=service.value, error=str(error))


def _take_patiently(service: Service, on_wait: Callable[[], None]) -> ExitStack:
    retry = stamina.retry(
        on=_UNANSWERED,
        attempts=None,
        timeout=settings().slot_patience_seconds,
        wait_max=_LONGEST_PAUSE_SECONDS,
    )
    try:
        return retry(_take)(service, on_wait)
    except _UNANSWERED as error:
        said = f"gave no slot of {service}: {error.__cause__ or error}"
        raise ServiceError("Prefect", said, FailureCategory.NETWORK_ERROR) from error


def _take(service: Service, on_wait: Callable[[], None]) -> ExitStack:
    slot = ExitStack()
    try:
        slot.enter_context(_slot(service, max_retries=0))
    except ConcurrencySlotAcquisitionError as error:
        if error.__cause__ is None:
            raise ConfigurationError(
                f"Prefect has no concurrency limit {service}: `mavedb-audit limits apply` makes it"
            ) from None
        if not _all_are_taken(error.__cause__):
            raise
        on_wait()
        slot.enter_context(_slot(service))
    return slot


def _slot(service: Service, max_retries: int | None = None) -> AbstractContextManager[None]:
    return concurrency(
        service.value,
        max_retries=max_retries,
        lease_duration=_LEASE_SECONDS,
        strict=True,
        raise_on_lease_renewal_failure=False,
    )


def _all_are_taken(error: BaseException) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == codes.LOCKED


@dataclass(frozen=True)
class AppliedLimit:
    """A limit as it stands in Prefect, and what it was before, if that was something else."""

    service: Service
    limit: int
    before: int | None


def apply(
    client: SyncPrefectClient, limits: Mapping[Service, int] = LIMITS, *, reset: bool = False
) -> list[AppliedLimit]:
    """Make each service's limit where Prefect lacks it.

    What somebody set in Prefect stays, unless it is to be `reset` to `limits`.
    """
    return [_apply(client, service, limit, reset) for service, limit in limits.items()]


def _apply(client: SyncPrefectClient, service: Service, limit: int, reset: bool) -> AppliedLimit:
    try:
        before = client.read_global_concurrency_limit_by_name(service).limit
    except ObjectNotFound:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=service, limit=limit)
        )
        return AppliedLimit(service, limit, None)
    if not reset:
        return AppliedLimit(service, before, before)
    client.update_global_concurrency_limit(service, GlobalConcurrencyLimitUpdate(limit=limit))
    return AppliedLimit(service, limit, before)
