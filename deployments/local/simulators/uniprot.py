"""The simulator of UniProt's id mapping.

It knows the proteins that the simulated mapper maps to. Besides the generic fault kinds it knows,
when a job is submitted: limit_exceeded and server_error (it ends in ERROR) and silent (it ends
without a word on its ids); when one is asked after: unfinished (it runs on), expired (it is gone)
and plain_finished (200 instead of 303); and when results are read: ambiguous, unreviewed, withdrawn
and not_found (of every id) and garbled (an entry that is none).
"""

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from deployments.local.simulators.faults import attach_faults, own_fault

OWN_KINDS = frozenset(
    {
        *("limit_exceeded", "server_error", "silent"),
        *("unfinished", "expired", "plain_finished"),
        *("ambiguous", "unreviewed", "withdrawn", "not_found", "garbled"),
    }
)

_ERRORS = ("limit_exceeded", "server_error")
#: Jobs that are run anew when they are submitted again.
_RUN_ANEW = (*_ERRORS, "silent")

DATABASES = ("RefSeq_Protein", "RefSeq_Nucleotide", "Ensembl_Protein", "Ensembl_Transcript")
_TO = ("UniProtKB", "UniProtKB-Swiss-Prot")
_MOST_IDS = 100_000
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RELEASE = {
    "X-UniProt-Release": "2026_03",
    "X-UniProt-Release-Date": "10-June-2026",
    "X-API-Deployment-Date": "12-June-2026",
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """An entry of UniProtKB, and the ids that refer to it, as its cross references spell them."""

    accession: str
    name: str
    ids: tuple[str, ...]
    taxon: int = 9606
    reviewed: bool = True

    def as_json(self) -> Json:
        kind = "reviewed (Swiss-Prot)" if self.reviewed else "unreviewed (TrEMBL)"
        return {
            "entryType": f"UniProtKB {kind}",
            "primaryAccession": self.accession,
            "uniProtkbId": self.name,
            "organism": {"taxonId": self.taxon},
        }


#: UniProt's list of transcripts lags behind RefSeq's versions; of Ensembl it has no versions.
ENTRIES = (
    Entry("P04049", "RAF1_HUMAN", ("NP_002871.1", "NM_002880.3", "ENSP00000251849")),
    Entry("P04637", "P53_HUMAN", ("NP_000537.3", "NM_000546.5", "ENSP00000269305")),
    Entry("P08100", "OPSD_HUMAN", ("NP_000530.1", "NM_000539.2")),
    Entry("P12931", "SRC_HUMAN", ("NP_938033.1", "NM_198291.2", "NP_005408.1")),
    Entry("P28482", "MK01_HUMAN", ("NP_002736.3", "NM_002745.4")),
    Entry("P38398", "BRCA1_HUMAN", ("NP_009225.1", "NM_007294.3", "NP_009231.2", "NM_007300.3")),
    Entry("P46937", "YAP1_HUMAN", ("NP_001123617.1", "NM_001130145.2")),
    Entry("P60484", "PTEN_HUMAN", ("NP_000305.3", "NM_000314.6", "ENST00000371953")),
    Entry("P63165", "SUMO1_HUMAN", ("NP_003343.1", "NM_003352.4")),
    Entry("P63279", "UBC9_HUMAN", ("NP_003336.1", "NM_003345.4")),
    Entry("Q14524", "SCN5A_HUMAN", ("NP_000326.2", "NM_000335.4")),
    Entry("Q8NBP7", "PCSK9_HUMAN", ("NP_777596.2", "NM_174936.3")),
    Entry("P60713", "ACTB_SHEEP", ("NP_001009784",), 9940),
    Entry("D7RIF5", "D7RIF5_SHEEP", ("NP_001009784",), 9940, reviewed=False),
)


@dataclass
class _Job:
    """A submitted request, and how it will end; `submitted_at` by the monotonic clock."""

    ids: list[str]
    fate: str
    submitted_at: float = field(default_factory=time.monotonic)


def create_app(
    entries: Iterable[Entry] = ENTRIES, *, new_seconds: float = 0.3, running_seconds: float = 1.0
) -> FastAPI:
    """A service that knows `entries`. A job is NEW at first, then RUNNING, then FINISHED."""
    app = FastAPI(title="UniProt id mapping (simulator)")
    attach_faults(app, OWN_KINDS)
    known = tuple(entries)
    jobs: dict[str, _Job] = {}

    @app.post("/idmapping/run")
    async def run(request: Request) -> Response:
        form = {k: v[0] for k, v in parse_qs((await request.body()).decode()).items()}
        if complaints := list(_complaints(form)):
            return _refusal(request, 400, *complaints)
        job_id = _digest(form)
        job = jobs.get(job_id)
        fate = _own_kind(request)
        if fate is not None or job is None or job.fate in _RUN_ANEW:
            ids = [one.strip() for one in form["ids"].split(",")]
            jobs[job_id] = _Job(ids, fate or "finished")
        return _answer({"jobId": job_id})

    @app.get("/idmapping/status/{job_id}")
    def status(request: Request, job_id: str) -> Response:
        kind = _own_kind(request)
        if kind == "expired":
            jobs.pop(job_id, None)
        if job_id not in jobs:
            return _refusal(request, 404, "Resource not found")
        state = _state(jobs[job_id], new_seconds, running_seconds)
        if kind == "unfinished":
            state = "RUNNING"
        match state:
            case "FINISHED" if kind != "plain_finished":
                location = f"{request.base_url}idmapping/uniprotkb/results/{job_id}"
                return _answer({"jobStatus": state}, 303, {"Location": location})
            case "ERROR" if jobs[job_id].fate == "limit_exceeded":
                return _answer({"jobStatus": state, "errors": [_LIMIT]}, 400)
            case "ERROR":
                return _answer({"jobStatus": state}, 500)
            case _:
                return _answer({"jobStatus": state})

    @app.get("/idmapping/uniprotkb/results/{job_id}")
    def results(request: Request, job_id: str, size: int = 25, cursor: int = 0) -> Response:
        job = jobs.get(job_id)
        if job is None or _state(job, new_seconds, running_seconds) != "FINISHED":
            return _refusal(request, 404, "Resource not found")
        rows, failed_ids = _map(job, known, _own_kind(request))
        page = rows[cursor : cursor + min(size, 500)]
        headers = {"X-Total-Results": str(len(rows))}
        if cursor + len(page) < len(rows):
            query = urlencode({"cursor": cursor + len(page), "size": size})
            headers["Link"] = f'<{request.url.replace(query=query)}>; rel="next"'
        content = {"results": page, **({"failedIds": failed_ids} if failed_ids else {})}
        return _answer(content, 200, headers)

    return app


_LIMIT = {
    "code": 40,
    "message": 'Id Mapping API is not supported for mapping results with "mapped to" IDs more'
    " than 500000",
}


def _own_kind(request: Request) -> str | None:
    fault = own_fault(request)
    return fault.kind if fault else None


def _complaints(form: dict[str, str]) -> Iterator[str]:
    """All that is wrong with a request, at once."""
    for name in ("from", "to", "ids"):
        if not form.get(name):
            yield f"'{name}' is a required parameter"
    source, target, ids = form.get("from"), form.get("to"), form.get("ids", "").split(",")
    if source and source not in DATABASES:
        yield f"The parameter 'from' has an invalid value '{source}'."
    elif source and target and target not in _TO:
        yield f"The combination of 'from={source}' and 'to={target}' parameters is invalid"
    if len(ids) > _MOST_IDS:
        yield (
            f"'{_MOST_IDS}' is the maximum count limit of comma separated items for 'ids' param."
            f" You have passed '{len(ids)}' items."
        )


def _digest(form: dict[str, str]) -> str:
    """The same for the same request, whatever its case and the blanks around its ids."""
    ids = ",".join(one.strip().upper() for one in form["ids"].split(","))
    text = "\n".join((form["from"], form["to"], ids, form.get("taxId", "")))
    number = int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")
    return "".join(_DIGITS[number // 62**place % 62] for place in range(10))


def _state(job: _Job, new_seconds: float, running_seconds: float) -> str:
    age = time.monotonic() - job.submitted_at
    if age < new_seconds:
        return "NEW"
    if age < new_seconds + running_seconds:
        return "RUNNING"
    return "ERROR" if job.fate in _ERRORS else "FINISHED"


def _map(job: _Job, entries: Iterable[Entry], kind: str | None) -> tuple[list[Json], list[str]]:
    """(rows, ids without any)."""
    if job.fate == "silent":
        return [], []
    rows: list[Json] = []
    failed_ids = []
    for asked in job.ids:
        found = [entry for entry in entries if any(_matches(asked, one) for one in entry.ids)]
        if not found or kind == "not_found":
            failed_ids.append(asked)
            continue
        rows += [{"from": asked, "to": to} for entry in found for to in _told(entry, kind)]
    return rows, failed_ids


def _matches(asked: str, known: str) -> bool:
    """A version that is asked for must be the one that is known."""
    return asked == known or asked == known.partition(".")[0]


def _told(entry: Entry, kind: str | None) -> list[Any]:
    own = entry.as_json()
    match kind:
        case "ambiguous":
            return [own, {**own, "primaryAccession": "P0C000"}]
        case "unreviewed":
            return [{**own, "entryType": "UniProtKB unreviewed (TrEMBL)"}]
        case "withdrawn":
            gone = {"inactiveReasonType": "DELETED"}
            return [
                {
                    "entryType": "Inactive",
                    "primaryAccession": entry.accession,
                    "inactiveReason": gone,
                }
            ]
        case "garbled":
            return [entry.accession]
        case _:
            return [own]


def _refusal(request: Request, status: int, *messages: str) -> Response:
    return _answer({"url": str(request.url), "messages": list(messages)}, status)


def _answer(content: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(content, status, _RELEASE | (headers or {}))
