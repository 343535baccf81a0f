"""Which reader of numbers, names and quotations this is: a digest of its sources, for the verifiers' identities.

What is read decides what is judged: a store must not take a verdict of an older reader for one of this.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from draftproof.canonical import short


@cache
def reading_digest() -> str:
    """The first hex digits of the SHA-256 of this package's sources and word list, in the order of their names."""
    sources = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".py", ".txt"))
    contents = hashlib.sha256(b"\0".join(source.name.encode() + b"\0" + source.read_bytes() for source in sources))
    return short(f"sha256:{contents.hexdigest()}")
