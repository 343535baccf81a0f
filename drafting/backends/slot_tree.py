"""Bookkeeping of rows and their scratch slots: all that a cached model knows beside tensors, checked.

Backends keep keys and values; lengths, parents, depths, positions and who sees whom are kept here, once for all of
them. Columns of a row's cache are numbered so that committed token i lies in column i and slot s in column
`length + s`, whatever its depth. A pass is first *planned*, which checks everything and changes nothing, then run by
the backend, then *applied*: a pass that raises leaves the rows as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from draftproof.drafting.model import GreedyWish, RowTokens
from draftproof.errors import ContextLengthError, UsageError


@dataclass(frozen=True)
class SlotTree:
    """The scratch slots of one row. Changes make new trees."""

    parents: tuple[int, ...] = ()
    """Slot above each slot, -1 for the committed end."""
    depths: tuple[int, ...] = ()
    """0 for the children of the committed end: a slot's position is `length + depth`."""
    layers: tuple[int, ...] = ()
    """How many layers, from the first on, have run over the slot. Never more than over its parent."""
    is_chain: bool = True

    def __len__(self) -> int:
        return len(self.parents)

    def written(self, parents: Sequence[int] | None, count: int, start: int, first: int, last: int) -> SlotTree:
        """The tree after a pass of layers `first` … `last - 1` over `count` slots from `start` on.

        Slots from `start` on are replaced. When `first` is above 0 they must be there already, run up to that layer.
        """
        if not 0 <= start <= len(self):
            raise UsageError(
                f"The pass begins at slot {start}, but the row has {len(self)} slots.",
                remedy="Start at 0, or at most one past the last slot of the passes before.",
            )
        new = tuple(range(start - 1, start + count - 1)) if parents is None else tuple(parents)
        if len(new) != count:
            raise UsageError(f"{count} tokens came with {len(new)} parents; each token needs one.")
        if first > 0:
            self._check_resumed(new, start, first)
        depths, layers = list(self.depths[:start]), list(self.layers[:start])
        for slot, parent in enumerate(new, start):
            if not -1 <= parent < slot:
                raise UsageError(f"Slot {slot} hangs under slot {parent}; a parent is -1 or a smaller slot.")
            if 0 <= parent < start and layers[parent] < last:
                raise UsageError(
                    f"Slot {slot} hangs under slot {parent}, over which {layers[parent]} layers have run, not {last}.",
                    remedy="Run the layers that are missing over the lower slots first.",
                )
            depths.append(0 if parent < 0 else depths[parent] + 1)
            layers.append(last)
        chain = (self.is_chain or start == 0 or self.parents[:start] == tuple(range(-1, start - 1))) and (
            parents is None or new == tuple(range(start - 1, start + count - 1))
        )
        return SlotTree(self.parents[:start] + new, tuple(depths), tuple(layers), chain)

    def _check_resumed(self, parents: tuple[int, ...], start: int, first: int) -> None:
        stop = start + len(parents)
        if stop > len(self) or self.parents[start:stop] != parents:
            raise UsageError(
                f"Layer {first} was asked to go on over slots {start} to {stop - 1}, which no earlier pass wrote so.",
                remedy="Run the layers below over the same slots, with the same parents, first.",
            )
        lowest = min(self.layers[start:stop])
        if lowest < first:
            raise UsageError(f"Layer {first} was asked for, but only {lowest} layers have run over the slots.")

    def check_path(self, slots: Sequence[int], n_layers: int) -> None:
        """Raises UsageError unless `slots` lead down from the committed end, each run through all layers."""
        above = -1
        for slot in slots:
            if not 0 <= slot < len(self):
                raise UsageError(f"Slot {slot} was to be committed, but the row has {len(self)} slots.")
            if self.parents[slot] != above:
                raise UsageError(
                    f"Slot {slot} was to be committed after {above}, but hangs under {self.parents[slot]}.",
                    remedy="Commit a path: each slot the parent of the next, the first one's parent -1.",
                )
            if self.layers[slot] < n_layers:
                raise UsageError(
                    f"Slot {slot} was to be committed, but only {self.layers[slot]} of {n_layers} layers ran over it.",
                    remedy="Run the remaining layers over it first.",
                )
            above = slot

    def visible(self, start: int) -> Tensor:
        """[S - start, S] bool: which slots each slot from `start` on attends to: its ancestors and itself."""
        size = len(self)
        if self.is_chain:
            return torch.ones((size - start, size), dtype=torch.bool).tril_(start)
        seen = np.zeros((size, size), dtype=np.bool_)
        for slot, parent in enumerate(self.parents):
            if parent >= 0:
                seen[slot] = seen[parent]
            seen[slot, slot] = True
        return torch.from_numpy(seen[start:])


@dataclass(frozen=True)
class PlannedRow:
    """One row's part of a pass, checked."""

    row: int
    tokens: Tensor
    """[n] int64, as it was handed in."""
    length: int
    """Committed tokens."""
    start: int
    tree: SlotTree
    """As it will be after the pass."""

    @property
    def count(self) -> int:
        return len(self.tree) - self.start

    @property
    def first_column(self) -> int:
        """Cache column of the first token of the pass; the others follow."""
        return self.length + self.start

    @property
    def columns(self) -> int:
        """Columns in use after the pass: committed tokens and slots."""
        return self.length + len(self.tree)

    @property
    def positions(self) -> list[int]:
        """Absolute positions of the pass's tokens."""
        return [self.length + depth for depth in self.tree.depths[self.start :]]


