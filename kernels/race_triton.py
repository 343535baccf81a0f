# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.race`: programs share a row, each finds its slice's winner, a second launch the
row's."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.layout_triton import (
    block_for,
    depth_of_node,
    request_of_row,
    require_adjacent,
    scale_of,
    split_vocabulary,
)
from draftproof.kernels.philox_triton import exponential_tile, natural_log

NOBODY = tl.constexpr(2147483647)
"""Id of a slice without a finite logit; larger than any id, so that it loses every tie."""


@triton.jit
def better(best, best_id, score, ids, eligible):
    """Keep the better of two blocks, element by element. Ids ascend from call to call, so ties keep the lower id."""
    wins = eligible & (score > best)
    return tl.where(wins, score, best), tl.where(wins, ids, best_id)


@triton.jit
def winner(best, best_id):
    """(score, lowest id that has it) of a block; NOBODY where every score is -inf."""
    top = tl.max(best, axis=0)
    return top, tl.min(tl.where(best == top, best_id, NOBODY), axis=0)


@triton.jit
def row_winner(scores, ids, row, splits, SPLITS: tl.constexpr):
    """The row's id from its slices' winners, -1 for a bad row."""
    index = tl.arange(0, SPLITS)
    at = row.to(tl.int64) * splits + index
    score = tl.load(scores + at, mask=index < splits, other=-float("inf"))
    best_id = tl.load(ids + at, mask=index < splits, other=NOBODY)
    _, best = winner(score, best_id)
    return tl.where(best == NOBODY, -1, best).to(tl.int64)


@triton.jit
def target_race(logits, scale, threshold, greedy, seed, position, begin, end, BLOCK: tl.constexpr):
    """(score, id) of the target's own draw in columns begin … end - 1 of one row.

    A slice that holds NaN or +inf wins with the id -1.
    """
    best = tl.full((BLOCK,), -float("inf"), tl.float32)
    best_id = tl.full((BLOCK,), NOBODY, tl.int32)
    spoiled = tl.zeros((BLOCK,), tl.int32)
    for first in range(begin, end, BLOCK):
        ids = first + tl.arange(0, BLOCK)
        z = tl.load(logits + ids, mask=ids < end, other=-float("inf")).to(tl.float32) * scale
        spoiled |= ((z != z) | (z == float("inf"))).to(tl.int32)
        score = z
        if greedy == 0:
            score = z - natural_log(exponential_tile(seed, 3, position, first, BLOCK))
        best, best_id = better(best, best_id, score, ids, z >= threshold)
    score, best_id = winner(best, best_id)
    bad = tl.max(spoiled, axis=0) > 0
    return tl.where(bad, float("inf"), score), tl.where(bad, -1, best_id)


@triton.jit
def _target_slices(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    threshold,  # [R]
    seeds,  # [R], or [B] with cu_rows
    positions,  # [R], or [B] with cu_rows
    cu_rows,  # [B+1]
    parent,  # [B, K]
    nodes,  # K
    requests,  # B
    scores,  # out [R, splits]
    winners,  # out [R, splits]
    splits,
    per_split,
    HAS_THRESHOLD: tl.constexpr,
    PACKED: tl.constexpr,
    HAS_PARENT: tl.constexpr,
    REQUESTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)  # rows times vocabulary overflows int32 at serving sizes
    split = tl.program_id(1)
    if PACKED:
        request = request_of_row(cu_rows, row, requests, REQUESTS).to(tl.int64)
        node = row - tl.load(cu_rows + request) - 1
        depth = depth_of_node(parent + request * nodes, node, HAS_PARENT)
        seed = tl.load(seeds + request)
        position = tl.load(positions + request) + depth
    else:
        seed = tl.load(seeds + row)
        position = tl.load(positions + row)
    temperature = tl.load(inv_temp + row)
    greedy = (temperature == 0.0).to(tl.int32)
    lowest = -float("inf")
    if HAS_THRESHOLD:
        lowest = tl.where(greedy == 1, -float("inf"), tl.load(threshold + row))
    begin = split * per_split
    end = tl.minimum(begin + per_split, vocab)
    score, best = target_race(
        logits + row * row_stride, scale_of(temperature), lowest, greedy, seed, position, begin, end, BLOCK
    )
    tl.store(scores + row * splits + split, score)
    tl.store(winners + row * splits + split, best)


@triton.jit
def _row_winners(scores, winners, drawn, splits, SPLITS: tl.constexpr):
    row = tl.program_id(0)
    tl.store(drawn + row, row_winner(scores, winners, row, splits, SPLITS))


def target_slices(logits, inv_temp, threshold, seeds, positions, drafted=None, block=None):
    """(scores, winners), [R, splits]: the first launch. With `drafted`, seeds and positions are those of requests."""
    logits = require_adjacent(logits)
    rows, vocab = logits.shape
    block = block_for(vocab, block)
    splits, per_split = split_vocabulary(rows, vocab, logits.device, block)
    scores = torch.empty((rows, splits), dtype=torch.float32, device=logits.device)
    winners = torch.empty((rows, splits), dtype=torch.int32, device=logits.device)
    packed = drafted is not None
    requests = drafted.tokens.shape[0] if packed else 1
    has_parent = packed and drafted.parent is not None
    _target_slices[(rows, splits)](
        logits,
        logits.stride(0),
        vocab,
        inv_temp,
        inv_temp if threshold is None else threshold,
        seeds,
        positions,
        drafted.cu_rows if packed else seeds,
        drafted.parent if has_parent else seeds,
        drafted.tokens.shape[1] if packed else 0,
        requests,
        scores,
        winners,
        splits,
        per_split,
        HAS_THRESHOLD=threshold is not None,
        PACKED=packed,
        HAS_PARENT=has_parent,
        REQUESTS=triton.next_power_of_2(requests),
        BLOCK=block,
    )
    return scores, winners


def target_draw_triton(
    logits: Tensor,
    inv_temp: Tensor,
    threshold: Tensor | None,
    seeds: Tensor,
    positions: Tensor,
    block: int | None = None,
) -> Tensor:
    rows = logits.shape[0]
    drawn = torch.empty((rows,), dtype=torch.int64, device=logits.device)
    if rows == 0:
        return drawn
    scores, winners = target_slices(logits, inv_temp, threshold, seeds, positions, block=block)
    splits = scores.shape[1]
    _row_winners[(rows,)](scores, winners, drawn, splits, SPLITS=triton.next_power_of_2(splits), num_warps=1)
    return drawn
