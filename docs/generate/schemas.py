"""JSON schemas, for people."""

from collections.abc import Mapping
from typing import Any

from docs.generate.text import table


def schema_section(name: str, schema: Mapping[str, Any]) -> str:
    keys = schema.get("properties", {})
    parts = [
        f"### {name}",
        " ".join(schema.get("description", "").split()),
        table(("key", "type"), ((f"`{key}`", type_of(keys[key])) for key in keys))
        if keys
        else f"One of {type_of(schema)}.",
    ]
    return "\n\n".join(filter(None, parts))


def type_of(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": list(choices)}:
            return " or ".join(map(type_of, choices))
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {type_of(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {type_of(values)}"
        case {"type": "string", "format": str(form)}:
            return form
        case {"type": str(name)}:
            return name
    return "anything"
