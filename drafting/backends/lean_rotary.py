"""Rotary embedding as one complex multiplication (Su et al., RoFormer, arXiv 2104.09864, section 3.2.2).

A pair of numbers of a head, read as a complex number, is turned by position times frequency. Factors are laid out for
the whole output of a layer's first multiplication: queries, which are scaled for attention as well, keys, and values,
whose factor is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftproof.drafting.backends.lean_shape import LeanShape

_FIRST_POSITIONS = 1024


class RotaryTable:
    """Factors of all positions so far asked for."""

    def __init__(self, shape: LeanShape) -> None:
        self._shape = shape
        self._turns = torch.empty((0, shape.head_size // 2), dtype=torch.complex64)

    def turns(self, beyond: int) -> Tensor:
        """[P, head size / 2] complex64, contiguous: of all positions up to `beyond` and perhaps more."""
        if beyond > self._turns.shape[0]:
            self._extend(max(_FIRST_POSITIONS, 2 * beyond))
        return self._turns

    def factors(self, positions: Sequence[int]) -> Tensor:
        """[T, (heads + 2 * kv heads) * head size / 2] complex64."""
        shape = self._shape
        turns = self.turns(max(positions) + 1).index_select(0, torch.tensor(positions)).unsqueeze(1)
        queries = (turns * shape.head_size**-0.5).expand(-1, shape.heads, -1)
        keys = turns.expand(-1, shape.kv_heads, -1)
        values = turns.new_ones((1, 1, 1)).expand(len(positions), shape.kv_heads, turns.shape[-1])
        return torch.cat([queries, keys, values], dim=1).view(len(positions), -1)

    def _extend(self, positions: int) -> None:
        # As transformers computes them: angles in float32, rounded there.
        angles = torch.arange(positions, dtype=torch.float32)[:, None] * self._shape.frequencies
        self._turns = torch.complex(angles.cos(), angles.sin()).mul_(self._shape.rotary_scale)
