"""What went wrong, as one of MaveDB's failure categories, and whether another try is worth it."""

from enum import StrEnum


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
