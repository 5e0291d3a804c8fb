"""The VRS mapper (dcd_mapping2): one silent call a score set, answered when all is done.

The mapper reads the score set back from MaveDB's API, so its variants must be committed before.
Closing the connection does not stop the mapper: a resend doubles its load, so nothing here
tries twice.
"""

import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import NoneType
from typing import IO, Any
from urllib.parse import quote

import httpx
import ijson

from mavedb_audit.errors import ServiceError, StepError
from mavedb_audit.failures import FailureCategory
from mavedb_audit.texts import storable
from tasks.clients.bounds import AnswerTooSlowError
from tasks.clients.http import Client, excerpt, raise_for_status, tls, transport_error

SERVICE = "VRS mapper"

#: MaveDB's own texts for scoresets.mapping_errors.
NO_RESULTS = "Mapping results were not returned from VRS mapping service."
NO_REFERENCES = "Reference metadata missing from mapping results."

_LONGEST_CALL_SECONDS = 22 * 3600.0
#: Its answers have some kilobytes a variant, and are kept on disk.
_MOST_BYTES = 8 * 1024**3
#: What a mapped score holds beside mavedb_id, as far as it is read; each may be missing.
_FIELDS = {
    "pre_mapped": (dict, NoneType),
    "post_mapped": (dict, NoneType),
    "vrs_version": (str, NoneType),
    "error_message": (str, NoneType),
    "outcome": (str, NoneType),
}
#: What is needed of an answer beside its scores, under any one of each line's names.
_NEEDED = (
    ("reference_sequences",),
    ("mapped_date_utc", "mapped_date"),
    ("dcd_mapping_version", "target_mappings"),
)
_LAYERS = {"g": "genomic", "p": "protein", "c": "cdna"}

# A proxy or firewall forgets a connection that is silent for hours.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 10))
    if hasattr(socket, name)
]


@dataclass(frozen=True)
class MappedScore:
    """What the mapper says of one variant. `outcome` is given by mappers of 2026 only.

    Where its record is no such thing, `is_malformed` is set and `error_message` shows it. A record
    that names no variant has nothing else, either.
    """

    variant_urn: str | None
    pre_mapped: dict[str, Any] | None
    post_mapped: dict[str, Any] | None
    vrs_version: str | None
    error_message: str | None
    outcome: str | None
    is_malformed: bool = False


@dataclass(frozen=True)
class TargetReference:
    """What MaveDB stores in target_genes, by the target's name.

    `target_name` is "" in answers of mappers of 2024: the score set's only target.
    """

    target_name: str
    hgnc_symbol: str | None
    pre_mapped_metadata: dict[str, Any]
    post_mapped_metadata: dict[str, Any]


@dataclass(frozen=True)
class MappingResult:
    """An answer that has scores. `scores()` reads from a file, which its user keeps open."""

    mapped_date: date
    mapper_version: str
    references: tuple[TargetReference, ...]
    _body: IO[bytes] = field(repr=False)

    def scores(self) -> Iterator[MappedScore]:
        """The mapped scores in the mapper's order, one at a time; may be iterated again.

        Raises ServiceError where the answer breaks off, and at its end where no score named a
        variant.
        """
        return _scores(self._body)


@contextmanager
def map_score_set(
    base_url: str,
    score_set_urn: str,
    variant_count: int,
    *,
    connect_timeout: float,
    base_timeout: float,
    timeout_per_variant: float,
) -> Iterator[MappingResult]:
    """Has the mapper map a score set, and waits for it. Time-outs are in seconds.

    Raises StepError with VRS_MAPPING_FAILED, and text that a curator reads, where the mapper
    refuses the score set as a whole; ServiceError where the call itself went wrong.
    """
    budget = min(base_timeout + timeout_per_variant * variant_count, _LONGEST_CALL_SECONDS)
    url = f"{base_url.rstrip('/')}/api/v1/map/{quote(score_set_urn, safe=':')}"
    with tempfile.TemporaryFile() as body:
        _download(url, body, budget=budget, connect_timeout=connect_timeout)
        yield read_answer(body)


def read_answer(body: IO[bytes]) -> MappingResult:
    """What a mapper answered, from a file. Raises as `map_score_set` does.

    Of an answer whose scores come last, as mappers write it, no score is read yet.
    """
    head, has_scores = _head(body)
    if not has_scores:
        message = head.get("error_message")
        raise StepError(
            _unquoted(str(message)) if message else NO_RESULTS, FailureCategory.VRS_MAPPING_FAILED
        )
    try:
        references, version = tuple(_references(head)), _version(head)
    except (AttributeError, TypeError) as error:
        raise _unreadable(f"what it says of its targets has another shape ({error})") from error
    if not references:
        for _ in _scores(body):  # those of another mapper name no variant, and have no references
            pass
        raise StepError(NO_REFERENCES, FailureCategory.VRS_MAPPING_FAILED)
    return MappingResult(_mapped_date(head), version, references, body)


