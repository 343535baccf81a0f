"""What the engine asks of a causal language model: cached passes over chains and trees, for many rows at once.

Target and draft models answer to the same protocol. A *row* is one sequence with a stable id of the caller's
choosing. Its cache holds `length(row)` committed tokens. A pass writes its tokens into *scratch slots* after them:
slot numbers start at 0, and a slot's parent is another slot or -1, the end of the committed tokens, so that slots
form a tree (a chain is the common case). A slot attends to all committed tokens, its ancestors and itself, and its
position is `length + depth`. `commit` keeps a path of slots, moves them to the end of the committed tokens and
forgets all other slots; `truncate` forgets committed tokens. Nothing else changes a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelInfo:
    """Facts of a model that drafters, rules and records need."""

    name: str
    """What the user called it: a folder, a hub id, or the class of an object that was handed in."""
    architecture: str
    vocab_size: int
    """V: rows of logits are this wide."""
    hidden_size: int
    n_layers: int
    context_length: int
    """Most tokens a row may hold, committed and scratch together."""
    eos_ids: frozenset[int]
    device: torch.device
    dtype: torch.dtype
    backend: str
    """`transformers`, or `lean-llama` for our own forward pass."""
    digest: str
    """Identifies architecture and weights; what trained heads are bound to."""


@dataclass(frozen=True)
class RowTokens:
    """What one row feeds into a pass: `n` tokens that fill the scratch slots `start` … `start + n - 1`."""

    row: int
    tokens: Tensor
    """[n] int64 on the CPU or the model's device; every id in 0 … V-1."""
    parents: Tensor | None = None
    """[n] int64, the slot each hangs under: -1 or a smaller slot. None is a chain: slot s hangs under s - 1."""
    start: int = 0
    """First slot to write. Slots at or above `start` from earlier passes are overwritten and forgotten."""


@dataclass(frozen=True)
class Wanted:
    """Which results of a pass are computed; a logit row costs a row of the language-model head."""

    logits: str = "all"
    """`all` slots, only the `last` one of each row, or `none`."""
    taps: tuple[int, ...] = ()
    """Layers whose hidden states are returned: 0 is the embedding, l the output of layer l (before the final norm)."""


@dataclass(frozen=True)
class Pass:
    """Results of one pass, packed: rows one after the other in the order they were given."""

    logits: Tensor | None
    """[R, V]: raw, unprocessed; float32 on the CPU, else the model's dtype."""
    logit_bounds: tuple[int, ...]
    """[B+1]: row b's logits are `logits[logit_bounds[b]:logit_bounds[b+1]]`, slot order."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """Layer -> [T, H], all slots of the pass, packed."""
    bounds: tuple[int, ...] = (0,)
    """[B+1]: row b's slots among the T of `hidden`."""


@runtime_checkable
class CachedModel(Protocol):
    """A causal language model with a cache of rows. See the module's text for rows and slots."""

    @property
    def info(self) -> ModelInfo: ...

    def add_row(self, row: int) -> None:
        """Begin an empty row. Raises ValueError for an id in use."""
        ...

    def drop_row(self, row: int) -> None:
        """Forget the row and give its memory back for others."""
        ...

    def length(self, row: int) -> int:
        """Committed tokens of the row."""
        ...

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:
        """One pass over all rows of `batch`; each row at most once.

        Raises ContextLengthError when a row would outgrow the context and UsageError for ids out of range.
        """
        ...

    def commit(self, row: int, slots: Sequence[int]) -> None:
        """Keep `slots`, a path from the committed end (each the parent of the next); forget all other slots."""
        ...

    def truncate(self, row: int, length: int) -> None:
        """Forget all slots and every committed token from `length` on."""
        ...

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings [..., H] of ids [...], as the first layer gets them."""
        ...

    def head(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Final norm and language-model head: logits [..., V], or [..., len(ids)] for those ids only."""
        ...


@dataclass(frozen=True)
class GreedyWish:
    """How far one row is to be written."""

    pending: int
    """The token that the row goes on behind; it is not in the cache yet."""
    most: int
    """Tokens, at least 1; the context has room for as many."""
    halts: Tensor
    """[V] bool on the CPU: tokens behind which to stop; that token itself is kept."""


@dataclass(frozen=True)
class GreedyText:
    """What one row was written."""

    tokens: list[int]
    """Its n new tokens, each the arg-max of the logits behind the one before."""
    logits: Tensor
    """[n, V], raw: those that the tokens are the arg-max of."""
    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    """Tapped layer -> [n, H]: the states from which the logits come."""


@runtime_checkable
class GreedyModel(CachedModel, Protocol):
    """A model that can take several steps of plain greedy decoding by itself."""

    @property
    def tokens_at_once(self) -> int:
        """How many are worth it; below 2 where they are not, and then there is no calling."""
        ...

    def write_greedily(self, wishes: Mapping[int, GreedyWish], taps: Sequence[int] = ()) -> dict[int, GreedyText]:
        """What each row goes on with; with the states of the layers `taps`, numbered as those of `Wanted`.

        The pending token and all new ones but the last are committed. A row has none where its logits are no numbers,
        and fewer where those behind a new token are. Raises as `forward` does, and changes nothing then.
        """
        ...


@runtime_checkable
class LayeredModel(CachedModel, Protocol):
    """A model whose layers can be run in part: early-exit drafting, and verification that resumes at a layer."""

    @property
    def supports_layers(self) -> bool:
        """Whether this very model can; a backend may serve architectures whose layers it cannot call."""
        ...

    def run_layers(
        self,
        batch: Sequence[RowTokens],
        first: int,
        last: int,
        hidden: Tensor | None = None,
        taps: tuple[int, ...] = (),
    ) -> Pass:
        """Run layers `first` … `last - 1` over the slots, writing those layers' cache entries.

        `hidden` [T, H] is the input of layer `first`, packed; None means the embeddings, and then `first` is 0.
        The result has no logits; `hidden[last]` is the output [T, H].
        """
        ...
