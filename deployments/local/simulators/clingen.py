"""The simulator of ClinGen's Allele Registry.

Besides the generic fault kinds it knows: read_only (no registering during maintenance),
terminated (half of the answers, and an error after them), short (one answer too few), rejected (the
first half of the alleles), shuffled (the answers of a batch in another order), too_large,
wrong_account and internal_error (as the whole answer).
"""

import hashlib
import hmac
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response

from deployments.local.simulators.clingen_alleles import (
    Expression,
    Json,
    allele_uri,
    describe,
    error,
    merged_into,
    protein_consequence,
    read,
    simulated_allele_id,
)
from deployments.local.simulators.faults import attach_faults, own_fault

OWN_KINDS = frozenset(
    {
        "read_only",
        "terminated",
        "short",
        "rejected",
        "shuffled",
        "too_large",
        "wrong_account",
        "internal_error",
    }
)

_MAX_RECORDS = 10_000
_TOKEN_WINDOW_SECONDS = 43_200
_STATUS = {
    "NotFound": 404,
    "AuthorizationError": 403,
    "InternalServerError": 500,
    "ProteinVariantTooLong": 500,
    "RequestTerminated": 500,
    "SystemInReadOnlyMode": 500,
}
_NO_PRIVILEGES = "You have no privileges to send HTTP PUT requests."
_NO_USER = "There is no user with given login"
_WRONG_PASSWORD = "Wrong password"
_WINDOW_EXPIRED = (
    "The time window for the token has expired. Is your system clock approximately correct? "
    "Server time is {now}."
)

OnRegister = Callable[[list[tuple[str, str]]], None]


class _Alleles:
    """The registry's content: seeds as they were captured, and what was registered since."""

    def __init__(self, seeds: Iterable[Json]) -> None:
        self._seeds: dict[tuple[str, int], Json] = {}
        self._seed_of_hgvs: dict[str, Json] = {}
        self._expressions: dict[tuple[str, int], tuple[str, Expression]] = {}
        self._transcripts_of_protein: dict[str, list[str]] = defaultdict(list)
        for seed in seeds:
            self._seeds[_key(_id_of(seed))] = seed
            for group in ("genomicAlleles", "transcriptAlleles", "aminoAcidAlleles"):
                for allele in seed.get(group, []):
                    self._seed_of_hgvs |= dict.fromkeys(allele["hgvs"], seed)

    def by_id(self, allele_id: str) -> Json | None:
        """Ids are numbers: CA25094 finds CA025094."""
        key = _key(allele_id)
        if key in self._seeds:
            return self._seeds[key]
        current = merged_into(allele_id)
        if current is not None and _key(current) in self._expressions:
            uri = allele_uri(self._expressions[_key(current)][0])
            return {"@id": allele_uri(allele_id), "type": "nucleotide", "activeUris": [uri]}
        if key not in self._expressions:
            return None
        own_id, expression = self._expressions[key]
        return describe(own_id, expression, self._transcripts_of_protein[own_id])

    def by_hgvs(self, line: str, *, register: bool) -> Json:
        """The allele of one line, or its error; an unregistered one has an id without a number."""
        if line in self._seed_of_hgvs:
            return self._seed_of_hgvs[line]
        expression = read(line)
        if not isinstance(expression, Expression):
            return expression
        if expression.hgvs in self._seed_of_hgvs:
            return self._seed_of_hgvs[expression.hgvs]
        allele_id = simulated_allele_id(expression)
        if register:
            self._register(allele_id, expression)
        found = self.by_id(allele_id)
        if found is not None:
            return found
        return describe(allele_id, expression, []) | {"@id": f"_:{allele_id[:2]}"}

    def _register(self, allele_id: str, expression: Expression) -> None:
        # Two HGVS with one number would be two spellings of one allele: the first one stays.
        self._expressions.setdefault(_key(allele_id), (allele_id, expression))
        protein = protein_consequence(expression)
        if protein is not None:
            protein_id = simulated_allele_id(protein)
            self._expressions.setdefault(_key(protein_id), (protein_id, protein))
            transcripts = self._transcripts_of_protein[protein_id]
            if allele_id not in transcripts:
                transcripts.append(allele_id)


