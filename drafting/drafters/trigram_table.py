"""Which token follows each pair of tokens, counted over a corpus: a fixed table, saved as safetensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from draftproof.errors import InputError, UsageError

FORMAT = "draftproof-trigrams-1"
REMEMBERED = 50_000
"""Pairs that are kept as Python objects once they have been asked for."""


class TrigramTable:
    """For a pair (a, b), the most frequent successors and their shares of all of its successors."""

    def __init__(
        self,
        vocab_size: int,
        pairs: npt.NDArray[np.int64],
        tokens: npt.NDArray[np.int32],
        shares: npt.NDArray[np.float32],
    ) -> None:
        """`pairs` is a * V + b, ascending, once for each successor; the likeliest successor of a pair comes first."""
        self.vocab_size = vocab_size
        self._pairs, self._tokens, self._shares = pairs, tokens, shares
        self._read: dict[int, dict[int, float]] = {}

    def __len__(self) -> int:
        """Trigrams held."""
        return len(self._pairs)

    def after(self, first: int, second: int) -> dict[int, float]:
        """Successors of the pair and their shares; the caller must not change it."""
        pair = first * self.vocab_size + second
        known = self._read.get(pair)
        if known is None:
            low, high = np.searchsorted(self._pairs, [pair, pair + 1])
            known = dict(zip(self._tokens[low:high].tolist(), self._shares[low:high].tolist(), strict=True))
            if len(self._read) >= REMEMBERED:
                self._read.clear()
            self._read[pair] = known
        return known

    @classmethod
    def build(cls, sequences: Iterable[Sequence[int]], vocab_size: int, *, keep: int = 12) -> TrigramTable:
        """Count `sequences` and keep the `keep` most frequent successors of each pair (Adaptix keeps 12)."""
        if not 1 <= vocab_size <= 2**21:
            raise UsageError(f"A table for {vocab_size} tokens was asked for; 1 … 2097152 can be numbered.")
        parts = []
        for sequence in sequences:
            ids = np.asarray(sequence, dtype=np.int64)
            if len(ids) >= 3:
                if ids.min() < 0 or ids.max() >= vocab_size:
                    raise UsageError(f"A sequence holds tokens outside 0 … {vocab_size - 1}.")
                parts.append((ids[:-2] * vocab_size + ids[1:-1]) * vocab_size + ids[2:])
        trigrams, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]), return_counts=True)
        pairs, tokens = trigrams // vocab_size, (trigrams % vocab_size).astype(np.int32)
        order = np.lexsort((tokens, -counts, pairs))
        pairs, tokens, counts = pairs[order], tokens[order], counts[order]
        starts = np.flatnonzero(np.diff(pairs, prepend=-1))
        sizes = np.diff(np.append(starts, len(pairs)))
        totals = np.repeat(np.add.reduceat(counts, starts) if len(pairs) else counts, sizes)
        rank = np.arange(len(pairs)) - np.repeat(starts, sizes)
        kept = rank < keep
        shares = (counts / np.maximum(totals, 1)).astype(np.float32)
        return cls(vocab_size, pairs[kept], tokens[kept], shares[kept])

    def save(self, path: str | Path) -> None:
        arrays: dict[str, npt.NDArray[Any]] = {"pairs": self._pairs, "tokens": self._tokens, "shares": self._shares}
        save_file(arrays, path, metadata={"format": FORMAT, "vocab_size": str(self.vocab_size)})

    @classmethod
    def load(cls, path: str | Path) -> TrigramTable:
        """Raises InputError, naming the file, when it is missing, cut off, or no such table."""
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                pairs, tokens, shares = (file.get_tensor(name) for name in ("pairs", "tokens", "shares"))
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}, expected {FORMAT!r}")
            vocab_size = int(about["vocab_size"])
            if (pairs.dtype, tokens.dtype, shares.dtype) != (np.int64, np.int32, np.float32):
                raise ValueError("its arrays have other types than pairs int64, tokens int32, shares float32")
            if not len(pairs) == len(tokens) == len(shares) or pairs.ndim != 1 or (np.diff(pairs) < 0).any():
                raise ValueError("its columns are not of one length, or its pairs do not ascend")
            if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
                raise ValueError(f"it holds tokens outside 0 … {vocab_size - 1}")
            if not ((shares >= 0) & (shares <= 1)).all():
                raise ValueError("it holds shares outside 0 … 1")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read as a trigram table: {error}.", remedy="Build the table again."
            ) from error
        return cls(vocab_size, pairs, tokens, shares)
