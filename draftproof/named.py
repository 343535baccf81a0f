"""How a part is asked for in text: a name and its arguments."""

from __future__ import annotations

import json
from typing import Any

from draftproof.errors import UsageError


def parse_named(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments from `NAME[:key=value,…]`. Values are JSON, or else text."""
    name, _, rest = text.partition(":")
    arguments: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{pair!r} in {text!r} is not key=value.")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    return name, arguments
