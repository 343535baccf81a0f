"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3").

A number is a pure function of its address (seed, purpose, position, lane, index). The counter is
(index // 4, position, purpose, lane), the key the two halves of the seed, and index % 4 picks the output word.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_FEW = 10
"""Counters up to which plain numbers are faster than arrays."""

Words = TypeVar("Words", int, Tensor)
"""32-bit words in something wider: a number, or an int64 tensor."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Four words for a counter of four; tensors of one shape."""
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


def _philox_arrays(block: NDArray[np.uint64], rest: tuple[int, int, int], key: tuple[int, int]) -> NDArray[np.uint32]:
    """The same on the CPU, in place and in half the time: [n, 4] for n values of the counter's first word."""
    if len(block) <= _FEW:
        return np.array([philox((each, *rest), key) for each in block.tolist()], dtype=np.uint32).reshape(-1, 4)
    c0, (c1, c2, c3) = block.copy(), (np.full_like(block, value) for value in rest)
    high = np.empty_like(block)
    k0, k1 = key
    for _ in range(ROUNDS):
        c0 *= np.uint64(_MULTIPLIERS[0])
        c2 *= np.uint64(_MULTIPLIERS[1])
        c1 ^= np.right_shift(c2, np.uint64(32), out=high)
        c1 ^= np.uint64(k0)
        c3 ^= np.right_shift(c0, np.uint64(32), out=high)
        c3 ^= np.uint64(k1)
        c2 &= np.uint64(_MASK)
        c0 &= np.uint64(_MASK)
        c0, c1, c2, c3 = c1, c2, c3, c0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    four = np.empty((len(block), 4), dtype=np.uint32)
    for column, values in enumerate((c0, c1, c2, c3)):
        four[:, column] = values
    return four


def _key(seed: int) -> tuple[int, int]:
    return seed & _MASK, (seed >> 32) & _MASK


def word(seed: int, purpose: int, position: int, lane: int, index: int = 0) -> int:
    """One 32-bit word."""
    return philox((index >> 2, position, purpose, lane), _key(seed))[index & 3]


def words(seed: int, purpose: int, position: int, lane: int, index: Tensor) -> Tensor:
    """The 32-bit word of each index, int64, same shape as `index` (int64, not negative)."""
    if index.device.type == "cpu":
        flat = index.reshape(-1).numpy()
        four = _philox_arrays((flat >> 2).astype(np.uint64), (position, purpose, lane), _key(seed))
        return torch.from_numpy(four[np.arange(len(flat)), flat & 3].astype(np.int64)).reshape(index.shape)
    block = index >> 2
    like = [torch.full_like(block, value) for value in (position, purpose, lane)]
    outputs = torch.stack(philox((block, like[0], like[1], like[2]), _key(seed)))
    return outputs.gather(0, (index & 3).unsqueeze(0)).squeeze(0)


def word_row(seed: int, purpose: int, position: int, lane: int, count: int) -> NDArray[np.uint32]:
    """The words of the indices 0 … count - 1, in a quarter of the time that `words` takes."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    return _philox_arrays(blocks, (position, purpose, lane), _key(seed)).reshape(-1)[:count]


def uniform_of(words: Tensor) -> Tensor:
    """Float32 in the open interval (0, 1): `(w + 1/2) 2^-23` of the upper 23 bits; with 24 it could round to 1."""
    return ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23


def exponential_of(words: Tensor) -> Tensor:
    """Standard exponential, float32, positive: `-log(1 - x)`, x = (w + 1/2) 2^-32, the words int64 or float32.

    Small values decide races, so they are the ones that must be fine: from 23 bits, tokens of probability below 1e-7
    would all but never win, and together they hold 2e-4 of a typical row. Without `log1p` at hand, y = 1 - x and
    `log(y) x / (y - 1)`, or x where y is 1, is as exact.
    """
    x = ((words.to(torch.float32) + 0.5) * 2.0**-32).clamp(max=1.0 - 2.0**-24)
    return -torch.log1p(-x)


def uniforms(seed: int, purpose: int, position: int, lane: int, index: Tensor) -> Tensor:
    """A uniform number for each index."""
    return uniform_of(words(seed, purpose, position, lane, index))


def exponentials(seed: int, purpose: int, position: int, lane: int, index: Tensor) -> Tensor:
    """An exponential number for each index."""
    return exponential_of(words(seed, purpose, position, lane, index))


def exponential_row(seed: int, purpose: int, position: int, lane: int, count: int) -> Tensor:
    """The exponential numbers of the indices 0 … count - 1, on the CPU."""
    return exponential_of(torch.from_numpy(word_row(seed, purpose, position, lane, count).astype(np.float32)))