def _scores(body: IO[bytes]) -> Iterator[MappedScore]:
    body.seek(0)
    count = named_count = 0
    try:
        for record in ijson.items(body, "mapped_scores.item", use_float=True):
            score = _score(record)
            count += 1
            named_count += score.variant_urn is not None
            yield score
    except ijson.JSONError as error:
        raise _broken(error) from None
    if not named_count:
        raise ServiceError(
            SERVICE,
            f"none of {count} mapped scores carries a mavedb_id: this "
            "is the format of an older or another mapper. DCD_MAPPING_URL must point to "
            "dcd_mapping2 of version 2024.1 or newer.",
            FailureCategory.DATA_ERROR,
        )


def _score(record: Any) -> MappedScore:
    urn = record.get("mavedb_id") if isinstance(record, dict) else None
    if not isinstance(urn, str):
        return MappedScore(None, None, None, None, None, None)
    for name, kinds in _FIELDS.items():
        if not isinstance(record.get(name) or None, kinds):
            shown = f"Its {name} is {excerpt(str(record[name]))}"
            return MappedScore(urn, None, None, None, shown, None, is_malformed=True)
    return MappedScore(
        variant_urn=urn,
        pre_mapped=record.get("pre_mapped") or None,
        post_mapped=record.get("post_mapped") or None,
        vrs_version=storable(record.get("vrs_version") or "") or None,
        error_message=record.get("error_message"),
        outcome=record.get("outcome"),
    )


def _download(url: str, body: IO[bytes], *, budget: float, connect_timeout: float) -> None:
    began = time.monotonic()
    timeout = httpx.Timeout(budget, connect=connect_timeout)
    transport = httpx.HTTPTransport(verify=tls(), socket_options=_KEEPALIVE)
    try:
        with (
            Client(SERVICE, transport=transport, timeout=timeout, most_bytes=_MOST_BYTES) as client,
            client.stream("POST", url) as response,
        ):
            if not response.is_success:
                response.read()
                _refuse(response, seconds=time.monotonic() - began, budget=budget)
            for piece in response.iter_bytes():
                body.write(piece)
    except httpx.InvalidURL as error:
        raise ServiceError(
            SERVICE,
            f"DCD_MAPPING_URL is not a URL ({error}); it must look like http://dcd-mapping:8000.",
            FailureCategory.CONFIGURATION_ERROR,
        ) from None
    except AnswerTooSlowError as error:
        raise transport_error(SERVICE, error) from error
    except httpx.ReadTimeout:
        raise ServiceError(
            SERVICE,
            f"no answer within {budget:.0f} s. The mapper goes on working: rerun the step later, "
            "or raise MAPPER_BASE_TIMEOUT_SECONDS or MAPPER_TIMEOUT_SECONDS_PER_VARIANT.",
            FailureCategory.TIMEOUT,
        ) from None
    except httpx.DecodingError as error:
        raise _unreadable(f"its compression is broken ({error})") from None
    except httpx.TransportError as error:
        raise transport_error(SERVICE, error) from error


def _refuse(response: httpx.Response, *, seconds: float, budget: float) -> None:
    """Raises for a status that is not 2xx, by what the mapper says."""
    status, detail = response.status_code, _detail(response)
    match status:
        case 404 | 405:
            category = FailureCategory.CONFIGURATION_ERROR
            text = (
                f"HTTP {status}: there is no mapper at {response.url.copy_with(path='')}; "
                "check DCD_MAPPING_URL (the base URL, without /api)."
            )
        case 422:
            category = FailureCategory.SYSTEM_ERROR
            text = f"HTTP 422, it does not accept the request, which is a bug of ours: {detail}"
        case 502 | 504:
            category = FailureCategory.CONFIGURATION_ERROR
            text = (
                f"HTTP {status} after {seconds:.0f} s from a proxy in front of the mapper: "
                f"{detail}. Its read time-out must be above {budget:.0f} s (proxy_read_timeout in "
                "nginx). The mapper may still be working: do not rerun the step at once."
            )
        case 500 if "Unable to acquire resource from MaveDB" in detail:
            category = FailureCategory.SERVICE_UNAVAILABLE
            text = (
                f"it cannot read the score set from MaveDB's API: {detail}. Check that the API "
                "is up, and the mapper's MAVEDB_BASE_URL and MAVEDB_API_KEY."
            )
        case 500 if "BLAT command" in detail or "resource could not be acquired" in detail:
            category = FailureCategory.CONFIGURATION_ERROR
            text = f"the mapper at DCD_MAPPING_URL is not set up completely: {detail}"
        case 500:
            category = FailureCategory.SERVICE_UNAVAILABLE
            text = f"HTTP 500: {detail}"
        case _:
            raise_for_status(SERVICE, response)
            return
    raise ServiceError(SERVICE, text, category, status_code=status)


