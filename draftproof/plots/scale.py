"""From a range of values to places on an axis with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LEAST = 1e-6
"""Smaller values are drawn as 0."""
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """A linear axis from its first tick to its last."""

    ticks: tuple[float, ...]
    digits: int
    """Decimals that tell neighbouring ticks apart."""

    @property
    def low(self) -> float:
        return self.ticks[0]

    @property
    def high(self) -> float:
        return self.ticks[-1]

    def share(self, value: float) -> float:
        """Where `value` lies: 0 at the first tick, 1 at the last. Not clipped."""
        return (value - self.low) / (self.high - self.low)

    def label(self, tick: float) -> str:
        return f"{tick:,.{self.digits}f}"


def scale(values: Sequence[float], *, about: int = 5, within: tuple[float, float] | None = None) -> Scale:
    """An axis of about so many ticks that all of `values` lie on; `within` are bounds that it must not leave,
    which may be infinite.

    Raises ValueError for no values, and for values that are not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"an axis needs finite values, got {list(values)[:5]}")
    low, high = min(values), max(values)
    if high - low < max(_LEAST, 1e-9 * max(abs(low), abs(high))):  # one value: it stands in the middle
        pad = abs(low) / 10 if abs(low) > _LEAST else 0.5
        low, high = low - pad, high + pad
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
        if not low < high:
            low, high = within if math.isfinite(within[1] - within[0]) else (low, low + 1.0)
    step = _step((high - low) / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if within is not None:
        first = max(first, math.ceil(within[0] / step - 1e-9)) if math.isfinite(within[0]) else first
        last = min(last, math.floor(within[1] / step + 1e-9)) if math.isfinite(within[1]) else last
    if last <= first:
        last = first + 1
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if not math.isclose(step * 10**digits, round(step * 10**digits)):  # 2.5, 0.25, …
        digits += 1
    return Scale(tuple(round(index * step, 12) for index in range(first, last + 1)), digits)


def _step(least: float) -> float:
    """The smallest round number that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * each for each in _ROUND if power * each >= least * (1 - 1e-9))
