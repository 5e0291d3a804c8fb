"""What pages load besides themselves: style, script and icon, from here and nowhere else."""

import functools
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

routes = APIRouter(include_in_schema=False)

_FILES = {file.name: file for file in (Path(__file__).parent / "static").iterdir()}
#: The address changes with the content, so what a browser has once it need never ask for again.
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


@functools.cache
def address_of(name: str) -> str:
    """The path of a file, with a mark of its content."""
    return f"/static/{name}?{sha256(_FILES[name].read_bytes()).hexdigest()[:12]}"


@routes.get("/static/{name}")
def asset(name: str) -> FileResponse:
    if name not in _FILES:
        raise HTTPException(404, f"There is no {name}")
    return FileResponse(_FILES[name], headers=_FOR_EVER)