def _detail(response: httpx.Response) -> str:
    """FastAPI's `detail`, or a short piece of whatever else came."""
    try:
        content = response.json()
    except ValueError:
        return excerpt(response.text)
    detail = content.get("detail") if isinstance(content, dict) else content
    return excerpt(detail if isinstance(detail, str) else str(detail)).rstrip(".")


def _head(body: IO[bytes]) -> tuple[dict[str, Any], bool]:
    """(top-level values but mapped_scores and metadata, whether there are scores).

    It is read to its end only where something that is needed does not come before the scores.
    """
    body.seek(0)
    start = body.read(64).lstrip()
    if not start:
        return {}, False
    if start.startswith(b"<"):
        body.seek(0)
        page = excerpt(body.read(4096).decode(errors="replace"))
        raise ServiceError(
            SERVICE,
            f"DCD_MAPPING_URL is answered by a web page, not by a mapper: {page}",
            FailureCategory.CONFIGURATION_ERROR,
        )
    body.seek(0)
    builder = ijson.ObjectBuilder()
    has_scores = False
    try:
        for prefix, event, value in ijson.parse(body, use_float=True):
            if not prefix.startswith(("mapped_scores", "metadata")):
                builder.event(event, value)
            elif prefix == "mapped_scores.item" and not has_scores:
                has_scores = True
                if all(any(map(builder.value.get, names)) for names in _NEEDED):
                    break
    except ijson.JSONError as error:
        raise _broken(error) from None
    if builder.value is None:
        return {}, False
    if not isinstance(builder.value, dict):
        raise _unreadable(f"it is a JSON {type(builder.value).__name__} instead of an object")
    return builder.value, has_scores


def _references(head: Mapping[str, Any]) -> Iterator[TargetReference]:
    if head.get("reference_sequences"):
        for name, target in head["reference_sequences"].items():
            # Mappers of 2025.1 have the layers directly under the target.
            yield _reference(name, target.get("layers") or target, target.get("gene_info") or {})
        return
    layers: dict[str, Any] = {}
    for layer, long_name in _LAYERS.items():
        for kind in ("computed", "mapped"):
            if reference := head.get(f"{kind}_{long_name}_reference_sequence"):
                layers.setdefault(layer, {})[f"{kind}_reference_sequence"] = reference
    if layers:
        yield _reference("", layers, {})


def _reference(
    name: str, layers: Mapping[str, Any], gene_info: Mapping[str, Any]
) -> TargetReference:
    pre_mapped: dict[str, Any] = {}
    post_mapped: dict[str, Any] = {}
    if selection_method := gene_info.get("selection_method"):
        post_mapped["hgnc_name_selection_method"] = selection_method
    for layer, long_name in _LAYERS.items():
        references = layers.get(layer) or {}
        if computed := references.get("computed_reference_sequence"):
            pre_mapped[long_name] = {k: v for k, v in computed.items() if k != "sequence"}
        if mapped := references.get("mapped_reference_sequence"):
            post_mapped[long_name] = mapped
    return TargetReference(name, gene_info.get("hgnc_symbol"), pre_mapped, post_mapped)


def _mapped_date(head: Mapping[str, Any]) -> date:
    text = head.get("mapped_date_utc") or head.get("mapped_date")
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        raise _unreadable(f"its date {text!r} is not an ISO date") from None


def _version(head: Mapping[str, Any]) -> str:
    """The mapper's version; mappers of 2026 give it once for each target and level."""
    versions = [head.get("dcd_mapping_version")] + [
        mapping.get("tool_version") for mapping in head.get("target_mappings") or []
    ]
    return next((storable(str(version)) for version in versions if version), "unknown")


def _unquoted(message: str) -> str:
    """The mapper prints some errors as Python's KeyError does, in quotes."""
    if len(message) > 1 and message[0] in "'\"" and message[-1] == message[0]:
        return message[1:-1]
    return message


def _broken(error: ijson.JSONError) -> ServiceError:
    return _unreadable(f"it breaks off or is not JSON ({excerpt(str(error))})")


def _unreadable(why: str) -> ServiceError:
    return ServiceError(
        SERVICE,
        f"the answer cannot be read: {why}. Look into the mapper's log before a rerun.",
        FailureCategory.DATA_ERROR,
    )
