"""How far a text can be trusted to repeat itself: the chance that the next token is among those that followed before.

The chance depends on how many tokens match and on whether the match occurred once or more often. It begins at a prior
and is then learnt from the row's own text: before each token is appended, an index asks itself what its longest match
would have offered, and tells how that went. So it is a function of the text alone; it does not depend on what was
drafted, verified or batched, and undoing takes it back exactly.
"""

from __future__ import annotations

PRIOR = (
    (0.35, 0.55, 0.65, 0.69, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.93),
    (0.52, 0.57, 0.66, 0.80, 0.84, 0.88, 0.89, 0.90, 0.90, 0.91, 0.95),
)
"""[occurred once | more often][match of 1, 2, 3 … tokens, the last for all longer]: greedy text of a small chat model
over the tasks of Spec-Bench, for tokens that the model wrote."""
SHORTER_TRUST = 0.30
"""Chance that a shorter match offers the next token when all longer ones do not."""
LONGEST = len(PRIOR[0])
PRIOR_WEIGHT = 8.0
"""Observations that the prior counts for."""
MEMORY = 0.98
"""Weight of an observation against the next one of its kind: what a row does changes as it goes on."""


class Trust:
    """Chance by match, with an undo for each observation."""

    __slots__ = ("_hits", "_log", "_tries", "chances")

    def __init__(self) -> None:
        self._hits = [[chance * PRIOR_WEIGHT for chance in row] for row in PRIOR]
        self._tries = [[PRIOR_WEIGHT] * LONGEST for _ in PRIOR]
        self.chances = [list(row) for row in PRIOR]
        self._log: list[tuple[int, int, float, float] | None] = []

    def of(self, length: int, occurrences: int) -> float:
        """Chance after a match of `length` ≥ 1 tokens that occurred `occurrences` ≥ 1 times before."""
        return self.chances[occurrences > 1][min(length, LONGEST) - 1]

    def observe(self, length: int, occurrences: int, right: bool) -> None:
        """Whether the next token was among those offered; a `length` of 0 says that there was no match."""
        if length == 0:
            self._log.append(None)
            return
        row, slot = int(occurrences > 1), min(length, LONGEST) - 1
        hits, tries = self._hits[row][slot], self._tries[row][slot]
        self._log.append((row, slot, hits, tries))
        self._set(row, slot, hits * MEMORY + right, tries * MEMORY + 1.0)

    def undo(self) -> None:
        """Take the newest observation back."""
        before = self._log.pop()
        if before is not None:
            self._set(*before)

    def _set(self, row: int, slot: int, hits: float, tries: float) -> None:
        self._hits[row][slot], self._tries[row][slot] = hits, tries
        self.chances[row][slot] = hits / tries