class RowTable:
    """Lengths and slots of all rows of a model."""

    def __init__(self, *, vocab_size: int, context_length: int, n_layers: int) -> None:
        self._vocab_size = vocab_size
        self._context_length = context_length
        self._n_layers = n_layers
        self._lengths: dict[int, int] = {}
        self._trees: dict[int, SlotTree] = {}

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, row: int) -> None:
        if row in self._lengths:
            raise UsageError(f"Row {row} is in use.", remedy="Drop it first, or choose another id.")
        self._lengths[row] = 0
        self._trees[row] = SlotTree()

    def drop(self, row: int) -> None:
        self.length(row)
        del self._lengths[row], self._trees[row]

    def length(self, row: int) -> int:
        """Committed tokens of the row."""
        try:
            return self._lengths[row]
        except KeyError:
            raise UsageError(f"There is no row {row}.", remedy="Add it with add_row first.") from None

    def slots(self, row: int) -> SlotTree:
        self.length(row)
        return self._trees[row]

    def plan(self, batch: Sequence[RowTokens], *, first: int = 0, last: int | None = None) -> list[PlannedRow]:
        """Each row's part of a pass over layers `first` … `last - 1` (None: all). Changes nothing."""
        if not batch:
            raise UsageError("A pass needs at least one row.")
        self._check_ids(batch)
        top = self._n_layers if last is None else last
        planned: dict[int, PlannedRow] = {}
        for part in batch:
            if part.row in planned:
                raise UsageError(f"Row {part.row} is in the batch twice; a pass takes each row once.")
            length = self.length(part.row)
            count = part.tokens.shape[0]
            needed = length + part.start + count
            if needed > self._context_length:
                raise ContextLengthError(
                    f"Row {part.row} would hold {needed} tokens, the model's context holds {self._context_length}.",
                    remedy="Shorten the prompt, generate less, or draft less near the end of the context.",
                )
            parents = None if part.parents is None else part.parents.tolist()
            tree = self._trees[part.row].written(parents, count, part.start, first, top)
            planned[part.row] = PlannedRow(part.row, part.tokens, length, part.start, tree)
        return list(planned.values())

    def _check_ids(self, batch: Sequence[RowTokens]) -> None:
        """Before anything is indexed: on a GPU an id out of range would end the process."""
        for part in batch:
            if part.tokens.dim() != 1 or part.tokens.shape[0] == 0 or part.tokens.dtype != torch.int64:
                raise UsageError(
                    f"Row {part.row}: a pass takes one or more int64 ids in one dimension, "
                    f"not {part.tokens.dtype} of shape {tuple(part.tokens.shape)}."
                )
        device = batch[0].tokens.device
        every = batch[0].tokens if len(batch) == 1 else torch.cat([part.tokens.to(device) for part in batch])
        ids = every.tolist()
        low, high = min(ids), max(ids)
        if low < 0 or high >= self._vocab_size:
            raise UsageError(
                f"Token id {low if low < 0 else high} is out of range; the model has ids 0 to {self._vocab_size - 1}.",
                remedy="Do the tokenizer and the model belong together?",
            )

    def check_wishes(self, wishes: Mapping[int, GreedyWish], vocabulary: int) -> None:
        """Raises what a pass over the same tokens would. `vocabulary`: how many logits there are."""
        if not wishes:
            raise UsageError("A pass needs at least one row.")
        for row, wish in wishes.items():
            held = self.length(row)
            if not 0 <= wish.pending < self._vocab_size:
                raise UsageError(
                    f"Token id {wish.pending} is out of range; the model has ids 0 to {self._vocab_size - 1}."
                )
            if wish.most < 1 or wish.halts.shape != (vocabulary,) or wish.halts.dtype is not torch.bool:
                raise UsageError(
                    f"Row {row} is to write {wish.most} tokens and halt at {wish.halts.dtype} of "
                    f"{tuple(wish.halts.shape)}; at least 1, and bool of ({vocabulary},), were expected."
                )
            if held + wish.most > self._context_length:
                raise ContextLengthError(
                    f"Row {row} would hold {held + wish.most} tokens, the model's context holds "
                    f"{self._context_length}.",
                    remedy="Ask for fewer.",
                )

    def apply(self, planned: Sequence[PlannedRow]) -> None:
        """The pass was run."""
        for part in planned:
            self._trees[part.row] = part.tree

    def check_commit(self, row: int, slots: Sequence[int]) -> tuple[int, list[int] | None]:
        """Where the row's new tokens go, and the columns they come from: None when they are in place. No change."""
        length = self.length(row)
        self._trees[row].check_path(slots, self._n_layers)
        moved = list(slots) != list(range(len(slots)))
        return length, [length + slot for slot in slots] if moved else None

    def committed(self, row: int, count: int) -> None:
        """`count` tokens were added to the row; its slots are gone."""
        self._lengths[row] += count
        self._trees[row] = SlotTree()

    def truncate(self, row: int, length: int) -> None:
        held = self.length(row)
        if not 0 <= length <= held:
            raise UsageError(f"Row {row} cannot be cut to {length} tokens: it holds {held}.")
        self._lengths[row] = length
        self._trees[row] = SlotTree()
