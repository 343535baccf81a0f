"""A fixed collection of token sequences, sorted by suffix: where any context occurs, and what followed it.

For texts that no longer change: 8 bytes a token, against some hundreds for an automaton. Tokens are kept as big-endian
bytes, whose order as bytes is their order as numbers, so that a binary search compares slices and nothing in Python.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LONGEST = 32
"""Suffixes are told apart by this many tokens; contexts are never longer."""
SAMPLED = 1024
"""Occurrences that are looked at to see what follows a frequent context."""
MOST_SUCCESSORS = 12
REMEMBERED = 50_000
"""Contexts whose successors are kept once they have been counted."""
WIDTH = 4
"""Bytes of a token."""

Successors = list[tuple[int, int]]
"""(token, count), most frequent first."""


class SuffixArray:
    def __init__(self, sequences: Sequence[Sequence[int]], vocab_size: int) -> None:
        """`vocab_size` is the id that separates sequences; no context holds it, so no match runs across."""
        self._separator = vocab_size
        parts: list[npt.NDArray[np.int64]] = []
        for sequence in sequences:
            parts += [np.asarray(sequence, dtype=np.int64), np.array([vocab_size], dtype=np.int64)]
        self._tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        self._bytes = self._tokens.astype(">u4").tobytes()
        self._order = _sorted_suffixes(self._tokens)
        self._seen: dict[tuple[int, int, int], Successors] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, context: Sequence[int], low: int = 0, high: int | None = None) -> tuple[int, int]:
        """Range of the suffixes, within `low` … `high`, that begin with `context` (at most LONGEST tokens)."""
        wanted = np.asarray(context, dtype=">u4").tobytes()
        data, order, size = self._bytes, self._order, len(wanted)

        def head(at: int) -> bytes:
            return data[WIDTH * at : WIDTH * at + size]

        high = len(order) if high is None else high
        low = bisect_left(order, wanted, low, high, key=head)
        return low, bisect_right(order, wanted, low, high, key=head)

    def successors(self, low: int, high: int, length: int) -> Successors:
        """What followed the contexts of `length` tokens in a range that `find` gave; of many, a sample of them."""
        known = self._seen.get((low, high, length))
        if known is None:
            step = max(1, (high - low) // SAMPLED)
            places = np.asarray(self._order[low:high:step], dtype=np.int64) + length
            tokens, counts = np.unique(self._tokens[places[places < len(self._tokens)]], return_counts=True)
            best = np.argsort(-counts, kind="stable")[: MOST_SUCCESSORS + 1]
            pairs = zip(tokens[best].tolist(), (counts[best] * step).tolist(), strict=True)
            known = [(token, count) for token, count in pairs if token != self._separator][:MOST_SUCCESSORS]
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[low, high, length] = known
        return known


def _sorted_suffixes(tokens: npt.NDArray[np.int64]) -> array[int]:
    """Places in the order of the LONGEST tokens from them on, by doubling (Manber and Myers, 1993)."""
    rank, size = tokens.copy(), len(tokens)
    order = np.argsort(rank, kind="stable")
    span = 1
    while span < min(LONGEST, size):
        after = np.zeros(size, dtype=np.int64)
        after[: size - span] = rank[span:] + 1
        key = rank * (int(rank.max()) + 2) + after
        order = np.argsort(key, kind="stable")
        steps = np.concatenate(([0], np.cumsum(np.diff(key[order]) != 0)))
        rank = np.empty(size, dtype=np.int64)
        rank[order] = steps
        span *= 2
    return array("i", order.astype(np.int32).tobytes())
