"""Text of services and errors, in a form that PostgreSQL can hold."""

import json
import re
from typing import Any

import orjson

#: What moves a terminal's cursor, colours or reorders what it shows; lines and tabs stay.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

#: Not a backslash that is itself escaped before the letters u0000.
_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")
_PASSWORD_IN_CONNINFO = re.compile(r"\bpassword=(?:'[^']*'|[^\s'\"]+)")


def storable(message: str) -> str:
    """The text with what PostgreSQL cannot hold replaced, NUL and halves of characters.

    So are control characters, with which a service's or a curator's words could rewrite what
    somebody reads in a terminal or a log; a carriage return before a line's end goes.
    """
    plain = _CONTROLS.sub("\ufffd", message.replace("\r\n", "\n"))
    return plain.encode("utf-8", "replace").decode()


def without_passwords(text: str) -> str:
    """The text with the passwords of its URLs, and of PostgreSQL's `password=`, as ***."""
    text = _PASSWORD_IN_URL.sub(r"\1:***@", text)
    return _PASSWORD_IN_CONNINFO.sub("password=***", text)


def passwords_in_urls(text: str) -> set[str]:
    """The passwords as they stand there, percent-encoded as they are."""
    return {password for _, password in _PASSWORD_IN_URL.findall(text)}


def json_text(value: Any) -> str:
    """The value as JSON that jsonb takes, whatever characters a service put into it."""
    try:
        plain = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # half a character, or a number of more than 64 bits
        plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    if "\\u0000" not in plain:
        return plain
    return _ESCAPED_NUL.sub(r"\1\\ufffd", plain)
