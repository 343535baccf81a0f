"""Keep the accepted path of a tree in the key-value cache: its columns move together, all others are overwritten.

Column `length + slots[j]` moves to `length + j`. Slots ascend, so `slots[j] >= j`, and moving them in this order never
overwrites a column that is still to be read. Rotary positions depend on depth, not on the column: nothing is rotated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def compact(caches: Sequence[Tensor], lengths: Tensor, slots: Tensor) -> None:
    """Moves the kept columns of every cache, in place.

    Args:
        caches: keys and values of all layers, each [B, heads, columns, head_dim], one shape, strides and type.
        lengths: [B] int64: committed columns of each request.
        slots: [B, A] int64: columns to keep, counted from `lengths`, strictly ascending; -1 pads on the right.
    """
    if not caches:
        return
    shape, strides, dtype = caches[0].shape, caches[0].stride(), caches[0].dtype
    for cache in caches:
        if cache.shape != shape or cache.stride() != strides or cache.dtype != dtype:
            raise ValueError(
                f"The caches differ: {tuple(cache.shape)} {cache.dtype} beside {tuple(shape)} {dtype}, or in their "
                "strides. Compact caches of one kind in one call, others in another."
            )
    if caches[0].is_cuda:
        from draftproof.kernels.compact_triton import compact_triton

        with torch.cuda.device(caches[0].device):
            compact_triton(caches, lengths, slots)
    else:
        compact_torch(caches, lengths, slots)


def compact_torch(caches: Sequence[Tensor], lengths: Tensor, slots: Tensor) -> None:
    """The definition."""
    for request, length in enumerate(lengths.tolist()):
        kept = slots[request][slots[request] >= 0]
        source = length + kept
        target = length + torch.arange(kept.shape[0], device=kept.device)
        if torch.equal(source, target):
            continue
        for cache in caches:
            cache[request, :, target] = cache[request, :, source]
