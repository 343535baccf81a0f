"""What a pass of the target costs: v(k), measured at start-up."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True)
class PassCosts:
    """Milliseconds of a target pass over k tokens of one row, at a few sizes; between them it is interpolated."""

    sizes: tuple[int, ...]
    """Ascending, beginning with 1."""
    ms: tuple[float, ...]

    def pass_ms(self, tokens: int) -> float:
        """Piecewise linear; beyond the last size, its last slope goes on."""
        if tokens <= self.sizes[0]:
            return self.ms[0]
        right = min(bisect_left(self.sizes, tokens), len(self.sizes) - 1)
        left = right - 1
        slope = (self.ms[right] - self.ms[left]) / (self.sizes[right] - self.sizes[left])
        return self.ms[left] + slope * (tokens - self.sizes[left])
