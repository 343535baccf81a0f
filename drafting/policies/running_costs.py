"""What passes cost now: the measured table, corrected by what passes have taken since.

A table is made once, with little context. Later texts are longer, the machine does other work, a batch of rows is no
chain of tokens; and a figure of the table may have been unlucky. So every pass tells how far the estimate was off.
Most of that goes to a factor that all sizes share, because what slows one pass slows the next; a tenth goes to the
size in question, so that a wrong shape is put right in the course of some fifty passes.

Passes of another kind on the same machine, such as those that run the upper layers only, share the machine's factor,
so that either kind is known to be slow or fast again when only the other is seen; what they cost beside the table is
learnt from their first passes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from draftproof.drafting.pass_costs import PassCosts

SHARED_STEP = 0.2
"""Of a pass's surprise (log of measured over estimated time) goes to the factor of all sizes."""

OWN_STEP = 0.02
"""And this to the factor of its own size. Much smaller, or a change of all sizes would be taken for one of the shape
while only one size is seen."""

MOST_SURPRISE = 0.3
"""Clips what one pass can tell: a pass that was interrupted for a second moves the factor by 6 %."""

MOST_BEND = 0.4
"""Bounds the logs of the factors of single sizes."""


@dataclass
class _Machine:
    slowness: float = 0.0
    """Log of what passes take over what they took when the table was made."""


class RunningCosts:
    def __init__(self, table: PassCosts, *, beside: RunningCosts | None = None) -> None:
        """`beside`: of passes of another kind on the same machine."""
        self._table = table
        self._machine: _Machine = _Machine() if beside is None else beside._machine
        self._is_other_kind = beside is not None
        self._kind = 0.0
        """Log of what this kind costs over the table."""
        self._passes = 0
        self._own = [0.0] * len(table.sizes)

    def pass_ms(self, tokens: int) -> float:
        left, share = self._place(tokens)
        own = (1.0 - share) * self._own[left] + (share * self._own[left + 1] if share else 0.0)
        return self._table.pass_ms(tokens) * math.exp(self._machine.slowness + self._kind + own)

    def observe(self, tokens: int, took_ms: float) -> None:
        """A pass over `tokens` tokens, of all rows together, took this long."""
        if took_ms <= 0.0:
            return
        self._passes += 1
        surprise = math.log(took_ms / self.pass_ms(tokens))
        if self._is_other_kind:
            step = max(OWN_STEP, 1.0 / self._passes)
            self._kind += step * surprise
            surprise *= 1.0 - step
        surprise = max(-MOST_SURPRISE, min(MOST_SURPRISE, surprise))
        self._machine.slowness += SHARED_STEP * surprise
        left, share = self._place(tokens)
        self._bend(left, (1.0 - share) * surprise)
        if share:
            self._bend(left + 1, share * surprise)

    def _bend(self, size: int, surprise: float) -> None:
        self._own[size] = max(-MOST_BEND, min(MOST_BEND, self._own[size] + OWN_STEP * surprise))

    def _place(self, tokens: int) -> tuple[int, float]:
        """The measured size at or below, and how far it is from there to the next."""
        sizes = self._table.sizes
        left = max(0, bisect_right(sizes, tokens) - 1)
        if left == len(sizes) - 1 or tokens <= sizes[left]:
            return left, 0.0
        return left, (tokens - sizes[left]) / (sizes[left + 1] - sizes[left])
