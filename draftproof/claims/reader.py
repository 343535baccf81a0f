"""Which reader of claims this is: a digest of its sources, for the identity of every verifier that uses it.

What is read from a text decides what is judged. A verdict must therefore name the reader, and a store
must not take a verdict of an older reader for one of this.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from draftproof.canonical import short


@cache
def reader_digest() -> str:
    """The first hex digits of the SHA-256 of this package's sources, in the order of their names."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    contents = hashlib.sha256(b"\0".join(source.name.encode() + b"\0" + source.read_bytes() for source in sources))
    return short(f"sha256:{contents.hexdigest()}")