def create_app(
    account_name: str,
    account_password: str,
    seed_alleles: Iterable[Json] = (),
    *,
    max_records: int = _MAX_RECORDS,
    on_register: OnRegister | None = None,
) -> FastAPI:
    """A registry of one account. `seed_alleles` are alleles as the registry writes them.

    `on_register` gets the (HGVS, allele id) pairs of each request that registers, before it is
    answered.
    """
    app = FastAPI(title="ClinGen Allele Registry (simulator)")
    attach_faults(app, OWN_KINDS)
    alleles = _Alleles(seed_alleles)

    @app.put("/alleles")
    def register(request: Request, lines: Lines, file: str = "") -> Response:
        refusal = _refused(request, account_name, account_password) or _fault(request)
        if refusal is None and file != "hgvs":
            refusal = error("IncorrectRequest", f"Cannot register a file of {file!r}.")
        if refusal := refusal or _too_large(lines, max_records):
            return _single(refusal)
        elements = [alleles.by_hgvs(line, register=True) for line in lines]
        if on_register is not None:
            pairs = zip(lines, elements, strict=True)
            on_register([(line, _id_of(found)) for line, found in pairs if "@id" in found])
        return _answer(_falsified(request, elements))

    @app.post("/alleles")
    def look_up(request: Request, lines: Lines, file: str = "") -> Response:
        if refusal := _fault(request) or _too_large(lines, max_records):
            return _single(refusal)
        match file:
            case "hgvs":
                elements = [alleles.by_hgvs(line, register=False) for line in lines]
            case "id":
                elements = [_by_id(alleles, line) for line in lines]
            case _:
                return _single(error("IncorrectRequest", f"Unknown type of file: {file!r}."))
        return _answer(_falsified(request, elements))

    @app.get("/alleles")
    def query() -> Response:
        return _answer([])

    @app.get("/allele/{allele_id}")
    def by_id(request: Request, allele_id: str) -> Response:
        return _single(_fault(request) or _by_id(alleles, allele_id))

    @app.get("/allele")
    def by_hgvs(request: Request, hgvs: str) -> Response:
        return _single(_fault(request) or alleles.by_hgvs(hgvs, register=False))

    return app


async def _lines(request: Request) -> list[str]:
    """A blank line is a record; an end of line after the last record is not."""
    text = (await request.body()).decode()
    return re.split(r"\r\n|\n|\r", re.sub(r"(\r\n|\n|\r)\Z", "", text))


Lines = Annotated[list[str], Depends(_lines)]


def _refused(request: Request, account_name: str, account_password: str) -> Json | None:
    """The registry's check of the token over the URL as it was sent, not as it was decoded."""
    raw = request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode()
    given = {
        name: request.query_params[name]
        for name in ("gbLogin", "gbTime", "gbToken")
        if name in request.query_params
    }
    if not given:
        return error("AuthorizationError", _NO_PRIVILEGES)
    if len(given) < 3 or not given["gbTime"].isdigit():
        return error("IncorrectRequest", "gbLogin, gbTime and gbToken belong together.")
    now = int(time.time())
    if abs(now - int(given["gbTime"])) > _TOKEN_WINDOW_SECONDS:
        return error("AuthorizationError", _WINDOW_EXPIRED.format(now=now))
    if given["gbLogin"] != account_name:
        return error("AuthorizationError", _NO_USER)
    signed_part = re.split(r"&gb(?:Login|Time|Token)=", raw)[0]
    identity = _sha1(account_name + account_password)
    for scheme in ("http", "https"):
        url = f"{scheme}://{request.headers['host']}{signed_part}"
        if hmac.compare_digest(_sha1(url + identity + given["gbTime"]), given["gbToken"]):
            return None
    return error("AuthorizationError", _WRONG_PASSWORD)


def _fault(request: Request) -> Json | None:
    fault = own_fault(request)
    match fault.kind if fault else None:
        case "read_only":
            return error("SystemInReadOnlyMode", "The system is in read-only mode.")
        case "too_large":
            return error("RequestTooLarge", "Too many records in the request.")
        case "wrong_account":
            return error("AuthorizationError", _NO_USER)
        case "internal_error":
            return error("InternalServerError", "Out of database connections.")
        case _:
            return None


def _falsified(request: Request, elements: list[Json]) -> list[Json]:
    fault = own_fault(request)
    match fault.kind if fault else None:
        case "terminated":
            end = error("RequestTerminated", "The request was terminated by the client.")
            return [*elements[: len(elements) // 2], end]
        case "short":
            return elements[:-1]
        case "rejected":
            refused = error("IncorrectReferenceAllele", "Switched on in the simulator.")
            half = len(elements) // 2
            return [refused] * half + elements[half:]
        case "shuffled":
            return elements[::-1]
        case _:
            return elements


def _too_large(lines: Sequence[str], most: int) -> Json | None:
    if len(lines) <= most:
        return None
    return error("RequestTooLarge", f"The limit is {most} records, {len(lines)} were sent.")


def _by_id(alleles: _Alleles, allele_id: str) -> Json:
    if not re.fullmatch(r"(CA|PA)\d+", allele_id):
        message = f"An id is CA or PA and a number, not {allele_id!r}."
        return error("IncorrectRequest", message, inputLine=allele_id)
    return alleles.by_id(allele_id) or error(
        "NotFound", f"There is no allele {allele_uri(allele_id)}.", inputLine=allele_id
    )


def _single(content: Json) -> Response:
    error_type = content.get("errorType")
    return _answer(content, _STATUS.get(error_type, 400) if error_type else 200)


def _answer(content: Any, status: int = 200) -> Response:
    return Response(
        json.dumps(content),
        status,
        headers={"X-CAR-Version": "1.04"},
        media_type="application/json",
    )


def _id_of(allele: Json) -> str:
    return str(allele["@id"]).rpartition("/")[2]


def _key(allele_id: str) -> tuple[str, int]:
    return allele_id[:2], int(allele_id[2:])


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()
