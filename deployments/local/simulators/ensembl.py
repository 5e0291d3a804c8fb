"""The simulator of Ensembl's REST server: VEP for HGVS, the Variant Recoder, and /info.

Besides the generic fault kinds it knows, of notations that hold the fault's `body` or, without one,
of every second: omit, error_entry, input_only (an entry of nothing but its input), garbled (an
entry whose consequences are no such thing) and stray (an entry of something that was not asked
instead). And: release (`body` is its number), first_bad (one bad notation, and the whole request is
answered 400) and too_slow (504 for more than 50 notations).
"""

import json
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from deployments.local.simulators.ensembl_variants import Json, Variation, entries, read, recode
from deployments.local.simulators.faults import attach_faults, own_fault
from tasks.clients.vep_answers import SEVERITY

OWN_KINDS = frozenset(
    {
        *("omit", "error_entry", "input_only", "garbled", "stray"),
        *("release", "first_bad", "too_slow"),
    }
)
RELEASE = 116

_PERIOD_SECONDS = 3600
_MOST_IN_TIME = 50
_TOO_LARGE = (
    "POST message too large. You have submitted {sent} elements but a limit of {limit} is in"
    " place. Request smaller regions or lists of IDs"
)
_NO_KEY = (
    ' Cannot find "{key}" key in your POST. Please check the format of your message against the'
    " documentation"
)
_GATEWAY = "<html><head><title>504 Gateway Time-out</title></head><body></body></html>"


