"""What drafters that copy text have in common: each row's tokens, kept in step with commits and rewinds.

A subclass says what it keeps of a row (a `RowIndex`) and how it drafts from it. Indexes see committed tokens only,
so a rejected draft leaves no trace; `truncate` must undo `append` exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.token_tree import TokenTree, pack_trees
from draftproof.errors import ContractError, UsageError


class RowIndex(Protocol):
    """One row's committed text, arranged for drafting."""

    def __len__(self) -> int: ...

    def append(self, token: int) -> None: ...

    def truncate(self, length: int) -> None:
        """Forget every token from `length` on, as if it had never been appended."""
        ...


IndexT = TypeVar("IndexT", bound=RowIndex)


class CopyingDrafter(ABC, Generic[IndexT]):
    """Law `match`; needs tokens only."""

    def __init__(self, name: str, *, max_nodes: int, max_depth: int) -> None:
        if max_nodes < 1 or max_depth < 1:
            raise UsageError(f"{name}: max_nodes is {max_nodes} and max_depth {max_depth}; both must be at least 1.")
        self._spec = DrafterSpec(name=name, max_nodes=max_nodes, max_depth=max_depth)
        self._rows: dict[int, IndexT] = {}
        self._end_ids: frozenset[int] = frozenset()
        self._vocab_size = 0

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @abstractmethod
    def _index(self, event: Commit) -> IndexT:
        """An index for a new row, empty; the tokens of `event` are appended to it next."""

    @abstractmethod
    def _tree(self, index: IndexT, budget: int) -> TokenTree:
        """A draft of at most `budget` nodes, at least 1. Must not change `index`."""

    def bind(self, binding: Binding) -> None:
        self._end_ids = binding.model.info.eos_ids
        self._vocab_size = binding.model.info.vocab_size

    def start(self, event: Commit) -> None:
        if event.row in self._rows:
            raise ContractError(f"{self.spec.name}: row {event.row} was started twice without being stopped.")
        index = self._rows[event.row] = self._index(event)
        for token in event.tokens:
            index.append(token)

    def propose(self, request: DraftRequest) -> Draft:
        trees = []
        for row, budget in zip(request.rows, request.budget, strict=True):
            budget = min(budget, self._spec.max_nodes)
            trees.append(self._tree(self._rows[row], budget) if budget > 0 else TokenTree())
        return pack_trees(trees)

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            index = self._rows[event.row]
            for token in event.tokens:
                index.append(token)
            if len(index) != event.length:
                raise ContractError(
                    f"{self.spec.name}: row {event.row} holds {len(index)} tokens after a commit to {event.length}.",
                    remedy="Every commit and rewind of a row must reach the drafter, in order.",
                )

    def rewind(self, row: int, length: int) -> None:
        index = self._rows[row]
        if not 0 < length <= len(index):
            raise ContractError(f"{self.spec.name}: row {row} holds {len(index)} tokens, it cannot go to {length}.")
        index.truncate(length)

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._rows[row]
