"""Text of services and errors, in a form that PostgreSQL can hold."""

import json
import re
from typing import Any


def storable(message: str) -> str:
    """The text with what PostgreSQL cannot hold replaced: NUL, and halves of characters."""
    return message.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def json_text(value: Any) -> str:
    """The value as JSON that jsonb takes, whatever characters a service put into it."""
    plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    # An escaped NUL, but not a backslash that is itself escaped before the letters u0000.
    return re.sub(r"(?<!\\)((?:\\\\)*)\\u0000", r"\1\\ufffd", plain)