class _Limits:
    """How many requests an address may send in an hour and in a second. Thread-safe."""

    def __init__(self, a_second: int, an_hour: int) -> None:
        self._lock = threading.Lock()
        self._a_second, self._an_hour = a_second, an_hour
        self._second = self._hour = (0, 0)

    def take(self, now: float) -> tuple[str | None, dict[str, str]]:
        """What an excessive request is told, if this is one, and the headers of its answer."""
        with self._lock:
            self._second = _counted(self._second, int(now))
            self._hour = _counted(self._hour, int(now) // _PERIOD_SECONDS)
            left = self._an_hour - self._hour[1]
            reset = _PERIOD_SECONDS - now % _PERIOD_SECONDS
            headers = {
                "X-RateLimit-Limit": str(self._an_hour),
                "X-RateLimit-Period": str(_PERIOD_SECONDS),
                "X-RateLimit-Remaining": str(max(0, left)),
                "X-RateLimit-Reset": str(math.ceil(reset)),
            }
            if left < 0:
                return (
                    f"You have exceeded your limit which is {self._an_hour:,} requests per hour"
                    f" (~{self._a_second} per second)"
                ), headers | {"Retry-After": str(math.ceil(reset))}
            if self._second[1] > self._a_second:
                return (
                    f"You have exceeded the limit of {self._a_second} requests per second; please"
                    " reduce your concurrent connections"
                ), headers | {"Retry-After": "1.0"}
            return None, headers


def _counted(window: tuple[int, int], now: int) -> tuple[int, int]:
    return (now, window[1] + 1) if window[0] == now else (now, 1)


def create_app(
    captured: Iterable[Json] = (),
    *,
    most_notations: int = 200,
    requests_a_second: int = 15,
    requests_an_hour: int = 55_000,
) -> FastAPI:
    """A server whose answers follow from the HGVS that it is asked about.

    `captured` are entries of VEP and objects of the Variant Recoder as Ensembl writes them, which
    are given for what they name as their input.
    """
    app = FastAPI(title="Ensembl REST (simulator)")
    limits = _Limits(requests_a_second, requests_an_hour)
    consequences, recoded = _by_input(captured)

    @app.middleware("http")
    async def limited(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path.startswith("/simulator/"):
            return await call_next(request)
        excess, headers = limits.take(time.time())
        response = (
            Response(excess, 429, media_type="text/plain") if excess else await call_next(request)
        )
        response.headers.update(headers)
        return response

    attach_faults(app, OWN_KINDS)

    @app.get("/info/software")
    def software(request: Request) -> Json:
        return {"release": _release(request)}

    @app.get("/info/data")
    def data(request: Request) -> Json:
        return {"releases": [_release(request)]}

    @app.get("/info/rest")
    def rest() -> Json:
        return {"release": "15.11"}

    @app.get("/info/ping")
    def ping() -> Json:
        return {"ping": 1}

    @app.get("/info/variation/consequence_types")
    def consequence_types() -> list[Json]:
        ranked = enumerate(SEVERITY.split(), start=1)
        return [{"SO_term": term, "consequence_ranking": str(rank)} for rank, term in ranked]

    @app.get("/vep/human/hgvs/{notation}")
    def one(request: Request, notation: str, refseq: int = 0) -> Response:
        return _consequences(request, [notation], consequences, refseq=bool(refseq))

    @app.post("/vep/human/hgvs")
    @app.post("/vep/homo_sapiens/hgvs")
    async def many(request: Request) -> Response:
        message = await _message(request, "hgvs_notations", most_notations)
        if isinstance(message, Response):
            return message
        refseq = message.get("refseq", request.query_params.get("refseq"))
        notations = message["hgvs_notations"]
        return _consequences(request, notations, consequences, refseq=str(refseq) == "1")

    @app.post("/variant_recoder/human")
    async def recoder(request: Request) -> Response:
        message = await _message(request, "ids", most_notations)
        if isinstance(message, Response):
            return message
        return _recoded(message["ids"], recoded)

    @app.exception_handler(404)
    async def not_found(_request: Request, _error: Exception) -> Response:
        return _refusal(
            "page not found. Please check your uri and refer to our documentation"
            " https://rest.ensembl.org/",
            404,
        )

    return app


def _release(request: Request) -> int:
    fault = own_fault(request)
    return int(fault.body or RELEASE) if fault and fault.kind == "release" else RELEASE


async def _message(request: Request, key: str, most: int) -> Json | Response:
    try:
        message = json.loads(await request.body())
    except ValueError:
        return _refusal("malformed JSON string in the body of your POST")
    if not isinstance(message, dict) or not isinstance(message.get(key), list):
        return _refusal(_NO_KEY.format(key=key))
    if len(message[key]) > most:
        return _refusal(_TOO_LARGE.format(sent=len(message[key]), limit=most))
    fault = own_fault(request)
    if fault and fault.kind == "too_slow" and len(message[key]) > _MOST_IN_TIME:
        return Response(_GATEWAY, 504, media_type="text/html")
    return message


def _by_input(captured: Iterable[Json]) -> tuple[dict[str, list[Json]], dict[str, Json]]:
    """VEP's entries, and the Variant Recoder's objects, whose alleles hold the input."""
    consequences: dict[str, list[Json]] = defaultdict(list)
    recoded: dict[str, Json] = {}
    for content in captured:
        if "most_severe_consequence" in content:
            consequences[content["input"]].append(content)
        else:
            recoded |= {allele["input"]: content for allele in content.values()}
    return consequences, recoded


def _consequences(
    request: Request,
    notations: Sequence[str],
    captured: Mapping[str, Sequence[Json]],
    *,
    refseq: bool,
) -> Response:
    fault = own_fault(request)
    found: list[Any] = []
    warnings = []
    for number, notation in enumerate("".join(str(given).split()) for given in notations):
        variation = read(notation)
        is_hit = fault is not None and (fault.body in notation if fault.body else number % 2)
        if notation in captured:
            found += captured[notation]
        elif isinstance(variation, str):
            warnings.append(variation)
        elif fault is not None and is_hit:
            found += _falsified(fault.kind, variation, refseq)
        else:
            found += entries(variation, refseq=refseq)
    if warnings and (not found or (fault is not None and fault.kind == "first_bad")):
        return _refusal(warnings[0])
    random.Random(str(notations)).shuffle(found)
    return JSONResponse(found)


def _falsified(kind: str, variation: Variation, refseq: bool) -> list[Json]:
    usual = list(entries(variation, refseq=refseq))
    match kind:
        case "omit":
            return []
        case "error_entry":
            return [{"input": variation.notation, "error": "Switched on in the simulator."}]
        case "input_only":
            return [{"input": variation.notation}]
        case "garbled":
            return [entry | {"transcript_consequences": ["?"]} for entry in usual]
        case "stray":
            return [entry | {"input": f"{variation.notation}?"} for entry in usual]
        case _:
            return usual


def _recoded(notations: Sequence[str], captured: Mapping[str, Json]) -> Response:
    found = {notation: captured.get(notation) or recode(notation) for notation in notations}
    unread = [notation for notation, answer in found.items() if answer is None]
    if len(unread) == len(found):
        return _refusal(f"Unable to parse HGVS notation '{unread[0]}'" if unread else "No ids")
    return JSONResponse([answer for answer in found.values() if answer is not None])


def _refusal(text: str, status: int = 400) -> Response:
    return JSONResponse({"error": text}, status)
