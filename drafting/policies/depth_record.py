"""How often drafted tokens were accepted at each depth, in a row and in all rows so far.

For drafters that do not say how sure they are. A row begins with what all rows have shown, and soon goes by its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

PRIOR_ACCEPTANCE = 0.6
"""Of a drafter that nothing is known of."""

PRIOR_WEIGHT = 5.0
"""Observations that a row's prior counts for at each depth."""

ROW_MEMORY = 0.95
OVERALL_MEMORY = 0.98
"""Weight of an observation against the next one at its depth."""


@dataclass
class _Counts:
    tested: list[float] = field(default_factory=list)
    """Depth -> running count of drafted tokens there whose parent was accepted."""
    passed: list[float] = field(default_factory=list)
    """Depth -> running count of those that were accepted."""

    def note(self, tested: int, accepted: int, memory: float) -> None:
        more = max(0, tested - len(self.tested))
        self.tested += [0.0] * more
        self.passed += [0.0] * more
        for depth in range(tested):
            self.tested[depth] = memory * self.tested[depth] + 1.0
            self.passed[depth] = memory * self.passed[depth] + (1.0 if depth < accepted else 0.0)

    def acceptance(self, depth: int, prior: float) -> float:
        """Depths that were never tested are as the deepest that was."""
        if not self.tested:
            return prior
        at = min(depth, len(self.tested) - 1)
        return (self.passed[at] + PRIOR_WEIGHT * prior) / (self.tested[at] + PRIOR_WEIGHT)


class DepthRecord:
    def __init__(self) -> None:
        self._overall = _Counts()
        self._rows: dict[int, _Counts] = {}

    def paths(self, row: int, length: int) -> Iterator[float]:
        """Estimated probabilities that the first one, two, … `length` tokens of a chain are all accepted."""
        mine = self._rows.get(row, _Counts())
        path = 1.0
        for depth in range(length):
            path *= mine.acceptance(depth, self._overall.acceptance(depth, PRIOR_ACCEPTANCE))
            yield path

    def note(self, row: int, depth: int, accepted: int) -> None:
        """A draft of this depth was verified."""
        tested = min(accepted + 1, depth)
        self._rows.setdefault(row, _Counts()).note(tested, accepted, ROW_MEMORY)
        self._overall.note(tested, accepted, OVERALL_MEMORY)

    def forget(self, row: int) -> None:
        self._rows.pop(row, None)
