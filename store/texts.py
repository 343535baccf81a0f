"""Text on its way into a database.

What models write is hostile or cut off in the middle: it may hold U+0000, which PostgreSQL refuses,
or lone surrogates, which no UTF-8 holds. JSON can escape both, so JSON columns keep every text as
it was. Columns that only repeat a field for searching show such characters as U+FFFD; keys refuse
them, because two different keys must never look the same.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from draftproof.errors import ContractError

KEY_LENGTH = 300
"""PostgreSQL indexes at most 2,700 bytes; a character takes four at most, and a key has two texts."""

_REFUSED = re.compile("[\0\ud800-\udfff]")


def json_text(model: BaseModel, *, free: object = None, what: str = "", **only: Any) -> str:
    """`model` as JSON text, in the order of its fields.

    `free` is the part of it that its type leaves open. Raises ContractError, in which `what` names
    that part, unless it comes back from JSON as it was: NaN would silently become null.
    """
    if free:
        _require_json(free, what)
    try:
        text = model.model_dump_json(**only)
        # pydantic raises for lone surrogates in values, but writes those in the keys of dictionaries as U+FFFD
        if "\ufffd" not in text:
            return text
    except (PydanticSerializationError, UnicodeEncodeError):
        pass  # the slower way below can write every text
    # not mode="json", which would alter the keys too
    return json.dumps(model.model_dump(**only), ensure_ascii=True, separators=(",", ":"))


def _require_json(value: object, what: str) -> None:
    try:
        if json.loads(json.dumps(value, allow_nan=False)) == value:
            return
        cause = "it does not come back equal from JSON"
    except (TypeError, ValueError, RecursionError) as error:
        cause = str(error)
    raise ContractError(f"{what} is not JSON: {cause}.", remedy="Give strings, finite numbers, booleans, null, lists.")


@lru_cache(maxsize=2048)  # the verdicts of a batch share few keys
def key_text(text: str) -> str:
    """`text` as part of a key. Raises ContractError for what a database would refuse."""
    if len(text) > KEY_LENGTH:
        raise ContractError(f"a key may not be longer than {KEY_LENGTH} characters, got {text[:40]!r}… of {len(text)}")
    if searchable(text) != text:
        raise ContractError(f"a key may not hold U+0000 or lone surrogates, got {text!r}")
    return text


def name_text(text: str) -> str:
    """`text` as a name to search by: itself, or its beginning and a digest where it is too long for an index."""
    name = searchable(text)
    if len(name) <= KEY_LENGTH:
        return name
    return f"{name[:80]}… {sha256(name.encode()).hexdigest()}"


def searchable(text: str) -> str:
    """`text` for a column that repeats a field for searching."""
    if text.isascii() and "\0" not in text:
        return text
    return _REFUSED.sub("\ufffd", text)
