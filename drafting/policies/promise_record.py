"""What a drafter's scores are worth: what it promised against what was kept, by row and by depth.

Scores can be wrong in two ways. Where text is copied, mostly whole paths are: this text repeats itself less than
others do, and one factor for a row's scores says so. Where a model drafts that is too sure of itself, every token is,
so that the error grows with depth: groups of depths, pooled over rows, have factors of their own relative to the
first. Both begin at 1 and need evidence to leave it.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.drafting.drafters.track_record import TrackRecord

GROUPS = 6
"""Depth 1, 2, 3-4, 5-8, 9-16, deeper."""

PRIOR = 12.0
"""Promised tokens that the belief in no difference between depths counts for. Less lets chance decide in text that is
copied in bursts."""

MEMORY = 0.98
"""Weight of a round against the next one."""


class PromiseRecord:
    def __init__(self) -> None:
        self._paths = TrackRecord()
        self._promised = [0.0] * GROUPS
        self._kept = [0.0] * GROUPS
        self._given: dict[int, list[float]] = {}
        """Row -> what was promised in this round, by depth."""

    def worth(self, row: int, scores: Sequence[float], parents: Sequence[int]) -> list[float]:
        """The scores of a tree as they are to be believed, none above its parent's."""
        trust = self._paths.factor(row)
        overall = (sum(self._kept) + 1.0) / (sum(self._promised) + 1.0)
        pairs = zip(self._kept, self._promised, strict=True)
        factors = [trust * (kept / overall + PRIOR) / (promised + PRIOR) for kept, promised in pairs]
        worth: list[float] = []
        for score, parent, depth in zip(scores, parents, _depths(parents), strict=True):
            worth.append(min(1.0 if parent < 0 else worth[parent], score * factors[_group(depth)]))
        return worth

    def give(self, row: int, scores: Sequence[float], parents: Sequence[int]) -> None:
        """These nodes are to be verified."""
        depths = _depths(parents)
        promised = [0.0] * max(depths, default=0)
        for score, depth in zip(scores, depths, strict=True):
            promised[depth - 1] += score
        self._given[row] = promised

    def note(self, row: int, accepted: int, verified: bool) -> None:
        """Where nothing was verified nothing is learnt, and what is known of the row fades: low trust can recover."""
        given = self._given.pop(row, [])
        promised = given if verified else []
        self._paths.note(row, sum(promised), accepted if promised else 0.0)
        if promised:
            self._promised = [MEMORY * each for each in self._promised]
            self._kept = [MEMORY * each for each in self._kept]
        for depth, score in enumerate(promised, start=1):
            self._promised[_group(depth)] += score
            self._kept[_group(depth)] += accepted >= depth

    def forget(self, row: int) -> None:
        self._paths.forget(row)
        self._given.pop(row, None)


def _depths(parents: Sequence[int]) -> list[int]:
    depths: list[int] = []
    for parent in parents:
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return depths


def _group(depth: int) -> int:
    return min(GROUPS - 1, (depth - 1).bit_length())
