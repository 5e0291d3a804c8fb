"""The simulator of Genboree: signing in, and ClinGen's Linked Data Hub behind its queue.

Besides the generic fault kinds it knows, of submissions: malformed_jwt (whatever token is sent is
refused), empty_object (the submission is refused) and no_receipt; and of signing in: no_exp (a
token that names no expiry).
"""

import base64
import hashlib
import hmac
import itertools
import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from deployments.local.simulators.faults import attach_faults, own_fault

OWN_KINDS = frozenset({"malformed_jwt", "empty_object", "no_receipt", "no_exp"})

_MOST_ITEMS = 100
_SECRET = b"known to this simulator alone"
_EMPTY = "Put Failed - Error! Submission was an empty object. Nothing was sent to the queue."

Json = dict[str, Any]


def create_app(
    account_name: str,
    account_password: str,
    *,
    token_seconds: float = 3600,
    visible_after_seconds: float = 1.0,
) -> FastAPI:
    """A Genboree of one account. What is submitted can be read back when it is visible."""
    app = FastAPI(title="Genboree: sign-in and Linked Data Hub (simulator)")
    attach_faults(app, OWN_KINDS)
    #: Entity id -> (what it holds, when it becomes visible).
    entities: dict[str, tuple[Json, float]] = {}
    numbers = itertools.count(148_894)

    @app.post("/auth/usr/gb:{account}/auth")
    async def sign_in(request: Request, account: str) -> Response:
        given = await _body(request)
        if account != account_name or given != {"type": "plain", "val": account_password}:
            return _answer(403, "Bad Auth Info - no such user, or the password is wrong")
        claims = {"sub": account, "exp": time.time() + token_seconds}
        if _own_kind(request) == "no_exp":
            del claims["exp"]
        return JSONResponse({"data": {"jwt": _jwt(claims)}})

    @app.put("/mq/brdg/pulsar/{tenant}/ldh/submissions/maveDb")
    async def submit(request: Request, tenant: str) -> Response:  # noqa: ARG001 - any tenant will do
        kind = _own_kind(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if kind == "malformed_jwt" or (complaint := _complaint(token)):
            return _answer(403, f"Bad Auth Info - {'jwt malformed' if kind else complaint}")
        items = await _body(request)
        if kind == "empty_object" or not isinstance(items, list) or not items or not all(items):
            return _answer(400, _EMPTY)
        if len(items) > _MOST_ITEMS:
            return _answer(400, f"Put Failed - Error! More than {_MOST_ITEMS} submissions.")
        for item in items:
            entity = _entity(item)
            entities[entity["entId"]] = entity, time.monotonic() + visible_after_seconds
        if kind == "no_receipt":
            return JSONResponse({"data": None})
        receipt = {
            "msg": "Data sent successfully",
            "msgIds": [f"({next(numbers)},0,-1,0)"],
        }
        return _answer(200, "OK", receipt)

    @app.get("/ldh/MaveDBMapping/id/{entity_id:path}")
    def read_back(entity_id: str) -> Response:
        entity, visible_at = entities.get(entity_id, ({}, float("inf")))
        if time.monotonic() < visible_at:
            message = f"Bad Entity - No 'MaveDBMapping' entity found with identifier {entity_id!r}"
            return _answer(404, message)
        return _answer(200, "OK", entity)

    return app


def _own_kind(request: Request) -> str | None:
    fault = own_fault(request)
    return fault.kind if fault else None


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        return None


def _entity(item: Json) -> Json:
    """What the hub shows of one submission, long after it was queued."""
    mapping = item["content"]["ld"]["MaveDBMapping"][0]
    number = int(hashlib.sha256(mapping["entId"].encode()).hexdigest()[:8], 16)
    hub = "https://genboree.org/ldh"
    return {
        **mapping,
        "entType": "MaveDBMapping",
        "ldFor": {
            "Variant": [
                {
                    "entId": item["content"]["sbj"]["Variant"]["hgvs"],
                    "ldhId": str(number + 1),
                    "ldhIri": f"{hub}/Variant/{number + 1}",
                }
            ]
        },
        "ldhId": str(number),
        "ldhIri": f"{hub}/MaveDBMapping/id/{quote(mapping['entId'], safe='')}",
        "created": item["event"]["triggered"]["at"],
        "modified": item["event"]["triggered"]["at"],
        "rev": item["event"]["uuid"],
    }


def _answer(status: int, message: str, data: Json | None = None) -> Response:
    name = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}[status]
    content: Json = {
        "metadata": {"rendered": {"by": "simulator", "when": datetime.now(UTC).isoformat()}},
        "status": {"code": status, "name": name},
    }
    if data is not None:
        content["data"] = data
    else:
        content["status"]["msg"] = message
    return JSONResponse(content, status)


def _jwt(claims: Json) -> str:
    head = _encoded({"alg": "HS256", "typ": "JWT"}) + "." + _encoded(claims)
    return f"{head}.{_signature(head)}"


def _complaint(token: str) -> str | None:
    """What is wrong with a token, if anything."""
    head, _, signature = token.rpartition(".")
    if head.count(".") != 1:
        return "jwt malformed"
    if not hmac.compare_digest(signature, _signature(head)):
        return "invalid signature"
    payload = head.partition(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return "jwt expired" if claims.get("exp", float("inf")) < time.time() else None


def _encoded(content: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _signature(head: str) -> str:
    digest = hmac.new(_SECRET, head.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
