"""Errors that a person reads: each says what is wrong, where, and what to do."""

from collections.abc import Sequence

from mavedb_audit.failure_categories import FailureCategory
from mavedb_audit.texts import storable, without_passwords


class MaveDBAuditError(Exception):
    """Base of the errors shown to people as one message, without a traceback.

    A curator's file, a service or a setting may have a part in it, so that control characters are
    replaced, and no URL in it keeps its password.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_passwords(storable(message)))


class ConfigurationError(MaveDBAuditError):
    """A setting is missing or wrong; the message names the variable and what it needs."""

    category = FailureCategory.CONFIGURATION_ERROR


class DatabaseUnreachableError(MaveDBAuditError):
    """The database of DATABASE_URL does not answer."""

    category = FailureCategory.NETWORK_ERROR


class PrefectUnreachableError(MaveDBAuditError):
    """The Prefect server of PREFECT_API_URL does not answer, or not as Prefect."""

    category = FailureCategory.NETWORK_ERROR


class SchemaError(MaveDBAuditError):
    """The database lacks a table or column that the audit needs; the message names it."""


class RequestError(MaveDBAuditError):
    """A pipeline was asked for that cannot be run: unknown name, score set or parameter."""


class NotFoundError(RequestError):
    """What was asked about is not there; the message names its URN."""


class StepError(MaveDBAuditError):
    """A step ended without doing its work, for a reason that is known.

    `details` holds one text for each offending row, for processing_errors.
    The message becomes one line: it is logged, and partly made of a file's or a service's words.
    """

    def __init__(
        self, message: str, category: FailureCategory, details: Sequence[str] = ()
    ) -> None:
        super().__init__(storable(message).replace("\n", " "))
        self.category = category
        self.details = list(details)


class ServiceError(StepError):
    """An external service refused, failed or answered something unusable.

    `retry_after_seconds` is what the service asked for in its Retry-After header.
    """

    def __init__(
        self,
        service: str,
        message: str,
        category: FailureCategory,
        *,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{service}: {message}", category)
        self.service = service
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
