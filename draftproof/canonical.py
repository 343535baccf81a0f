"""Canonical JSON and the digests made from it (RFC 8785, SHA-256).

A digest is written `sha256:<64 hex>` wherever it is stored, so that a later algorithm can be told
apart. Text that is not valid Unicode (lone surrogates) has no digest: importers reject it first.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785


def canonical_json(value: Any) -> bytes:
    """`value` as RFC 8785 bytes. Raises ValueError for NaN, infinities and lone surrogates."""
    return rfc8785.dumps(value)


def digest_bytes(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest(value: Any) -> str:
    """Digest of any JSON value, independent of key order and white space."""
    return digest_bytes(canonical_json(value))


def short(full_digest: str, length: int = 12) -> str:
    """The first hex digits of a tagged digest, for people and for verifier identities."""
    return full_digest.partition(":")[2][:length]
