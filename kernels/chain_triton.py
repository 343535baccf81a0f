# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""What the chain rules share on a GPU: the scan of the one row that is drawn from, and writing the result.

A rule finds, for every request, how far the chain was accepted and what follows; `scan_row` then looks at one slice of
that one row, and `finish`, a launch of one warp a request, picks the winner among the slices.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.drafted import unwritten
from draftproof.kernels.layout_triton import scale_of, split_vocabulary
from draftproof.kernels.race_triton import NOBODY, target_race, winner
from draftproof.kernels.residual_triton import NO_MASS, residual_race

FROM_TARGET = tl.constexpr(0)
FROM_RESIDUAL = tl.constexpr(1)
ARGMAX = tl.constexpr(2)
BAD = tl.constexpr(3)


@triton.jit
def following(is_bad, is_greedy, is_bonus):
    """Where the token after the accepted ones comes from."""
    return tl.where(is_bad, BAD, tl.where(is_greedy, ARGMAX, tl.where(is_bonus, FROM_TARGET, FROM_RESIDUAL)))


@triton.jit
def scan_row(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    row_threshold,  # [R]
    row_lse,  # [R]
    row,
    what,
    ratio,
    values,
    stride,
    rows,
    width,
    draft_inv_temp,
    threshold,
    lse,
    columns,
    of,
    seed,
    position,
    split,
    per_split,
    at,
    scores,  # out [B, splits, 3]: of the winner, of the winner of p alone, mass of the residual
    winners,  # out [B, splits, 2]
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One slice of the row that follows the accepted tokens. `at` is the slice's place among all."""
    begin = split * per_split
    end = tl.minimum(begin + per_split, vocab)
    scale = scale_of(tl.load(inv_temp + row))
    lowest = tl.load(row_threshold + row)
    target_row = logits + row * row_stride
    if what == FROM_TARGET:
        score, best = target_race(target_row, scale, lowest, 0, seed, position, begin, end, BLOCK)
        tl.store(scores + at * 3, score)
        tl.store(winners + at * 2, best)
    elif what == FROM_RESIDUAL:
        mass, score, best, plain, plain_best = residual_race(
            target_row,
            scale,
            lowest,
            tl.load(row_lse + row),
            ratio,
            values,
            stride,
            rows,
            width,
            draft_inv_temp,
            threshold,
            lse,
            columns,
            of,
            seed,
            position,
            begin,
            end,
            HAS_LAW,
            HAS_COLUMNS,
            BLOCK,
        )
        tl.store(scores + at * 3, score)
        tl.store(scores + at * 3 + 1, plain)
        tl.store(scores + at * 3 + 2, mass)
        tl.store(winners + at * 2, best)
        tl.store(winners + at * 2 + 1, plain_best)


@triton.jit
def _finish(
    tokens,  # [B, K]
    cu_rows,  # [B+1]
    argmax,  # [R]
    accepted,  # [B]
    source,  # [B]: FROM_TARGET, FROM_RESIDUAL, ARGMAX or BAD
    spoiled,  # [B]: the bad row, where BAD
    scores,  # [B, splits, 3]
    winners,  # [B, splits, 2]
    splits,
    width,  # K
    out,  # [B, K+1]
    num,  # [B]
    path,  # [B, K]
    bad,  # [B]
    SPLITS: tl.constexpr,
    NODES: tl.constexpr,
):
    request = tl.program_id(0).to(tl.int64)
    count = tl.load(accepted + request)
    what = tl.load(source + request)
    token_after = tl.load(argmax + tl.load(cu_rows + request) + count)
    if (what == FROM_TARGET) | (what == FROM_RESIDUAL):
        index = tl.arange(0, SPLITS)
        real = index < splits
        at = request * splits + index
        shift = 0
        if what == FROM_RESIDUAL:
            mass = tl.sum(tl.load(scores + at * 3 + 2, mask=real, other=0.0), axis=0)
            shift = tl.where(mass > NO_MASS, 0, 1)
        score = tl.load(scores + at * 3 + shift, mask=real, other=-float("inf"))
        best_id = tl.load(winners + at * 2 + shift, mask=real, other=NOBODY)
        _, best = winner(score, best_id)
        token_after = tl.where(best == NOBODY, -1, best).to(tl.int64)
    if what == BAD:
        token_after = token_after * 0 - 1
    index = tl.arange(0, NODES)
    token = tl.load(tokens + request * width + index, mask=index < count, other=-1)
    token = tl.where(index == count, token_after, token)
    tl.store(out + request * (width + 1) + index, token, mask=index <= width)
    tl.store(path + request * width + index, tl.where(index < count, index, -1), mask=index < width)
    tl.store(num + request, count + (token_after >= 0).to(tl.int32))
    tl.store(bad + request, tl.where(what == BAD, tl.load(spoiled + request), -1))


class Scan(NamedTuple):
    """What a rule's scan leaves for `finish`, in the order that its kernel takes it in."""

    accepted: Tensor
    """[B] int32."""
    source: Tensor
    """[B] int32: FROM_TARGET, FROM_RESIDUAL, ARGMAX or BAD."""
    spoiled: Tensor
    """[B] int32: the bad row, where BAD."""
    scores: Tensor
    """[B, splits, 3] float32."""
    winners: Tensor
    """[B, splits, 2] int32."""
    splits: int
    per_split: int


def unwritten_scan(requests, logits, block):
    device = logits.device
    splits, per_split = split_vocabulary(requests, logits.shape[1], device, block)
    return Scan(
        torch.empty((requests,), dtype=torch.int32, device=device),
        torch.empty((requests,), dtype=torch.int32, device=device),
        torch.empty((requests,), dtype=torch.int32, device=device),
        torch.empty((requests, splits, 3), dtype=torch.float32, device=device),
        torch.empty((requests, splits, 2), dtype=torch.int32, device=device),
        splits,
        per_split,
    )


def finish(drafted, argmax, scan):
    requests, width = drafted.tokens.shape
    decided = unwritten(drafted)
    _finish[(requests,)](
        drafted.tokens,
        drafted.cu_rows,
        argmax,
        *scan[:-1],
        width,
        decided.out,
        decided.num,
        decided.path,
        decided.bad,
        SPLITS=triton.next_power_of_2(scan.splits),
        NODES=triton.next_power_of_2(width + 1),
        num_warps=1,
    )
    return decided
