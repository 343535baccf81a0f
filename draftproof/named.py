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
        if key in arguments:
            raise UsageError(f"{key} is given twice in {text!r}.")
        try:
            arguments[key] = json.loads(value)
        except (ValueError, RecursionError):  # a number of thousands of digits is no JSON to Python
            arguments[key] = value
    return name, arguments
