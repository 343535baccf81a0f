"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").

A number is a pure function of its address (seed, purpose, position, lane, index). The counter is
(index // 4, position, purpose, lane), the key the two halves of the seed, and index % 4 picks the output word.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words, int64 tensors holding 32-bit values, for counters of any broadcastable shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # int64 wraps; its 64 bits are the product's
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def words(seed: int, purpose: int, position: int, lane: int, index: Tensor) -> Tensor:
    """The 32-bit word of each index, int64, same shape as `index` (int64, not negative)."""
    block = index >> 2
    like = [torch.full_like(block, value) for value in (position, purpose, lane)]
    four = torch.stack(philox((block, like[0], like[1], like[2]), (seed & _MASK, (seed >> 32) & _MASK)))
    return four.gather(0, (index & 3).unsqueeze(0)).squeeze(0)


def uniforms(seed: int, purpose: int, position: int, lane: int, index: Tensor) -> Tensor:
    """Float32 in the open interval (0, 1): `(w + 1/2) 2^-23` of the upper 23 bits; with 24 it could round to 1."""
    return ((words(seed, purpose, position, lane, index) >> 9).to(torch.float32) + 0.5) * 2.0**-23


def exponentials(seed: int, purpose: int, position: int, lane: int, index: Tensor) -> Tensor:
    """Standard exponential draws, float32, positive."""
    return -torch.log(uniforms(seed, purpose, position, lane, index))
