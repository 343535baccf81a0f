"""Leaf digests: what a Merkle log of verdicts is built from.

The leaf of a verdict is SHA-256 over 0x00, its salt and its payload. The 0x00 is RFC 9162's prefix
for leaves (section 2.1.1), so that no leaf can pass for an inner node. The payload is hashed as the
bytes that are stored, so checking a leaf needs no code that knows what a verdict is.

The salt makes erasure possible. Once payload and salt are set to NULL, the leaf stays in the tree
and every proof still verifies, yet the leaf says nothing about what was erased: without 128 random
bits, nobody can confirm a guess at a short payload by hashing it.
"""

from __future__ import annotations

import os
from hashlib import sha256

SALT_BYTES = 16


def leaf_digest(salt: bytes, payload: bytes) -> bytes:
    return sha256(b"\x00" + salt + payload).digest()


def salts(count: int) -> list[bytes]:
    """`count` fresh salts, from one call to the operating system."""
    pool = os.urandom(SALT_BYTES * count)
    return [pool[i : i + SALT_BYTES] for i in range(0, len(pool), SALT_BYTES)]
