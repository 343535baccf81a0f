"""Where an early-exit drafter may leave the target, and how often each exit would have been right of late.

The drafter keeps score: after each verification it asks every candidate layer what it would have drafted. A policy
that chooses exits (`policies/del_policy.py`) reads the scores and sets the layer for the next round. One layer serves
all rows of a batch, because verification resumes all rows at one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MEMORY = 0.95
"""Weight that a score keeps each round (Zarch et al., arXiv 2504.05598, decays it too; the value is ours)."""

PRIOR_TRIALS = 2.0
"""A new row begins as rows before it ended, weighing as much as this many tokens."""

PRIOR_ACCEPTANCE = 0.5


@dataclass
class _Score:
    hits: float = 0.0
    trials: float = 0.0

    def note(self, hits: int, trials: int) -> None:
        self.hits = MEMORY * self.hits + hits
        self.trials = MEMORY * self.trials + trials


@dataclass
class Exits:
    """Shared by one drafter, which notes, and one policy, which chooses."""

    candidates: tuple[int, ...]
    """Layers after which the drafter can leave, ascending."""
    layer: int
    """The one in use: layers 0 … layer - 1 draft."""
    n_layers: int = 0
    """Of the target; known once the drafter is bound."""
    interval: int = 1
    """Rounds of a row between two scores of it."""
    _rows: dict[tuple[int, int], _Score] = field(default_factory=dict)
    _all: dict[int, _Score] = field(default_factory=dict)

    def note(self, row: int, layer: int, hits: int, trials: int) -> None:
        """`layer` would have drafted `hits` of `trials` tokens that were committed to `row`."""
        for scores in (self._rows.setdefault((row, layer), _Score()), self._all.setdefault(layer, _Score())):
            scores.note(hits, trials)

    def acceptance(self, row: int, layer: int) -> float:
        """Estimated probability that the target accepts a token that `layer` drafts for `row`."""
        common = self._all.get(layer, _Score())
        prior = (common.hits + PRIOR_ACCEPTANCE) / (common.trials + 1.0)
        mine = self._rows.get((row, layer), _Score())
        return (mine.hits + PRIOR_TRIALS * prior) / (mine.trials + PRIOR_TRIALS)

    def forget(self, rows: Sequence[int]) -> None:
        """The rows are done; what they taught about layers in general stays."""
        gone = set(rows)
        self._rows = {key: score for key, score in self._rows.items() if key[0] not in gone}
