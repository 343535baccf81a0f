# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton side of `draftproof.kernels.residual`: probabilities from raw rows, and races over `(ratio p - q)+`.

The target's rows, what was drafted and the draft rows each come as one tuple of arguments, in the order that
`target_arguments`, `drafted_arguments` and `draft_arguments` give them.
"""

import triton
import triton.language as tl

from draftproof.kernels.layout_triton import require_adjacent, scale_of
from draftproof.kernels.philox_triton import exponential_tile
from draftproof.kernels.race_triton import NOBODY, better, winner

NO_MASS = tl.constexpr(1e-6)


def target_arguments(logits, stats):
    """Adjacent logits [R, V], and what of their statistics makes them probabilities."""
    return logits, logits.stride(0), logits.shape[1], stats.inv_temp, stats.threshold, stats.lse


def drafted_arguments(drafted, q):
    """The drafted tokens, the draft rows they were drawn from, and where their requests are."""
    return drafted.tokens, q.of, drafted.cu_rows, drafted.seeds, drafted.positions, drafted.tokens.shape[1]


def draft_arguments(q, placeholder):
    """(arguments, flags) of the kernels that read draft rows; `placeholder` stands where nothing is read."""
    values = require_adjacent(q.values)
    law = q.law
    arguments = (
        values,
        values.stride(0),
        values.shape[0],
        values.shape[1],
        placeholder if law is None else law.inv_temp,
        placeholder if law is None else law.threshold,
        placeholder if law is None else law.lse,
        q.of if q.columns is None else q.columns,
    )
    return arguments, {"HAS_LAW": law is not None, "HAS_COLUMNS": q.columns is not None}


@triton.jit
def target_prob(logits, ids, mask, scale, threshold, lse):
    """Probabilities of ids; `logits` points at their rows, and all may be blocks."""
    z = tl.load(logits + ids, mask=mask, other=-float("inf")).to(tl.float32) * scale
    return tl.where(mask & (z >= threshold), tl.exp(z - lse), 0.0)


@triton.jit
def draft_prob(
    values,  # [Q, W]
    stride,
    rows,
    width,
    inv_temp,  # [Q]
    threshold,  # [Q]
    lse,  # [Q]
    columns,  # [V]
    of,
    ids,
    mask,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
):
    """Draft probabilities of ids in row `of`, 0 where there is no such row or column; ids and row may be blocks."""
    of = of + ids.to(tl.int64) * 0  # one shape: the interpreter cannot mask with a scalar spread over a block
    known = (of >= 0) & (of < rows)
    row = tl.where(known, of, 0)
    real = mask & known
    column = ids.to(tl.int64)
    if HAS_COLUMNS:
        column = tl.load(columns + ids, mask=real, other=-1).to(tl.int64)
    real = real & (column >= 0) & (column < width)
    value = tl.load(values + row * stride + column, mask=real, other=0.0).to(tl.float32)
    if HAS_LAW:
        z = value * scale_of(tl.load(inv_temp + row, mask=known, other=1.0))
        kept = real & (z >= tl.load(threshold + row, mask=known, other=0.0))
        value = tl.where(kept, tl.exp(z - tl.load(lse + row, mask=known, other=0.0)), 0.0)
    return tl.where(real, value, 0.0)


@triton.jit
def residual_race(
    logits,  # the target's row [V]
    scale,
    row_threshold,
    row_lse,
    ratio,
    values,
    stride,
    rows,
    width,
    inv_temp,
    threshold,
    lse,
    columns,
    of,
    seed,
    position,
    begin,
    end,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of columns begin … end - 1: mass of `(ratio p - q)+`, its winner (score, id), and the winner of p alone."""
    mass = tl.zeros((BLOCK,), tl.float32)
    best = tl.full((BLOCK,), 0.0, tl.float32)
    best_id = tl.full((BLOCK,), NOBODY, tl.int32)
    plain = tl.full((BLOCK,), 0.0, tl.float32)
    plain_id = tl.full((BLOCK,), NOBODY, tl.int32)
    for first in range(begin, end, BLOCK):
        ids = first + tl.arange(0, BLOCK)
        inside = ids < end
        p = target_prob(logits, ids, inside, scale, row_threshold, row_lse)
        q = draft_prob(
            values, stride, rows, width, inv_temp, threshold, lse, columns, of, ids, inside, HAS_LAW, HAS_COLUMNS
        )
        left = tl.where(ratio * p > q, ratio * p - q, 0.0)
        mass += left
        noise = exponential_tile(seed, 2, position, first, BLOCK)
        best, best_id = better(best, best_id, left / noise, ids, inside)
        plain, plain_id = better(plain, plain_id, p / noise, ids, inside)
    score, best_id = winner(best, best_id)
    plain_score, plain_id = winner(plain, plain_id)
    return tl.sum(mass, axis=0), score, best_id, plain_score, plain_id
