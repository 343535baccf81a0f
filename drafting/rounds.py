"""What happened in each round, and the figures drawn from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class RowRound:
    """One row's share of one round: one pass of the target."""

    row: int
    index: int
    """0-based round of the row; prefill, which drafts nothing, is not a round."""
    position: int
    """Absolute position of the first token emitted."""
    drafter: str
    """Which drafter drafted; `none` for a plain step."""
    law: str
    rule: str
    lossless: bool
    drafted: int
    """Nodes of the draft."""
    depth: int
    """Depth of its deepest node."""
    accepted: int
    """Drafted tokens accepted."""
    emitted: int
    """Tokens emitted: accepted ones and the correction or bonus token, less what a stop cut off."""
    score: float | None
    """Accepted tokens that the drafter expected, where it says."""
    draft_ms: float
    """Wall time of drafting, shared evenly among the rows of the batch."""
    verify_ms: float
    """Wall time of the target's pass and the rule, shared evenly."""


@dataclass(frozen=True)
class Totals:
    """Figures of a generation or of many."""

    rounds: int
    emitted: int
    drafted: int
    accepted: int
    draft_ms: float
    verify_ms: float

    @property
    def block_efficiency(self) -> float:
        """Tokens emitted by the target's passes after prefill, per pass."""
        return self.emitted / self.rounds if self.rounds else 0.0

    @property
    def acceptance_length(self) -> float:
        """Mean tokens per verification before stops cut, the correction or bonus token included (as vLLM counts)."""
        return (self.accepted + self.rounds) / self.rounds if self.rounds else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted drafted tokens per drafted token."""
        return self.accepted / self.drafted if self.drafted else 0.0


def totals(rounds: Iterable[RowRound]) -> Totals:
    each = list(rounds)
    return Totals(
        rounds=len(each),
        emitted=sum(r.emitted for r in each),
        drafted=sum(r.drafted for r in each),
        accepted=sum(r.accepted for r in each),
        draft_ms=sum(r.draft_ms for r in each),
        verify_ms=sum(r.verify_ms for r in each),
    )
