"""MaveDB's failure categories: apart from what tells them, which needs the database's driver."""

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
