"""What went wrong, as one of MaveDB's failure categories, and whether another try is worth it."""

import traceback
from dataclasses import dataclass
from enum import StrEnum

import httpx
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class FailureCategory(StrEnum):
    """MaveDB's values of job_runs.failure_category."""

    SYSTEM_ERROR = "system_error"
    TIMEOUT = "timeout"
    RESOURCE_EXHAUSTION = "resource_exhaustion"
    CONFIGURATION_ERROR = "configuration_error"
    DEPENDENCY_FAILURE = "dependency_failure"
    ENQUEUE_ERROR = "enqueue_error"
    SCHEDULING_ERROR = "scheduling_error"
    CANCELLED = "cancelled"
    VALIDATION_ERROR = "validation_error"
    DATA_ERROR = "data_error"
    NETWORK_ERROR = "network_error"
    API_RATE_LIMITED = "api_rate_limited"
    SERVICE_UNAVAILABLE = "service_unavailable"
    AUTHENTICATION_FAILED = "authentication_failed"
    PERMISSION_ERROR = "permission_error"
    QUOTA_EXCEEDED = "quota_exceeded"
    INVALID_HGVS = "invalid_hgvs"
    REFERENCE_MISMATCH = "reference_mismatch"
    VRS_MAPPING_FAILED = "vrs_mapping_failed"
    TRANSCRIPT_NOT_FOUND = "transcript_not_found"
    UNKNOWN = "unknown"


#: Another try may end differently; every other category would fail the same way again.
RETRYABLE = frozenset(
    {
        FailureCategory.NETWORK_ERROR,
        FailureCategory.TIMEOUT,
        FailureCategory.SERVICE_UNAVAILABLE,
        FailureCategory.API_RATE_LIMITED,
        FailureCategory.SCHEDULING_ERROR,
    }
)


def category_of_status(status_code: int) -> FailureCategory:
    """The category of an HTTP status that is an error whatever the service."""
    match status_code:
        case 401:
            return FailureCategory.AUTHENTICATION_FAILED
        case 403:
            return FailureCategory.PERMISSION_ERROR
        case 408 | 504:
            return FailureCategory.TIMEOUT
        case 429:
            return FailureCategory.API_RATE_LIMITED
        case 404 | 405:
            return FailureCategory.CONFIGURATION_ERROR
        case code if code >= 500:
            return FailureCategory.SERVICE_UNAVAILABLE
        case _:
            return FailureCategory.DATA_ERROR


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended badly, as it is stored.

    `details` holds one text for each offending row of an upload. `traceback` is None where the
    cause is a user's mistake, whose place is in the message.
    """

    category: FailureCategory
    message: str
    details: tuple[str, ...] = ()
    traceback: str | None = None

    @property
    def retryable(self) -> bool:
        return self.category in RETRYABLE


def classify(error: BaseException) -> Failure:
    """The failure that an exception stands for."""
    category = _category(error)
    is_users_mistake = category is FailureCategory.VALIDATION_ERROR
    return Failure(
        category=category,
        message=str(error) or type(error).__name__,
        details=tuple(getattr(error, "details", ())),
        traceback=None if is_users_mistake else "".join(traceback.format_exception(error)),
    )


def _category(error: BaseException) -> FailureCategory:
    stated = getattr(error, "category", None)
    if isinstance(stated, FailureCategory):
        return stated
    match error:
        case TimeoutError() | httpx.TimeoutException() | PoolTimeoutError():
            return FailureCategory.TIMEOUT
        case httpx.HTTPStatusError():
            return category_of_status(error.response.status_code)
        case httpx.TransportError() | OperationalError() | DisconnectionError() | InterfaceError():
            return FailureCategory.NETWORK_ERROR
        case PermissionError():
            return FailureCategory.PERMISSION_ERROR
        case FileNotFoundError():
            return FailureCategory.DATA_ERROR
        case MemoryError():
            return FailureCategory.RESOURCE_EXHAUSTION
        case OSError():
            return FailureCategory.NETWORK_ERROR
        case _:
            return FailureCategory.UNKNOWN
