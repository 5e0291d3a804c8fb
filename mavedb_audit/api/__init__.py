"""The HTTP API: a router for MaveDB to mount, or for our own server.

It has MaveDB's admin routes for jobs and pipelines, with their names, filters and fields, and
beside them the operators' verbs, a score set's account, a variant's story and progress as it comes.
Keys are camelCase and query parameters snake_case, as MaveDB's are. An error is `{"detail": …}`.
"""

from fastapi import APIRouter, Depends
from fastapi import params as declared
from fastapi.routing import APIRoute

from mavedb_audit import access
from mavedb_audit.api import operating, reading

PREFIX = "/api/v1"


def _operation_id(route: APIRoute) -> str:
    return f"audit_{route.name}"


def router(
    reader: declared.Depends = Depends(access.reader),  # noqa: B008 - as FastAPI means it
    operator: declared.Depends = Depends(access.operator),  # noqa: B008
) -> APIRouter:
    """All routes under /api/v1. Both dependencies give a `mavedb_audit.tokens.User`, or raise.

    By default they ask for our own tokens; MaveDB gives its own:

        router(reader=Depends(an_admin), operator=Depends(an_admin))
    """
    whole = APIRouter(prefix=PREFIX, generate_unique_id_function=_operation_id)
    whole.include_router(reading.routes, dependencies=[reader])
    whole.include_router(operating.routes(operator))
    return whole
