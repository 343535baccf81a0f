# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.row_stats`: each program sums up a slice of a row, a second launch the rows.

Thresholds come from `threshold_triton` beforehand, and cost launches only where top-k or top-p is given.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.layout_triton import block_for, require_adjacent, scale_of, split_vocabulary
from draftproof.kernels.philox_triton import natural_log
from draftproof.kernels.race_triton import NOBODY, winner
from draftproof.kernels.row_stats import RowStats
from draftproof.kernels.threshold_triton import find_thresholds

FIGURES = 5
"""Floats of a slice: largest, second largest, sum of w = exp(z - largest), sum of w (z - largest), spoiled."""


@triton.jit
def _slices(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    threshold,  # [R]
    figures,  # out [R, splits, 5]
    winners,  # out [R, splits]
    splits,
    per_split,
    HAS_THRESHOLD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)  # rows times vocabulary overflows int32 at serving sizes
    split = tl.program_id(1)
    scale = scale_of(tl.load(inv_temp + row))
    lowest = -float("inf")
    if HAS_THRESHOLD:
        lowest = tl.load(threshold + row)
    begin = split * per_split
    end = tl.minimum(begin + per_split, vocab)
    top = -float("inf")
    top_id = begin * 0 + NOBODY
    second = -float("inf")
    total = 0.0
    slope = 0.0
    spoiled = tl.zeros((BLOCK,), tl.int32)
    for first in range(begin, end, BLOCK):
        ids = first + tl.arange(0, BLOCK)
        inside = ids < end
        z = tl.load(logits + row * row_stride + ids, mask=inside, other=-float("inf")).to(tl.float32) * scale
        wrong = (z != z) | (z == float("inf"))
        spoiled |= wrong.to(tl.int32)
        z = tl.where(wrong, -float("inf"), z)
        tile_top, tile_id = winner(z, ids)
        tile_second = tl.max(tl.where(ids == tile_id, -float("inf"), z), axis=0)
        second = tl.maximum(tl.minimum(top, tile_top), tl.maximum(second, tile_second))
        top_id = tl.where(tile_top > top, tile_id, top_id)
        new_top = tl.maximum(top, tile_top)
        anchor = tl.where(new_top == -float("inf"), 0.0, new_top)
        shift = tl.where(top == -float("inf"), 0.0, top - anchor)
        kept = inside & (z >= lowest) & (z > -float("inf"))
        below = tl.where(kept, z - anchor, 0.0)
        weight = tl.where(kept, tl.exp(below), 0.0)
        slope = tl.exp(shift) * (slope + shift * total) + tl.sum(weight * below, axis=0)
        total = tl.exp(shift) * total + tl.sum(weight, axis=0)
        top = new_top
    at = row * splits + split
    tl.store(figures + at * 5, top)
    tl.store(figures + at * 5 + 1, second)
    tl.store(figures + at * 5 + 2, total)
    tl.store(figures + at * 5 + 3, slope)
    tl.store(figures + at * 5 + 4, tl.max(spoiled, axis=0).to(tl.float32))
    tl.store(winners + at, top_id)


@triton.jit
def row_mass(figures, row, splits, SPLITS: tl.constexpr):
    """(largest, sum of exp(z - largest), the slope sum, spoiled) of a row from its slices."""
    index = tl.arange(0, SPLITS)
    real = index < splits
    at = (row.to(tl.int64) * splits + index) * 5
    tops = tl.load(figures + at, mask=real, other=-float("inf"))
    totals = tl.load(figures + at + 2, mask=real, other=0.0)
    slopes = tl.load(figures + at + 3, mask=real, other=0.0)
    spoiled = tl.max(tl.load(figures + at + 4, mask=real, other=0.0), axis=0)
    top = tl.max(tops, axis=0)
    shift = tl.where(tops == -float("inf"), 0.0, tops - top)
    factor = tl.where(tops == -float("inf"), 0.0, tl.exp(shift))
    total = tl.sum(factor * totals, axis=0)
    slope = tl.sum(factor * (slopes + shift * totals), axis=0)
    return top, total, slope, spoiled


