"""What went wrong, as one of MaveDB's failure categories, and whether another try is worth it."""

import traceback
from dataclasses import dataclass

import httpx
import psycopg
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mavedb_audit.failure_categories import FailureCategory
from mavedb_audit.texts import storable

__all__ = ["RETRYABLE", "Failure", "FailureCategory", "category_of_status", "classify"]

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
    return Failure(
        category=category,
        message=storable(_message(error)),
        details=tuple(storable(detail) for detail in getattr(error, "details", ())),
        traceback=None
        if category in _PEOPLES_MISTAKES
        else storable("".join(traceback.format_exception(error))),
    )


#: Mended by whoever uploads or configures; the message names the place, and no code is at fault.
_PEOPLES_MISTAKES = frozenset(
    {FailureCategory.VALIDATION_ERROR, FailureCategory.CONFIGURATION_ERROR}
)


def _message(error: BaseException) -> str:
    """What the error says. Of the database's its own words, not the statement and its values."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return said.strip() or type(error).__name__


def _category(error: BaseException) -> FailureCategory:
    stated = getattr(error, "category", None)
    if isinstance(stated, FailureCategory):
        return stated
    match error:
        case TimeoutError() | httpx.TimeoutException() | PoolTimeoutError():
            return FailureCategory.TIMEOUT
        case httpx.HTTPStatusError():
            return category_of_status(error.response.status_code)
        case (
            httpx.TransportError()
            | OperationalError()
            | DisconnectionError()
            | InterfaceError()
            | psycopg.OperationalError()
        ):
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
