# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.decide_siblings`: one launch, one program a request.

Every level of the walk depends on the one before, and every rejection on a sum over the vocabulary. The host, asked
level by level, would launch several times a level; here one program walks on alone and reads its rows from the L2
cache. With one request it uses one multiprocessor. The rejected siblings lie in registers.
"""

import triton
import triton.language as tl
from torch import Tensor

from draftproof.kernels.drafted import Decided, Drafted, DraftRows, unwritten
from draftproof.kernels.layout_triton import block_for, pick, require_adjacent, scale_of
from draftproof.kernels.philox_triton import exponential_tile, uniform_at
from draftproof.kernels.race_triton import NOBODY, better, target_race, winner
from draftproof.kernels.residual_triton import (
    NO_MASS,
    draft_arguments,
    draft_prob,
    drafted_arguments,
    target_arguments,
    target_prob,
)
from draftproof.kernels.row_stats import RowStats


@triton.jit
def _remaining(p, q, ids, rejected, masses, left, place, count):
    """The laws that remain of p and q at ids, after `count` rejected siblings (`tree_residual` of the definition)."""
    r = p
    rest = q
    for j in range(0, count):
        r = tl.where(r > rest, r - rest, 0.0) / pick(masses, place, j)
        q = tl.where(ids == pick(rejected, place, j), 0.0, q)
        rest = q / pick(left, place, j)
    return r, rest


@triton.jit
def _walk(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    row_threshold,  # [R]
    row_lse,  # [R]
    argmax,  # [R]
    bad_rows,  # [R]
    parent,  # [B, K]
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
    out,  # [B, K+1]
    num,  # [B]
    path,  # [B, K]
    bad,  # [B]
    HAS_PARENT: tl.constexpr,
    HAS_LAW: tl.constexpr,
    HAS_COLUMNS: tl.constexpr,
    NODES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    request = tl.program_id(0).to(tl.int64)
    start = tl.load(cu_rows + request)
    length = tl.load(cu_rows + request + 1) - start - 1
    seed = tl.load(seeds + request)
    position = tl.load(positions + request)
    place = tl.arange(0, NODES)
    real = place < length
    token = tl.load(tokens + request * nodes + place, mask=real, other=-1)
    if HAS_PARENT:
        above = tl.load(parent + request * nodes + place, mask=real, other=-2)
    else:
        above = tl.where(real, place - 1, -2).to(tl.int64)

    emitted = tl.full((NODES,), -1, tl.int64)
    taken = tl.full((NODES,), -1, tl.int64)
    node = start * 0 - 1
    depth = start * 0
    spoiled = start * 0 - 1
    going = start >= 0
    while going:
        row = start + 1 + node
        here = position + depth
        target_row = logits + row * row_stride
        temperature = tl.load(inv_temp + row)
        children = (above == node) & (place > node)
        first_child = tl.min(tl.where(children, place, NODES), axis=0).to(tl.int64)
        following = start * 0 - 1
        child = start * 0 + NODES
        if tl.load(bad_rows + row).to(tl.int32) != 0:
            spoiled = node + 1
        elif temperature == 0.0:
            following = tl.load(argmax + row).to(tl.int64)
            child = tl.min(tl.where(children & (token == following), place, NODES), axis=0).to(tl.int64)
        else:
            lowest = tl.load(row_threshold + row)
            own_lse = tl.load(row_lse + row)
            scale = scale_of(temperature)
            if first_child == NODES:
                _, drawn = target_race(target_row, scale, lowest, 0, seed, here, 0, vocab, BLOCK)
                following = drawn.to(tl.int64)
            else:
                draft_row = tl.load(of + request * nodes + first_child)
                rejected = tl.full((NODES,), -1, tl.int64)
                masses = tl.full((NODES,), 1.0, tl.float32)
                left = tl.full((NODES,), 1.0, tl.float32)
                held = temperature * 0.0 + 1.0
                count = start * 0
                lane = start * 0
                trial = first_child
                trying = first_child < NODES
                while trying:
                    x = pick(token, place, trial)
                    usable = (x >= 0) & (x < vocab)
                    p_x = target_prob(target_row, x, usable, scale, lowest, own_lse)
                    q_x = draft_prob(
                        values,
                        stride,
                        rows,
                        width,
                        draft_inv_temp,
                        threshold,
                        lse,
                        columns,
                        draft_row,
                        x,
                        usable,
                        HAS_LAW,
                        HAS_COLUMNS,
                    )
                    r_x, rest_x = _remaining(p_x, q_x, x, rejected, masses, left, place, count)
                    coin = uniform_at(seed, 1, here, lane)
                    drawable = usable & (rest_x > 0.0)
                    if drawable & (coin * rest_x < r_x):
                        child = trial
                        trying = trial < 0
                    elif drawable:
                        mass = tl.zeros((BLOCK,), tl.float32)
                        for first in range(0, vocab, BLOCK):
                            ids = first + tl.arange(0, BLOCK)
                            inside = ids < vocab
                            p = target_prob(target_row, ids, inside, scale, lowest, own_lse)
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
                            r, rest = _remaining(p, q, ids, rejected, masses, left, place, count)
                            mass += tl.where(r > rest, r - rest, 0.0)
                        total = tl.sum(mass, axis=0)
                        trying = total > NO_MASS
                        if total > NO_MASS:
                            held -= q_x
                            rejected = tl.where(place == count, x, rejected)
                            masses = tl.where(place == count, total, masses)
                            left = tl.where(place == count, held, left)
                            count += 1
                            trying = held > NO_MASS
                    trial = tl.min(tl.where(children & (place > trial), place, NODES), axis=0).to(tl.int64)
                    lane += 1
                    trying = trying & (trial < NODES)
                if child == NODES:
                    best = tl.full((BLOCK,), 0.0, tl.float32)
                    best_id = tl.full((BLOCK,), NOBODY, tl.int32)
                    for first in range(0, vocab, BLOCK):
                        ids = first + tl.arange(0, BLOCK)
                        inside = ids < vocab
                        p = target_prob(target_row, ids, inside, scale, lowest, own_lse)
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
                        r, _ = _remaining(p, q, ids, rejected, masses, left, place, count)
                        noise = exponential_tile(seed, 2, here, first, BLOCK)
                        best, best_id = better(best, best_id, r / noise, ids, inside)
                    _, drawn = winner(best, best_id)
                    following = drawn.to(tl.int64)
                else:
                    following = pick(token, place, child)
        going = child < NODES
        emitted = tl.where(place == tl.where(following < 0, -1, depth), following, emitted)
        taken = tl.where((place == depth) & going, child, taken)
        node = tl.where(going, child, node)
        depth += going.to(tl.int64)
    tl.store(out + request * (nodes + 1) + place, emitted, mask=place <= nodes)
    tl.store(path + request * nodes + place, taken, mask=place < nodes)
    tl.store(num + request, (depth + (spoiled < 0).to(tl.int64)).to(tl.int32))
    tl.store(bad + request, spoiled.to(tl.int32))


def decide_siblings_triton(
    logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows, block: int | None = None
) -> Decided:
    logits = require_adjacent(logits)
    requests, nodes = drafted.tokens.shape
    vocab = logits.shape[1]
    decided = unwritten(drafted)
    if requests == 0:
        return decided
    arguments, flags = draft_arguments(q, stats.inv_temp)
    has_parent = drafted.parent is not None
    _walk[(requests,)](
        *target_arguments(logits, stats),
        stats.argmax,
        stats.bad,
        drafted.parent if has_parent else drafted.tokens,
        *drafted_arguments(drafted, q),
        *arguments,
        decided.out,
        decided.num,
        decided.path,
        decided.bad,
        HAS_PARENT=has_parent,
        **flags,
        NODES=triton.next_power_of_2(nodes + 1),
        BLOCK=block_for(vocab, block),
        num_warps=8,
    )
    return decided
