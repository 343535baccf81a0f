# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.walk`: one launch, one warp a request; the nodes lie in registers."""

import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.drafted import Decided, Drafted, unwritten
from draftproof.kernels.race_triton import row_winner


@triton.jit
def _walk(
    scores,  # [R, splits] where SLICED
    ids,  # [R], or [R, splits] where SLICED
    splits,
    tokens,  # [B, K]
    parent,  # [B, K]
    cu_rows,  # [B+1]
    width,  # K
    out,  # [B, K+1]
    num,  # [B]
    path,  # [B, K]
    bad,  # [B]
    HAS_PARENT: tl.constexpr,
    SLICED: tl.constexpr,
    SPLITS: tl.constexpr,
    NODES: tl.constexpr,
):
    request = tl.program_id(0).to(tl.int64)
    start = tl.load(cu_rows + request)
    nodes = tl.load(cu_rows + request + 1) - start - 1
    index = tl.arange(0, NODES)
    real = index < nodes
    token = tl.load(tokens + request * width + index, mask=real, other=-1)
    if HAS_PARENT:
        above = tl.load(parent + request * width + index, mask=real, other=-2)
    else:
        above = tl.where(real, index - 1, -2).to(tl.int64)

    emitted = tl.full((NODES,), -1, tl.int64)
    taken = tl.full((NODES,), -1, tl.int64)
    node = start * 0 - 1
    depth = start * 0
    spoiled = start * 0 - 1
    going = start >= 0
    while going:
        row = start + 1 + node
        best = row_winner(scores, ids, row, splits, SPLITS) if SLICED else tl.load(ids + row)
        child = tl.min(tl.where((above == node) & (token == best) & (index > node), index, NODES), axis=0).to(tl.int64)
        going = (best >= 0) & (child < NODES)
        spoiled = tl.where(best < 0, node + 1, spoiled)
        emitted = tl.where(index == tl.where(best < 0, -1, depth), best, emitted)
        taken = tl.where((index == depth) & going, child, taken)
        node = tl.where(going, child, node)
        depth += going.to(tl.int64)
    tl.store(out + request * (width + 1) + index, emitted, mask=index <= width)
    tl.store(path + request * width + index, taken, mask=index < width)
    tl.store(num + request, (depth + (spoiled < 0).to(tl.int64)).to(tl.int32))
    tl.store(bad + request, spoiled.to(tl.int32))


def walk_slices(scores: Tensor | None, ids: Tensor, drafted: Drafted) -> Decided:
    """The walk over ids [R], or, where `scores` are given, over the winners of slices [R, splits]."""
    requests, width = drafted.tokens.shape
    decided = unwritten(drafted)
    if requests == 0:
        return decided
    sliced = scores is not None
    splits = scores.shape[1] if sliced else 1
    has_parent = drafted.parent is not None
    _walk[(requests,)](
        scores if sliced else ids,
        ids,
        splits,
        drafted.tokens,
        drafted.parent if has_parent else drafted.tokens,
        drafted.cu_rows,
        width,
        decided.out,
        decided.num,
        decided.path,
        decided.bad,
        HAS_PARENT=has_parent,
        SLICED=sliced,
        SPLITS=triton.next_power_of_2(splits),
        NODES=triton.next_power_of_2(width + 1),
        num_warps=1,
    )
    return decided


def walk_triton(ids: Tensor, drafted: Drafted) -> Decided:
    return walk_slices(None, ids, drafted)
