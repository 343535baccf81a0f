"""How a drafter's promises compare with what came of them, for one row and over all rows."""

from __future__ import annotations

from dataclasses import dataclass, field

PRIOR = 6.0
"""Promised tokens that the belief in a drafter's own scores counts for; in a row, what all rows have shown."""
MEMORY = 0.98
"""Weight of a round against the next one."""
MOST = 2.0
"""A drafter that undersells itself is not believed to be better than this many times its word."""


@dataclass
class _Tally:
    promised: float = 0.0
    kept: float = 0.0

    def add(self, promised: float, kept: float) -> None:
        self.promised = self.promised * MEMORY + promised
        self.kept = self.kept * MEMORY + kept


@dataclass
class TrackRecord:
    """Of one drafter."""

    overall: _Tally = field(default_factory=_Tally)
    rows: dict[int, _Tally] = field(default_factory=dict)
    rounds: int = 0
    """Rounds in which it drafted."""
    mean_kept: float = 0.0
    """Tokens that it had right per round, of late."""

    def factor(self, row: int) -> float:
        """What its scores are to be multiplied by."""
        overall = (self.overall.kept + PRIOR) / (self.overall.promised + PRIOR)
        mine = self.rows.get(row)
        if mine is not None:
            overall = (mine.kept + PRIOR * overall) / (mine.promised + PRIOR)
        return min(MOST, overall)

    def note(self, row: int, promised: float, kept: float) -> None:
        self.overall.add(promised, kept)
        self.rows.setdefault(row, _Tally()).add(promised, kept)
        self.rounds += 1
        self.mean_kept += (kept - self.mean_kept) / min(self.rounds, 50)

    def forget(self, row: int) -> None:
        self.rows.pop(row, None)
