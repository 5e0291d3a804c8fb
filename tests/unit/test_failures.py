"""What a failure is called, and whether it is tried again."""

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from mavedb_audit.errors import ConfigurationError, ServiceError, StepError
from mavedb_audit.failures import FailureCategory, category_of_status, classify

REQUEST = httpx.Request("GET", "http://127.0.0.1/allele/CA1")


@pytest.mark.parametrize(
    ("error", "category", "retryable"),
    [
        (httpx.ConnectError("refused"), "network_error", True),
        (httpx.ReadTimeout("slow"), "timeout", True),
        (TimeoutError(), "timeout", True),
        (
            httpx.HTTPStatusError("busy", request=REQUEST, response=httpx.Response(429)),
            "api_rate_limited",
            True,
        ),
        (OperationalError("SELECT 1", {}, Exception("gone")), "network_error", True),
        (ConnectionResetError("reset"), "network_error", True),
        (PermissionError("no"), "permission_error", False),
        (MemoryError(), "resource_exhaustion", False),
        (ConfigurationError("X is not set"), "configuration_error", False),
        (StepError("bad row", FailureCategory.VALIDATION_ERROR), "validation_error", False),
        (
            ServiceError("ClinGen", "down", FailureCategory.SERVICE_UNAVAILABLE),
            "service_unavailable",
            True,
        ),
        (IndexError("list index out of range"), "unknown", False),
    ],
)
def test_an_exception_has_one_category(error: Exception, category: str, retryable: bool) -> None:
    failure = classify(error)
    assert (failure.category, failure.retryable) == (category, retryable)
    assert failure.message


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (401, "authentication_failed"),
        (403, "permission_error"),
        (404, "configuration_error"),
        (408, "timeout"),
        (422, "data_error"),
        (429, "api_rate_limited"),
        (500, "service_unavailable"),
        (503, "service_unavailable"),
        (504, "timeout"),
    ],
)
def test_an_http_status_has_one_category(status: int, category: str) -> None:
    assert category_of_status(status) == category


def test_a_users_mistake_has_no_traceback_and_a_bug_has_one() -> None:
    mistake = classify(StepError("line 3", FailureCategory.VALIDATION_ERROR, ["line 3: score"]))
    assert mistake.traceback is None
    assert mistake.details == ("line 3: score",)
    with pytest.raises(ZeroDivisionError) as bug:
        _divide(1, 0)
    assert "in _divide" in (classify(bug.value).traceback or "")


def _divide(dividend: int, divisor: int) -> float:
    return dividend / divisor
