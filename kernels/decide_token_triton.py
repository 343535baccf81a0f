# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.decide_token`: every program of a request decides anew from a handful of numbers
how far the chain goes, then scans its slice of the one row that follows; a second launch picks the winner."""

import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.chain_triton import finish, following, scan_row, unwritten_scan
from draftproof.kernels.drafted import Decided, Drafted, DraftRows
from draftproof.kernels.layout_triton import block_for, pick, require_adjacent, scale_of
from draftproof.kernels.philox_triton import uniform_at
from draftproof.kernels.residual_triton import (
    draft_arguments,
    draft_prob,
    drafted_arguments,
    target_arguments,
    target_prob,
)
from draftproof.kernels.row_stats import RowStats


@triton.jit
def _decide(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    row_threshold,  # [R]
    row_lse,  # [R]
    argmax,  # [R]
    bad,  # [R]
    tokens,  # [B, K]
    of,  # [B, K]
    cu_rows,  # [B+1]
    seeds,  # [B]
    positions,  # [B]
    nodes,  # K
    values,  # [Q, W]
    stride,
    rows,
    width,
    draft_inv_temp,  # [Q]
    threshold,  # [Q]
    lse,  # [Q]
    columns,  # [V]
    accepted,  # out [B]
    source,  # out [B]
    spoiled,  # out [B]
    scores,  # out [B, splits, 3]
    winners,  # out [B, splits, 2]
    splits,
    per_split,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
    NODES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    request = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    start = tl.load(cu_rows + request)
    length = tl.load(cu_rows + request + 1) - start - 1
    seed = tl.load(seeds + request)
    position = tl.load(positions + request)

    step = tl.arange(0, NODES)
    real = step < length
    token = tl.load(tokens + request * nodes + step, mask=real, other=-1)
    draft_row = tl.load(of + request * nodes + step, mask=real, other=-1)
    row = start + step
    usable = real & (token >= 0) & (token < vocab)
    row_bad = tl.load(bad + row, mask=real, other=0).to(tl.int32) != 0
    temperature = tl.load(inv_temp + row, mask=real, other=1.0)
    p = target_prob(
        logits + row * row_stride,
        token,
        usable & (row_bad == 0),
        scale_of(temperature),
        tl.load(row_threshold + row, mask=real, other=0.0),
        tl.load(row_lse + row, mask=real, other=0.0),
    )
    q = draft_prob(
        values,
        stride,
        rows,
        width,
        draft_inv_temp,
        threshold,
        lse,
        columns,
        draft_row,
        token,
        usable,
        HAS_LAW,
        HAS_COLUMNS,
    )
    coin = uniform_at(seed, 1, position + step, step)
    greedy_match = token == tl.load(argmax + row, mask=real, other=-1)
    passes = tl.where(temperature == 0.0, greedy_match, (q > 0.0) & (coin * q < p)) & usable & (row_bad == 0)
    count = tl.min(tl.where(real & (passes == 0), step, length), axis=0).to(tl.int64)

    last = start + count
    is_bad = tl.load(bad + last).to(tl.int32) != 0
    is_greedy = tl.load(inv_temp + last) == 0.0
    what = following(is_bad, is_greedy, count == length)
    if split == 0:
        tl.store(accepted + request, count.to(tl.int32))
        tl.store(source + request, what)
        tl.store(spoiled + request, count.to(tl.int32))
    scan_row(
        logits,
        row_stride,
        vocab,
        inv_temp,
        row_threshold,
        row_lse,
        last,
        what,
        1.0,
        values,
        stride,
        rows,
        width,
        draft_inv_temp,
        threshold,
        lse,
        columns,
        tl.where(count < length, pick(draft_row, step, count), -1),
        seed,
        position + count,
        split,
        per_split,
        request * splits + split,
        scores,
        winners,
        HAS_LAW,
        HAS_COLUMNS,
        BLOCK,
    )


def decide_token_triton(
    logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows, block: int | None = None
) -> Decided:
    logits = require_adjacent(logits)
    requests, nodes = drafted.tokens.shape
    vocab = logits.shape[1]
    block = block_for(vocab, block)
    scan = unwritten_scan(requests, logits, block)
    arguments, flags = draft_arguments(q, stats.inv_temp)
    _decide[(requests, scan.splits)](
        *target_arguments(logits, stats),
        stats.argmax,
        stats.bad,
        *drafted_arguments(drafted, q),
        *arguments,
        *scan,
        **flags,
        NODES=triton.next_power_of_2(nodes + 1),
        BLOCK=block,
    )
    return finish(drafted, stats.argmax, scan)