@triton.jit
def _rows(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    threshold,  # [R]
    ids,  # [R]
    figures,  # [R, splits, 5]
    winners,  # [R, splits]
    splits,
    argmax,  # out, [R] each
    largest,
    lse,
    entropy,
    margin,
    lowest_kept,
    id_log_prob,
    bad,
    HAS_THRESHOLD: tl.constexpr,
    HAS_IDS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    top, total, slope, spoiled = row_mass(figures, row, splits, SPLITS)
    index = tl.arange(0, SPLITS)
    real = index < splits
    at = row * splits + index
    tops = tl.load(figures + at * 5, mask=real, other=-float("inf"))
    seconds = tl.load(figures + at * 5 + 1, mask=real, other=-float("inf"))
    top_ids = tl.load(winners + at, mask=real, other=NOBODY)
    _, best = winner(tops, top_ids)
    second = tl.max(tl.where(top_ids == best, seconds, tops), axis=0)
    is_bad = (spoiled > 0) | (top == -float("inf"))
    log_total = natural_log(tl.where(is_bad, 1.0, total))
    nan = float("nan")
    row_lse = tl.where(is_bad, nan, top + log_total)
    lowest = -float("inf")
    if HAS_THRESHOLD:
        lowest = tl.load(threshold + row)
    log_prob = -float("inf")
    if HAS_IDS:
        token = tl.load(ids + row)
        known = (token >= 0) & (token < vocab)
        z = tl.load(logits + row * row_stride + token, mask=known, other=-float("inf")).to(tl.float32)
        z *= scale_of(tl.load(inv_temp + row))
        log_prob = tl.where(known & (z >= lowest), z - row_lse, -float("inf"))
    tl.store(argmax + row, tl.where(is_bad, -1, best))
    tl.store(largest + row, tl.where(is_bad, nan, top))
    tl.store(lse + row, row_lse)
    tl.store(entropy + row, tl.where(is_bad, nan, log_total - slope / total))
    tl.store(margin + row, tl.where(is_bad, nan, top - second))
    tl.store(lowest_kept + row, tl.where(is_bad, nan, lowest))
    tl.store(id_log_prob + row, tl.where(is_bad, nan, log_prob))
    tl.store(bad + row, is_bad)


def slice_figures(logits, inv_temp, threshold, splits, per_split, block):
    """(figures [R, splits, 5], winners [R, splits]) of the kept part of each slice."""
    rows, vocab = logits.shape
    figures = torch.empty((rows, splits, FIGURES), dtype=torch.float32, device=logits.device)
    winners = torch.empty((rows, splits), dtype=torch.int32, device=logits.device)
    _slices[(rows, splits)](
        logits,
        logits.stride(0),
        vocab,
        inv_temp,
        inv_temp if threshold is None else threshold,
        figures,
        winners,
        splits,
        per_split,
        HAS_THRESHOLD=threshold is not None,
        BLOCK=block,
    )
    return figures, winners


def row_stats_triton(
    logits: Tensor,
    inv_temp: Tensor,
    *,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    ids: Tensor | None = None,
    block: int | None = None,
) -> RowStats:
    logits = require_adjacent(logits)
    rows, vocab = logits.shape
    block = block_for(vocab, block)
    splits, per_split = split_vocabulary(rows, vocab, logits.device, block)

    def empty(dtype=torch.float32):
        return torch.empty((rows,), dtype=dtype, device=logits.device)

    stats = RowStats(
        inv_temp=inv_temp,
        argmax=empty(torch.int64),
        max=empty(),
        lse=empty(),
        entropy=empty(),
        margin=empty(),
        threshold=empty(),
        id_log_prob=empty(),
        bad=empty(torch.bool),
    )
    if rows == 0:
        return stats
    threshold = None
    if top_k is not None:
        threshold = find_thresholds(logits, inv_temp, None, top_k, None, splits, per_split, block)
    figures, winners = slice_figures(logits, inv_temp, threshold, splits, per_split, block)
    if top_p is not None:
        threshold = find_thresholds(logits, inv_temp, threshold, top_p, figures, splits, per_split, block)
        figures, winners = slice_figures(logits, inv_temp, threshold, splits, per_split, block)
    _rows[(rows,)](
        logits,
        logits.stride(0),
        vocab,
        inv_temp,
        inv_temp if threshold is None else threshold,
        inv_temp if ids is None else ids,
        figures,
        winners,
        splits,
        stats.argmax,
        stats.max,
        stats.lse,
        stats.entropy,
        stats.margin,
        stats.threshold,
        stats.id_log_prob,
        stats.bad,
        HAS_THRESHOLD=threshold is not None,
        HAS_IDS=ids is not None,
        SPLITS=triton.next_power_of_2(splits),
        num_warps=1,
    )
    return stats
