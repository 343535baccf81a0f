"""A tokenizer's vocabulary as bytes: what drafters that work on text, and streaming, need of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Vocabulary(Protocol):
    """Tokens as raw bytes, so that nothing is lost to clean-up or to characters split between tokens."""

    @property
    def size(self) -> int: ...

    @property
    def special_ids(self) -> frozenset[int]:
        """Control tokens (end of text, chat markers): mapped explicitly between vocabularies, never through text."""
        ...

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes that a token stands for; None for control tokens and ids that stand for nothing."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without adding control tokens; what looks like a control token is encoded as text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without clean-up; control tokens are left out, bytes that are no UTF-8 become U+FFFD."""
        ...
