"""Weights rounded to eight bits, for what only drafts.

Reading a draft's weights is most of its time, and the native layout keeps numbers of eight bits as such
(`native_weights.h`): a quarter of the memory, and of the time. A draft's own probabilities are those of the rounded
weights, so that a lossless rule is told the truth; `benchmarks/bench_heads.py` has what rounding costs in acceptance.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GROUP, _LEVELS = 32, 127


def in_eight_bits(weight: Tensor) -> Tensor:
    """`weight` [N, K] float32 with every group of 32 numbers rounded to multiples of a scale of few bits, at most 127
    of it, in the manner of GGUF's Q8_0; as it is where it has no such groups."""
    if weight.dim() != 2 or weight.shape[1] % _GROUP:
        return weight
    groups = weight.unflatten(1, (-1, _GROUP))
    scales = (groups.abs().amax(-1, keepdim=True) / _LEVELS).bfloat16().float()
    levels = (groups / scales).round().clamp(-_LEVELS, _LEVELS)
    return torch.where(scales > 0, levels * scales, 0.0).flatten(1)
