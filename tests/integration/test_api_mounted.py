"""The routes in another application, as MaveDB mounts them: its users, and our errors."""

from collections.abc import Callable, Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from mavedb_audit import api
from mavedb_audit.database import engine
from mavedb_audit.tokens import Role, User
from tests.support import insert_brca1
from tests.support_servers import served


def administrator(x_user: Annotated[str | None, Header()] = None) -> User:
    """As an application that has its own way to know its users."""
    if x_user is None:
        raise HTTPException(401, "Could not validate credentials")
    return User(x_user, Role.OPERATE)


def owner(user: Annotated[User, Depends(administrator)]) -> User:
    if user.name != "owner":
        raise HTTPException(403, "You are not the owner")
    return user


@pytest.fixture
def mavedb(
    domain_database: str, use_database: Callable[[str], None]
) -> Iterator[Callable[..., httpx.Response]]:
    """Ask an application with the routes in it, as some user."""
    use_database(domain_database)
    application = FastAPI()
    application.include_router(api.router(reader=Depends(administrator), operator=Depends(owner)))
    with served(application) as server:

        def ask(method: str, path: str, user: str | None) -> httpx.Response:
            headers = {} if user is None else {"X-User": user}
            return server.http.request(method, f"/api/v1/{path}", headers=headers)

        yield ask


def test_its_own_users_are_let_in_and_nobody_else(mavedb: Callable[..., httpx.Response]) -> None:
    rerun = "score-sets/urn:mavedb:none/rerun-failed"
    refused = mavedb("GET", "system", None)
    assert refused.status_code == 401
    assert refused.json() == {"detail": "Could not validate credentials"}
    assert mavedb("GET", "system", "somebody").status_code == 200
    assert mavedb("POST", rerun, "somebody").status_code == 403
    assert mavedb("POST", rerun, "owner").status_code == 404


def test_errors_are_ours_without_its_help(mavedb: Callable[..., httpx.Response]) -> None:
    unknown = mavedb("GET", "pipelines/urn:mavedb:pipeline-none", "somebody")
    assert unknown.status_code == 404
    assert unknown.json() == {"detail": "There is no pipeline urn:mavedb:pipeline-none"}
    with engine().begin() as connection:
        urn, _, _ = insert_brca1(connection)
    nothing_failed = mavedb("POST", f"score-sets/{urn}/rerun-failed", "owner")
    assert nothing_failed.status_code == 409
    assert "nothing to run again" in nothing_failed.json()["detail"]


def test_its_document_knows_its_own_door_alone() -> None:
    application = FastAPI()
    application.include_router(api.router(reader=Depends(administrator), operator=Depends(owner)))
    document = application.openapi()
    assert "securitySchemes" not in document["components"]
    asked = document["paths"]["/api/v1/pipelines/{urn}/cancel"]["post"]["parameters"]
    assert {"x-user", "urn"} == {parameter["name"] for parameter in asked}
