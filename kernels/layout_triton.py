# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""How the Triton kernels share out rows and vocabulary, and find their way in packed rows."""

import torch
import triton
import triton.language as tl

BLOCK = 1024
"""Logits that a program holds at a time."""
_WAVES = 2
"""Programs per multiprocessor that a launch over rows and splits aims at."""
PROCESSORS_WITHOUT_DEVICE = 8
"""So few that the interpreter's small vocabularies are split, and slices looped over, as on a device."""


def split_vocabulary(rows, vocab, device, block):
    """(splits, logits per split, a multiple of the block): enough programs for the whole device from few rows."""
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    else:
        processors = PROCESSORS_WITHOUT_DEVICE
    blocks = triton.cdiv(vocab, block)
    splits = min(blocks, max(1, triton.cdiv(_WAVES * processors, max(rows, 1))))
    per_split = triton.cdiv(blocks, splits) * block
    return triton.cdiv(vocab, per_split), per_split


def block_for(vocab, block=None):
    """The block, no larger than a small vocabulary needs; tests give their own."""
    return block or min(BLOCK, max(16, triton.next_power_of_2(vocab)))


def require_adjacent(logits):
    """Logits of a row must be adjacent; rows may lie apart."""
    return logits if logits.stride(-1) == 1 else logits.contiguous()


@triton.jit
def request_of_row(cu_rows, row, requests, REQUESTS: tl.constexpr):
    """The request that a packed row belongs to."""
    index = tl.arange(0, REQUESTS)
    ends = tl.load(cu_rows + 1 + index, mask=index < requests, other=0)
    return tl.sum(((ends <= row) & (index < requests)).to(tl.int32), axis=0)


@triton.jit
def depth_of_node(parent, node, HAS_PARENT: tl.constexpr):
    """Nodes from the pending token (0) down to node (-1 is the pending token); `parent` is the request's own row."""
    depth = node * 0
    if HAS_PARENT:
        while node >= 0:
            above = tl.load(parent + node)
            node = tl.minimum(above, node - 1)  # ends, whatever the array holds
            depth += 1
    else:
        depth = node + 1
    return depth


@triton.jit
def scale_of(inv_temp):
    """Factor of the logits: greedy rows, marked by 0, are read as they are."""
    return tl.where(inv_temp == 0.0, 1.0, inv_temp)


@triton.jit
def pick(values, index, at):
    """The element of a block at a scalar place, 0 where the place is outside."""
    return tl.sum(tl.where(index == at, values, 0), axis=0)
