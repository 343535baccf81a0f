"""Keys and values of the texts that were read last, so that a text that grows step by step is read once.

A pipeline that asks for a score after every step sends the whole text each time. What is the same as before is taken
from here; what was rejected is cut off. Several threads may ask: an entry is taken out while it is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from transformers import Cache

MOST = 2
"""Entries: one takes as much memory as the model's cache of its text."""


class PrefixCache:
    def __init__(self) -> None:
        self._entries: list[tuple[tuple[int, ...], Cache]] = []
        self._lock = Lock()

    def take(self, ids: Sequence[int], before: int) -> tuple[Cache, int] | None:
        """The entry that shares most with the beginning of `ids`, cut to what is shared; and how much that is.

        At most `before` tokens are shared, as the states of the others are wanted. None where nothing is.
        """
        with self._lock:
            shared, best = max(
                ((_common(known, ids[:before]), place) for place, (known, _) in enumerate(self._entries)),
                default=(0, -1),
            )
            if not shared:
                return None
            known, cache = self._entries[best]
            surplus = len(known) - shared
            if surplus and not cache.is_croppable:
                return None
            del self._entries[best]
        if surplus:
            cache.crop(-surplus)
        return cache, shared

    def put(self, ids: Sequence[int], cache: Cache) -> None:
        """Keep what was read, and forget the oldest."""
        with self._lock:
            self._entries = [*self._entries, (tuple(ids), cache)][-MOST:]


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    for place, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return place
    return min(len(left), len(right))
