"""What a model has said before: past outputs of all rows, searched for what followed a context.

A history is bounded (whole sequences are forgotten, the oldest first), can be saved and loaded, and can be shared by
all engines of a process. New sequences go into a suffix automaton; when it has grown to a share of the rest, all of
them are sorted anew into a suffix array, which needs a small part of the memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from draftproof.drafting.drafters.suffix_array import Successors, SuffixArray
from draftproof.drafting.drafters.suffix_automaton import ROOT, SuffixAutomaton
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import InputError, UsageError

FORMAT = "draftproof-history-1"
LONGEST_CONTEXT = 16
"""Newest tokens that are looked up."""
ARRAY_LEVELS = 6
"""Context lengths that the suffix array is asked for, beside the longest that it holds."""
SORT_AT_LEAST = 32_768
SORT_SHARE = 8
"""The automaton is emptied into the array when it holds this many tokens or an eighth of the array's, if that is more;
also when forgotten sequences make up more than an eighth of what is indexed."""
MOST_SUCCESSORS = 12
SEPARATOR = -1


@dataclass(frozen=True)
class Level:
    """What followed one context of `length` tokens."""

    length: int
    occurrences: int
    successors: Successors


@dataclass(frozen=True)
class HistoryContext:
    """Where a text stands in a history: its state in the automaton, and ranges of the array by context length."""

    state: int
    matched: int
    ranges: tuple[tuple[int, int, int], ...]
    """(low, high, length), the longest context first."""


class History:
    """Thread-safe when its `lock` is held from `context` to the last use of what it returned."""

    def __init__(self, vocab_size: int, *, max_tokens: int = 1_000_000, tokenizer: str = "") -> None:
        """`tokenizer` is the digest of the vocabulary (`vocabulary_digest`), or empty where it is not known."""
        if vocab_size < 1 or max_tokens < 1:
            raise UsageError(f"A history of {max_tokens} tokens from a vocabulary of {vocab_size} can hold nothing.")
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self.tokenizer = tokenizer
        self.lock = RLock()
        self._sequences: deque[tuple[int, ...]] = deque()
        self._held = 0
        self._array = SuffixArray((), vocab_size)
        self._automaton = SuffixAutomaton()
        self._best: dict[int, Successors] = {}

    def __len__(self) -> int:
        """Tokens held."""
        return self._held

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """The sequences held, the oldest first."""
        return tuple(self._sequences)

    def add(self, tokens: Sequence[int]) -> None:
        """One more output. Of one that is longer than the bound, the end is kept."""
        sequence = tuple(tokens[-self.max_tokens :])
        if not sequence:
            return
        if not 0 <= min(sequence) <= max(sequence) < self.vocab_size:
            raise UsageError(
                f"Tokens of a history are 0 … {self.vocab_size - 1}; got {min(sequence)} … {max(sequence)}."
            )
        with self.lock:
            self._sequences.append(sequence)
            self._held += len(sequence)
            self._forget()
            for token in (*sequence, SEPARATOR):
                self._automaton.append(token)
            self._automaton.forget_undo()
            self._best.clear()
            indexed = self._automaton.size + len(self._array)
            due = max(SORT_AT_LEAST, len(self._array) // SORT_SHARE)
            if self._automaton.size > due or indexed > self.max_tokens + self.max_tokens // SORT_SHARE + 64:
                self._sort()

    def _forget(self) -> None:
        """Drop the oldest sequences beyond the bound; they leave the index when it is next sorted."""
        while self._held > self.max_tokens:
            self._held -= len(self._sequences.popleft())

    def _sort(self) -> None:
        self._array = SuffixArray(self._sequences, self.vocab_size)
        self._automaton = SuffixAutomaton()
        self._best.clear()

    # Look-up

    def context(self, tail: Sequence[int]) -> HistoryContext:
        """Where a text that ends in `tail` stands."""
        recent = tail[-LONGEST_CONTEXT:]
        state, matched = ROOT, 0
        for token in recent:
            state, matched = self._follow(state, matched, token)
        ranges: list[tuple[int, int, int]] = []
        for length in range(1, len(recent) + 1) if len(self._array) else ():
            low, high = self._array.find(recent[-length:])
            if low == high:
                break
            ranges.append((low, high, length))
        return HistoryContext(state, matched, tuple(ranges[-1 : -1 - ARRAY_LEVELS : -1]))

    def advance(self, context: HistoryContext, text: Sequence[int], token: int) -> HistoryContext:
        """Where the text stands after one more token; `text` ends in it, and gives the contexts."""
        state, matched = self._follow(context.state, context.matched, token)
        ranges = []
        for low, high, length in context.ranges:
            if length < LONGEST_CONTEXT:
                low, high = self._array.find(text[-length - 1 :], low, high)
                if low < high:
                    ranges.append((low, high, length + 1))
        return HistoryContext(state, matched, tuple(ranges))

    def _follow(self, state: int, matched: int, token: int) -> tuple[int, int]:
        automaton = self._automaton
        while token not in automaton.next[state]:
            if state == ROOT:
                return ROOT, 0
            state = automaton.link[state]
            matched = automaton.length[state]
        return automaton.next[state][token], matched + 1

    def levels(self, context: HistoryContext) -> list[Level]:
        """What followed the context and its suffixes, the longest first; of each, the most frequent tokens."""
        automaton, state, matched = self._automaton, context.state, context.matched
        levels = []
        while state != ROOT:
            best = self._successors(state)
            if best:
                levels.append(Level(matched, automaton.count[state], best))
            state = automaton.link[state]
            matched = automaton.length[state]
        for low, high, length in context.ranges:
            successors = self._array.successors(low, high, length)
            if successors:
                levels.append(Level(length, high - low, successors))
        levels.sort(key=lambda level: -level.length)
        return levels

    def _successors(self, state: int) -> Successors:
        best = self._best.get(state)
        if best is None:
            count = self._automaton.count
            pairs = [(token, count[to]) for token, to in self._automaton.next[state].items() if token != SEPARATOR]
            pairs.sort(key=lambda pair: -pair[1])
            best = self._best[state] = pairs[:MOST_SUCCESSORS]
        return best

    # Files

    def save(self, path: str | Path) -> None:
        """Write the history as safetensors; an older file is replaced when the new one is complete."""
        path = Path(path)
        with self.lock:
            arrays = {
                "tokens": np.concatenate([np.zeros(0, np.int32), *(np.asarray(s, np.int32) for s in self._sequences)]),
                "lengths": np.array([len(s) for s in self._sequences], dtype=np.int32),
            }
            about = {"format": FORMAT, "vocab_size": str(self.vocab_size), "tokenizer": self.tokenizer}
        draft = path.with_name(path.name + ".part")
        save_file(arrays, draft, metadata=about)
        draft.replace(path)

    @classmethod
    def load(cls, path: str | Path, *, max_tokens: int = 1_000_000) -> History:
        """Raises InputError, naming the file, when it is missing, cut off, or no history."""
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                tokens, lengths = file.get_tensor("tokens"), file.get_tensor("lengths")
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}, expected {FORMAT!r}")
            vocab_size = int(about["vocab_size"])
            if tokens.ndim != 1 or lengths.ndim != 1 or tokens.dtype != np.int32 or lengths.dtype != np.int32:
                raise ValueError("its arrays are not one-dimensional int32")
            if (lengths < 1).any() or int(lengths.sum(dtype=np.int64)) != len(tokens):
                raise ValueError(f"its sequences do not add up to its {len(tokens)} tokens")
            if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
                raise ValueError(f"it holds tokens outside 0 … {vocab_size - 1}")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read as a history of outputs: {error}.",
                remedy="Delete it, or save the history again.",
            ) from error
        history = cls(vocab_size, max_tokens=max_tokens, tokenizer=about.get("tokenizer", ""))
        ends = np.cumsum(lengths, dtype=np.int64).tolist()
        whole = tokens.tolist()
        for begin, end in zip([0, *ends], ends, strict=False):
            history._sequences.append(tuple(whole[begin:end]))
            history._held += end - begin
        history._forget()
        history._sort()
        return history

    def check_fits(self, vocab_size: int, vocabulary: Vocabulary | None) -> None:
        """Raises UsageError when the history is of another vocabulary."""
        if vocab_size != self.vocab_size:
            raise UsageError(
                f"The history was made with a vocabulary of {self.vocab_size} tokens, and the target has {vocab_size}.",
                remedy="Use a history of this model, or begin a new one.",
            )
        if self.tokenizer and vocabulary is not None and vocabulary_digest(vocabulary) != self.tokenizer:
            raise UsageError(
                "The history was made with another tokenizer of the same size: its token ids mean other text.",
                remedy="Use a history of this model, or begin a new one.",
            )


def vocabulary_digest(vocabulary: Vocabulary) -> str:
    """SHA-256 over the bytes of every token, in order."""
    digest = hashlib.sha256()
    for token in range(vocabulary.size):
        text = vocabulary.token_bytes(token)
        digest.update(b"-" if text is None else len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()
