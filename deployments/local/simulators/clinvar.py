"""The simulator of NCBI's archive of ClinVar: a file server of one gz file a month.

Besides the generic fault kinds it knows: drip (the file in small pieces with pauses), changed (the
file has been replaced by another one of the same name). Nameless agents get 503, as they do at
busy times.
"""

import asyncio
import functools
import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, date, datetime
from itertools import pairwise

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from deployments.local.simulators.clinvar_releases import release_text
from deployments.local.simulators.faults import attach_faults, own_fault

OWN_KINDS = frozenset({"drip", "changed"})

_NAMELESS = re.compile(r"|(python-(httpx|requests|urllib)|curl|wget)\b.*", re.IGNORECASE)
_FIRST = (2015, 2)
_PIECES, _PAUSE_SECONDS = 8, 0.5

#: The gz file of a year and month, if there is such a release.
Files = Callable[[int, int], bytes | None]


def create_app(files: Mapping[tuple[int, int], bytes] | None = None) -> FastAPI:
    """An archive of these gz files, by year and month; without them, of all past months, made up.

    Those of the current year lie at the top, older ones in the folders of their years.
    """
    app = FastAPI(title="ClinVar archive (simulator)")
    attach_faults(app, OWN_KINDS)
    find: Files = _made_up if files is None else lambda year, month: files.get((year, month))

    @app.api_route(
        "/archive/variant_summary_{year:int}-{month:int}.txt.gz", methods=["GET", "HEAD"]
    )
    def at_the_top(request: Request, year: int, month: int) -> Response:
        return _answer(request, find(year, month) if year == _today().year else None)

    @app.api_route(
        "/archive/{folder:int}/variant_summary_{year:int}-{month:int}.txt.gz",
        methods=["GET", "HEAD"],
    )
    def in_a_folder(request: Request, folder: int, year: int, month: int) -> Response:
        moved = folder == year != _today().year
        return _answer(request, find(year, month) if moved else None)

    return app


def _today() -> date:
    return datetime.now(UTC).date()


def _made_up(year: int, month: int) -> bytes | None:
    """The current month is not published yet."""
    today = _today()
    if not 1 <= month <= 12 or not _FIRST <= (year, month) < (today.year, today.month):
        return None
    return _packed(year, month)


@functools.cache
def _packed(year: int, month: int) -> bytes:
    return gzip.compress(release_text(year, month).encode(), compresslevel=1, mtime=0)


def _answer(request: Request, content: bytes | None) -> Response:
    if _NAMELESS.fullmatch(request.headers.get("User-Agent", "")):
        return _page(503, "Service unavailable: say who you are in your User-Agent.")
    if content is None:
        return _page(404, "Not Found")
    fault = own_fault(request)
    kind = fault.kind if fault else None
    if kind == "changed":
        content = content + gzip.compress(b"")  # the same text, in a file of its own
    etag = f'"{hashlib.sha1(content).hexdigest()[:16]}"'
    headers = {
        "ETag": etag,
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Accept-Ranges": "bytes",
    }
    begin = _begin_of_range(request, etag, len(content))
    if begin is not None:
        headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        content = content[begin:]
    status = 200 if begin is None else 206
    if kind == "drip" and request.method == "GET":
        headers["Content-Length"] = str(len(content))
        return StreamingResponse(_drip(content), status, headers, media_type="application/x-gzip")
    return Response(content, status, headers, media_type="application/x-gzip")


def _begin_of_range(request: Request, etag: str, length: int) -> int | None:
    """Where an open range begins that is asked for, of a file that is still the same one."""
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    unchanged = request.headers.get("If-Range", etag) == etag
    return int(asked[1]) if asked and unchanged and int(asked[1]) < length else None


async def _drip(content: bytes) -> AsyncIterator[bytes]:
    cuts = [len(content) * n // _PIECES for n in range(_PIECES + 1)]
    for begin, end in pairwise(cuts):
        yield content[begin:end]
        await asyncio.sleep(_PAUSE_SECONDS)


def _page(status: int, text: str) -> Response:
    html = f"<html><head><title>{text}</title></head><body>{text}</body></html>"
    return Response(html, status, media_type="text/html")
