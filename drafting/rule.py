"""The acceptance rule: which drafted tokens survive, and which token follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from draftproof.drafting.draft import Draft, Law
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.sampling import Sampling


@dataclass(frozen=True)
class Verification:
    """What a rule sees of one round: logits of the target at the pending token and at every node."""

    logits: Tensor
    """[R, V] raw logits, repetition penalty already applied; row `bounds[b]` is that of b's pending token,
    row `bounds[b] + 1 + n` that of its node n: the distribution of the node's children."""
    bounds: tuple[int, ...]
    """[B+1]."""
    draft: Draft
    sampling: tuple[Sampling, ...]
    rng: tuple[KeyedRng, ...]
    positions: tuple[int, ...]
    """[B] absolute position of the token that follows the pending one: what draws are keyed by is this plus depth."""


@dataclass(frozen=True)
class Decision:
    """What became of one row's draft."""

    path: tuple[int, ...]
    """Accepted nodes from the root down; each the parent of the next."""
    token: int
    """The correction or bonus token after them, 0 … V-1."""


@dataclass(frozen=True)
class RuleSpec:
    name: str
    lossless: bool
    """Whether the output law is exactly that of plain decoding with the same `Sampling`."""
    laws: frozenset[Law]
    """Laws of drafts that the rule can verify. The engine refuses other drafters at construction."""


@runtime_checkable
class Rule(Protocol):
    @property
    def spec(self) -> RuleSpec: ...

    def decide(self, verification: Verification) -> Sequence[Decision]:
        """One decision a row. Greedy rows (temperature 0) follow the arg-max, whatever the rule.

        Raises NumericalError, naming the row, when a row of logits that is looked at holds NaN or no finite value.
        """
        ...
