# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.compact`: all caches in one launch, through a table of their addresses.

A program owns one head of one cache and moves its columns one after the other: each of its threads loads and stores
the same elements of every column, in ascending order, so that no thread overwrites what another has yet to read.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _compact(
    table,  # [caches]: addresses
    like,  # one of the caches: its type
    lengths,  # [B]
    slots,  # [B, A]
    heads,
    kept,  # A
    head_dim,
    request_stride,
    head_stride,
    column_stride,
    element_stride,
    BLOCK: tl.constexpr,
):
    cache = tl.load(table + tl.program_id(0)).to(like.dtype)
    pair = tl.program_id(1).to(tl.int64)
    request = pair // heads
    element = tl.arange(0, BLOCK)
    base = cache + request * request_stride + (pair % heads) * head_stride + element.to(tl.int64) * element_stride
    length = tl.load(lengths + request)
    for j in range(0, kept):
        slot = tl.load(slots + request * kept + j)
        moves = element < tl.where(slot > j, head_dim, 0)
        column = tl.load(base + (length + slot) * column_stride, mask=moves)
        tl.store(base + (length + j) * column_stride, column, mask=moves)


def compact_triton(caches: Sequence[Tensor], lengths: Tensor, slots: Tensor) -> None:
    first = caches[0]
    requests, heads, _, head_dim = first.shape
    if not requests * heads * slots.shape[1]:
        return
    addresses = [cache.data_ptr() for cache in caches]
    table = torch.tensor(addresses, dtype=torch.int64).to(first.device, non_blocking=True)
    _compact[(len(caches), requests * heads)](
        table,
        first,
        lengths,
        slots,
        heads,
        slots.shape[1],
        head_dim,
        *first.stride(),
        BLOCK=triton.next_power_of_2(head_dim),
        num_warps=1,
    )
