"""How far a copy can be trusted: the chance that the token after a match of n tokens comes again.

The chance begins at a prior and is then learnt from the row's own text: before each token is appended, an index asks
itself what it would have drafted, and tells how that went. So it is a function of the text alone; it does not depend
on what was drafted, verified or batched, and appending and undoing leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

PRIOR = (0.30, 0.45, 0.55, 0.62, 0.70, 0.70, 0.80, 0.80, 0.80, 0.80, 0.90)
"""Chance after a match of 1, 2, 3 … tokens, the last one for all longer."""
PRIOR_WEIGHT = 4.0
"""Observations that the prior counts for."""
MEMORY = 0.96
"""Weight of an observation against the next one of the same length: what a row does changes as it goes on."""


class Trust:
    """Chance of a right copy by match length, with an undo for each observation."""

    __slots__ = ("_hits", "_log", "_tries")

    def __init__(self, prior: Sequence[float] = PRIOR) -> None:
        self._hits = [chance * PRIOR_WEIGHT for chance in prior]
        self._tries = [PRIOR_WEIGHT] * len(prior)
        self._log: list[tuple[int, float, float] | None] = []

    def of(self, length: int) -> float:
        """Chance that the token after a match of `length` ≥ 1 tokens comes again."""
        slot = min(length, len(self._hits)) - 1
        return self._hits[slot] / self._tries[slot]

    def chances(self) -> list[float]:
        """`of` for 1, 2, 3 … tokens; the last one for all longer."""
        return [hits / tries for hits, tries in zip(self._hits, self._tries, strict=True)]

    def observe(self, length: int, right: bool) -> None:
        """What became of a copy after a match of `length` tokens; 0: there was no match, nothing is learnt."""
        if length == 0:
            self._log.append(None)
            return
        slot = min(length, len(self._hits)) - 1
        hits, tries = self._hits[slot], self._tries[slot]
        self._log.append((slot, hits, tries))
        self._hits[slot] = hits * MEMORY + right
        self._tries[slot] = tries * MEMORY + 1.0

    def undo(self) -> None:
        """Take the newest observation back."""
        before = self._log.pop()
        if before is not None:
            slot, self._hits[slot], self._tries[slot] = before
