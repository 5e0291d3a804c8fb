"""The page of the HTTP routes, from their OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from docs.generate.schemas import schema_section, type_of
from docs.generate.text import table
from mavedb_audit import api
from mavedb_audit.api.problems import documented


def http() -> str:
    application = FastAPI()
    application.include_router(api.router())
    described = application.openapi()
    operations = [
        (path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    tags = dict.fromkeys(operation["tags"][0] for _, _, operation in operations)
    routes = "\n\n".join(
        f"## {tag}\n\n"
        + table(
            ("route", "what", "role", "takes", "answers", "problems"),
            (
                _route(path, method, operation)
                for path, method, operation in operations
                if operation["tags"][0] == tag
            ),
        )
        for tag in tags
    )
    answers = "\n\n".join(
        schema_section(name, schema)
        for name, schema in described["components"]["schemas"].items()
        if name not in {"HTTPValidationError", "ValidationError"}
    )
    problems = table(
        ("status", "when", "such as"),
        (
            (str(code), problem["description"], example["detail"])
            for code, problem in documented(400, 401, 403, 404, 409, 503).items()
            for example in [problem["content"]["application/json"]["example"]]
        ),
    )
    return f"""# HTTP

Made from the routes in `mavedb_audit/api/` by `make docs`. How to let somebody in, ask, and
mount the routes in MaveDB's API: [ask over HTTP](../how-to/ask-over-http.md). The same as OpenAPI
is at `/openapi.json`. Keys are camelCase, query parameters snake_case, times in UTC, durations in
seconds. MaveDB's own admin routes are those of job runs and pipelines without anything after the
URN: their filters and fields are MaveDB's.

{routes}

## Problems

An error is `{{"detail": "…"}}`, a sentence for people; of 422 it is a list with the place and the
reason of each thing that was given wrongly. A 503 has `Retry-After`.

{problems}

## Keys

{answers}
"""


def _route(path: str, method: str, operation: Mapping[str, Any]) -> tuple[str, ...]:
    taken = [
        f"`{parameter['name']}`{' (needed)' if parameter['required'] else ''}"
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "path"
    ]
    if "requestBody" in operation:
        (body,) = operation["requestBody"]["content"].values()
        taken.append(f"JSON: {type_of(body['schema'])}")
    responses = operation["responses"]
    answers = [
        ", ".join(
            type_of(content["schema"]) if "schema" in content else f"`{kind}`"
            for kind, content in answer["content"].items()
        )
        if "content" in answer
        else f"or {code}: {answer['description']}"
        for code, answer in responses.items()
        if code.startswith("2")
    ]
    return (
        f"`{method.upper()} {path}`",
        operation["summary"],
        "operate" if method == "post" else "read",
        ", ".join(taken) or "-",
        "; ".join(answers),
        ", ".join(sorted(code for code in responses if not code.startswith("2"))),
    )
