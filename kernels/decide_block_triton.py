# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.decide_block`: masses of the residuals of all prefixes in one launch, the last
success and the scan of its row in a second, the winner in a third."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.chain_triton import finish, following, scan_row, unwritten_scan
from draftproof.kernels.drafted import Decided, Drafted, DraftRows
from draftproof.kernels.layout_triton import (
    block_for,
    request_of_row,
    require_adjacent,
    scale_of,
    split_vocabulary,
)
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
def _grown(
    ratio,
    logits,
    row_stride,
    vocab,
    inv_temp,
    row_threshold,
    row_lse,
    row,
    token,
    draft_row,
    values,
    stride,
    rows,
    width,
    draft_inv_temp,
    threshold,
    lse,
    columns,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
):
    """`min(1, ratio p / q)` at one drafted token, 0 for one that q could not have drawn; all scalars."""
    usable = (token >= 0) & (token < vocab)
    p = target_prob(
        logits + row * row_stride,
        token,
        usable,
        scale_of(tl.load(inv_temp + row)),
        tl.load(row_threshold + row),
        tl.load(row_lse + row),
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
    drawn = q > 0.0
    return tl.where(drawn, tl.minimum(ratio * p / tl.where(drawn, q, 1.0), 1.0), 0.0)


@triton.jit
def _masses(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    row_threshold,  # [R]
    row_lse,  # [R]
    tokens,  # [B, K]
    of,  # [B, K]
    cu_rows,  # [B+1]
    requests,
    nodes,  # K
    values,  # [Q, W]
    stride,
    rows,
    width,
    draft_inv_temp,  # [Q]
    threshold,  # [Q]
    lse,  # [Q]
    columns,  # [V]
    masses,  # out [R, splits]
    splits,
    per_split,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
    REQUESTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    request = request_of_row(cu_rows, row, requests, REQUESTS).to(tl.int64)
    start = tl.load(cu_rows + request)
    length = tl.load(cu_rows + request + 1) - start - 1
    prefix = row - start
    sampled = tl.load(inv_temp + start) != 0.0
    # prefixes 1 … k-1 have a residual that counts; the empty prefix needs none, the whole chain takes the bonus
    if sampled & (prefix > 0) & (prefix < length):
        ratio = 1.0
        for step in range(0, prefix):
            ratio = _grown(
                ratio,
                logits,
                row_stride,
                vocab,
                inv_temp,
                row_threshold,
                row_lse,
                start + step,
                tl.load(tokens + request * nodes + step),
                tl.load(of + request * nodes + step),
                values,
                stride,
                rows,
                width,
                draft_inv_temp,
                threshold,
                lse,
                columns,
                HAS_LAW,
                HAS_COLUMNS,
            )
        draft_row = tl.load(of + request * nodes + prefix)
        scale = scale_of(tl.load(inv_temp + row))
        lowest = tl.load(row_threshold + row)
        own_lse = tl.load(row_lse + row)
        begin = split * per_split
        end = tl.minimum(begin + per_split, vocab)
        mass = tl.zeros((BLOCK,), tl.float32)
        for first in range(begin, end, BLOCK):
            ids = first + tl.arange(0, BLOCK)
            inside = ids < end
            p = ratio * target_prob(logits + row * row_stride, ids, inside, scale, lowest, own_lse)
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
                ids,
                inside,
                HAS_LAW,
                HAS_COLUMNS,
            )
            mass += tl.where(p > q, p - q, 0.0)
        tl.store(masses + row * splits + split, tl.sum(mass, axis=0))


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
    masses,  # [R, row_splits]
    row_splits,
    accepted,  # out [B]
    source,  # out [B]
    spoiled,  # out [B]
    scores,  # out [B, splits, 3]
    winners,  # out [B, splits, 2]
    splits,
    per_split,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
    ROW_SPLITS: tl.constexpr,
    NODES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    request = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    start = tl.load(cu_rows + request)
    length = tl.load(cu_rows + request + 1) - start - 1
    seed = tl.load(seeds + request)
    position = tl.load(positions + request)
    greedy = tl.load(inv_temp + start) == 0.0

    steps = tl.arange(0, NODES)
    wrong = (tl.load(bad + start + steps, mask=steps < length, other=0).to(tl.int32) != 0) & (steps < length)
    first_bad = tl.min(tl.where(wrong, steps, NODES), axis=0).to(tl.int64)
    count = start * 0
    ratio = 1.0
    kept_ratio = 1.0
    if first_bad == NODES:
        if greedy:
            token = tl.load(tokens + request * nodes + steps, mask=steps < length, other=-1)
            best = tl.load(argmax + start + steps, mask=steps < length, other=-1)
            count = tl.min(tl.where((steps < length) & (token != best), steps, length), axis=0).to(tl.int64)
        else:
            part = tl.arange(0, ROW_SPLITS)
            for step in range(0, length):
                ratio = _grown(
                    ratio,
                    logits,
                    row_stride,
                    vocab,
                    inv_temp,
                    row_threshold,
                    row_lse,
                    start + step,
                    tl.load(tokens + request * nodes + step),
                    tl.load(of + request * nodes + step),
                    values,
                    stride,
                    rows,
                    width,
                    draft_inv_temp,
                    threshold,
                    lse,
                    columns,
                    HAS_LAW,
                    HAS_COLUMNS,
                )
                parts = part < tl.where(step + 1 < length, row_splits, 0)
                held = tl.load(masses + (start + step + 1) * row_splits + part, mask=parts, other=0.0)
                mass = tl.sum(held, axis=0)
                whole = mass + 1.0 - ratio
                success = tl.where(whole > 0.0, mass / tl.where(whole > 0.0, whole, 1.0), 1.0)
                success = tl.where(step + 1 == length, ratio, success)
                wins = uniform_at(seed, 1, position + step, step) < success
                count = tl.where(wins, step + 1, count).to(tl.int64)
                kept_ratio = tl.where(wins, ratio, kept_ratio)

    last = start + count
    is_bad = (first_bad < NODES) | (tl.load(bad + last).to(tl.int32) != 0)
    what = following(is_bad, greedy, count == length)
    if split == 0:
        tl.store(accepted + request, count.to(tl.int32))
        tl.store(source + request, what)
        tl.store(spoiled + request, tl.where(first_bad < NODES, first_bad, count).to(tl.int32))
    draft_row = tl.load(of + request * nodes + count, mask=count < length, other=-1)
    scan_row(
        logits,
        row_stride,
        vocab,
        inv_temp,
        row_threshold,
        row_lse,
        last,
        what,
        kept_ratio,
        values,
        stride,
        rows,
        width,
        draft_inv_temp,
        threshold,
        lse,
        columns,
        draft_row,
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


def decide_block_triton(
    logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows, block: int | None = None
) -> Decided:
    logits = require_adjacent(logits)
    requests, nodes = drafted.tokens.shape
    rows, vocab = logits.shape
    block = block_for(vocab, block)
    target = target_arguments(logits, stats)
    arguments, flags = draft_arguments(q, stats.inv_temp)
    row_splits, per_row_split = split_vocabulary(rows, vocab, logits.device, block)
    masses = torch.empty((rows, row_splits), dtype=torch.float32, device=logits.device)
    _masses[(rows, row_splits)](
        *target,
        drafted.tokens,
        q.of,
        drafted.cu_rows,
        requests,
        nodes,
        *arguments,
        masses,
        row_splits,
        per_row_split,
        **flags,
        REQUESTS=triton.next_power_of_2(requests),
        BLOCK=block,
    )
    scan = unwritten_scan(requests, logits, block)
    _decide[(requests, scan.splits)](
        *target,
        stats.argmax,
        stats.bad,
        *drafted_arguments(drafted, q),
        *arguments,
        masses,
        row_splits,
        *scan,
        **flags,
        ROW_SPLITS=triton.next_power_of_2(row_splits),
        NODES=triton.next_power_of_2(nodes + 1),
        BLOCK=block,
    )
    return finish(drafted, stats.argmax, scan)
