"""Rows of a draft model that follow texts: what is cached of each text, and what was drafted after it.

Drafting writes scratch slots only. Afterwards `follow` is told the text as it now stands, in the draft model's own
tokens, and keeps of cache and slots whatever is still a beginning of it. Commits, rewinds, forced tokens and texts
that a tokenizer has cut anew are all this one step, and no drafted token that was accepted is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from draftproof.drafting.model import CachedModel, Pass, RowTokens, Wanted


@dataclass
class _Row:
    cached: list[int] = field(default_factory=list)
    """Committed tokens of the model's row."""
    slots: list[tuple[int, int]] = field(default_factory=list)
    """(token, parent slot) of each scratch slot."""


PIECE = 512
"""Most tokens of a row in a pass: masks grow with their square."""


class DraftCache:
    """The draft model's side of a row: at least the last token of a text, the pending one, is never committed."""

    def __init__(self, model: CachedModel) -> None:
        self.model = model
        self._rows: dict[int, _Row] = {}

    def add(self, row: int) -> None:
        self.model.add_row(row)
        self._rows[row] = _Row()

    def drop(self, row: int) -> None:
        if self._rows.pop(row, None) is not None:
            self.model.drop_row(row)

    def follow(self, row: int, text: Sequence[int]) -> None:
        """The row's text is now `text`, its last token pending. Scratch slots that it does not pass are forgotten."""
        state = self._rows[row]
        settled = text[:-1]
        kept = _common_length(state.cached, settled)
        if kept < len(state.cached):
            self.model.truncate(row, kept)
            del state.cached[kept:]
        elif state.slots:
            path = _walk(state.slots, settled[kept:])
            self.model.commit(row, path)
            state.cached.extend(settled[kept : kept + len(path)])
        state.slots = []

    def room(self, text: Sequence[int]) -> int:
        """How many tokens can be drafted after `text` before the context is full; the last one is never fed."""
        return max(0, self.model.info.context_length - len(text) + 1)

    def catch_up(self, texts: Mapping[int, Sequence[int]], wanted: Wanted) -> Pass:
        """Feed what the rows' caches lack of their texts, at least the pending token, as slots from 0 on.

        Of long texts all but the last piece is committed at once; asked again, the last pass is the same.
        """
        for row, text in texts.items():
            self._read(row, text)
        missing = {row: text[len(self._rows[row].cached) :] for row, text in texts.items()}
        batch = [RowTokens(row, torch.tensor(tokens, dtype=torch.int64)) for row, tokens in missing.items()]
        result = self.model.forward(batch, wanted)
        for row, tokens in missing.items():
            self._rows[row].slots = [(token, slot - 1) for slot, token in enumerate(tokens)]
        return result

    def _read(self, row: int, text: Sequence[int]) -> None:
        """Commit pieces of a text, all but the last."""
        state = self._rows[row]
        while len(text) - len(state.cached) > PIECE:
            piece = list(text[len(state.cached) : len(state.cached) + PIECE])
            self.model.forward([RowTokens(row, torch.tensor(piece, dtype=torch.int64))], Wanted(logits="none"))
            self.model.commit(row, range(PIECE))
            state.cached.extend(piece)
            state.slots = []

    def newest(self, row: int) -> int:
        """The slot that was written last: after `catch_up`, that of the pending token."""
        return len(self._rows[row].slots) - 1

    def extend(self, tokens: Mapping[int, Sequence[tuple[int, int]]], wanted: Wanted) -> Pass:
        """Feed drafted (token, parent slot) of each row into its next slots."""
        batch = []
        for row, pairs in tokens.items():
            start = len(self._rows[row].slots)
            ids = torch.tensor([token for token, _ in pairs], dtype=torch.int64)
            is_chain = all(parent == start + index - 1 for index, (_, parent) in enumerate(pairs))
            above = None if is_chain else torch.tensor([parent for _, parent in pairs], dtype=torch.int64)
            batch.append(RowTokens(row, ids, above, start))
        result = self.model.forward(batch, wanted)
        for row, pairs in tokens.items():
            self._rows[row].slots.extend(pairs)
        return result


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:  # by far the commonest case, and one comparison in C
        return shorter
    return next(index for index in range(shorter) if left[index] != right[index])


def _walk(slots: Sequence[tuple[int, int]], tokens: Sequence[int]) -> list[int]:
    """Slots of the longest path from the committed end that spells a beginning of `tokens`."""
    below = {(parent, token): slot for slot, (token, parent) in enumerate(slots)}
    path: list[int] = []
    for token in tokens:
        slot = below.get((path[-1] if path else -1, token))
        if slot is None:
            break
        path.append(slot)
    return path
