"""What a pass of the target costs: v(k), measured at start-up."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from draftproof.drafting.model import CachedModel, RowTokens

SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTEXT = 64
"""Committed tokens while measuring: attention costs little beside the weights until contexts are long."""

_PROBE_ROW = -(2**62)
"""A row id that no caller uses."""


@dataclass(frozen=True)
class PassCosts:
    """Milliseconds of a target pass over k tokens of one row, at a few sizes; between them it is interpolated."""

    sizes: tuple[int, ...]
    """Ascending, beginning with 1."""
    ms: tuple[float, ...]

    def pass_ms(self, tokens: int) -> float:
        """Piecewise linear; beyond the last size, its last slope goes on."""
        if tokens <= self.sizes[0] or len(self.sizes) == 1:
            return self.ms[0]
        right = min(bisect_left(self.sizes, tokens), len(self.sizes) - 1)
        left = right - 1
        slope = (self.ms[right] - self.ms[left]) / (self.sizes[right] - self.sizes[left])
        return self.ms[left] + slope * (tokens - self.sizes[left])

    def ratio(self, tokens: int) -> float:
        """v(k): a pass over `tokens` tokens, in passes over one."""
        return self.pass_ms(tokens) / self.ms[0]


def measure_pass_costs(model: CachedModel, *, sizes: Sequence[int] = SIZES, repeats: int = 3) -> PassCosts:
    """The fastest of `repeats` passes at each size that fits the context, made cheapest-first and never falling.

    The fastest, because whatever else the machine does only ever adds; never falling, because a larger pass that
    seems cheaper is noise. `sizes`: ascending from 1.
    """
    room = model.info.context_length - 1
    context = min(CONTEXT, room // 2)
    sizes = tuple(size for size in sizes if context + size <= room) or (1,)
    model.add_row(_PROBE_ROW)
    try:
        if context:
            model.forward([RowTokens(_PROBE_ROW, _any_tokens(context))])
            model.commit(_PROBE_ROW, range(context))
        fastest = []
        for size in sizes:
            passes = [RowTokens(_PROBE_ROW, _any_tokens(size))]
            fastest.append(min(_timed(model, passes) for _ in range(repeats)))
    finally:
        model.drop_row(_PROBE_ROW)
    for index in range(1, len(fastest)):
        fastest[index] = max(fastest[index], fastest[index - 1])
    return PassCosts(sizes, tuple(fastest))


def _any_tokens(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int64)


def _timed(model: CachedModel, batch: list[RowTokens]) -> float:
    _settle(model.info.device)
    started = time.perf_counter()
    model.forward(batch)
    _settle(model.info.device)
    return (time.perf_counter() - started) * 1000.0


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
