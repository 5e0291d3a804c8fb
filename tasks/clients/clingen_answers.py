"""What every answer of ClinGen's Allele Registry has in common: alleles' ids and errors."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from mavedb_audit.errors import ServiceError
from mavedb_audit.failures import FailureCategory, category_of_status
from tasks.clients.http import retry_after_seconds

SERVICE = "ClinGen Allele Registry"

_CATEGORIES = {
    "AuthorizationError": FailureCategory.AUTHENTICATION_FAILED,
    "SystemInReadOnlyMode": FailureCategory.SERVICE_UNAVAILABLE,
    "RequestTerminated": FailureCategory.SERVICE_UNAVAILABLE,
    "InternalServerError": FailureCategory.SERVICE_UNAVAILABLE,
}
_ALLELE_ID = re.compile(r"(?:CA|PA)[0-9]+")


def is_allele_id(text: str) -> bool:
    """CA… is a nucleotide allele, PA… a protein allele."""
    return _ALLELE_ID.fullmatch(text) is not None


def allele_id_of(uri: object) -> str | None:
    """The id at the end of an allele's URI; None for an unregistered one (_:CA)."""
    allele_id = str(uri).rpartition("/")[2]
    return allele_id if is_allele_id(allele_id) else None


def current_uri_of(allele: Mapping[str, Any]) -> object:
    """The URI of an allele or, where it was merged into exactly one other, of that one."""
    current = allele.get("activeUris")
    if isinstance(current, list) and len(current) == 1:
        return current[0]
    return allele.get("@id")


def lines_of(element: Any) -> Iterator[str]:
    """Every HGVS that an allele is written as, or the line that an error is about."""
    if not isinstance(element, dict):
        return
    if isinstance(element.get("inputLine"), str):
        yield element["inputLine"]
    for kind in ("genomicAlleles", "transcriptAlleles", "aminoAcidAlleles"):
        for allele in _listed(element.get(kind)):
            if isinstance(allele, dict):
                yield from (h for h in _listed(allele.get("hgvs")) if isinstance(h, str))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def json_of(response: httpx.Response) -> Any:
    """The answer's content, None where it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def error_type_of(answer: Any) -> str | None:
    """The type of an answer that is an error, or of an element of an answer that is one."""
    error_type = answer.get("errorType") if isinstance(answer, dict) else None
    return error_type if isinstance(error_type, str) else None


def describe(error: Mapping[str, Any]) -> str:
    """In some answers inputLine and message are swapped, so both are shown."""
    text = f"{error['errorType']}: {error.get('message') or error.get('description') or ''}"
    return f"{text} ({error['inputLine']})" if error.get("inputLine") else text


def refusal(response: httpx.Response, error: Mapping[str, Any]) -> ServiceError:
    """The ServiceError for a request that was answered with an error as a whole."""
    return ServiceError(
        SERVICE,
        describe(error),
        _CATEGORIES.get(error["errorType"]) or category_of_status(response.status_code),
        status_code=response.status_code,
        retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After")),
    )
