"""Speculative sampling of chains, token by token (Leviathan et al., arXiv 2211.17192, algorithm 1; Chen et al.,
arXiv 2302.01318, algorithm 2).

Token x drawn from q is accepted with probability `min(1, p(x) / q(x))`; the first rejected one is replaced by a draw
from `(p - q)+`, and after a whole accepted chain a bonus token follows from p. The law of the output is that of p.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.kernels.drafted import ACCEPT, TARGET, Decided, Drafted, DraftRows, as_decided
from draftproof.kernels.philox import uniforms
from draftproof.kernels.race import draw_from_logits
from draftproof.kernels.residual import accepts, residual, residual_draw
from draftproof.kernels.row_law import probs, scaled
from draftproof.kernels.row_stats import RowStats


def decide_token(logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    """What each request emits; `drafted` are chains whose tokens were drawn from `q`.

    Args:
        logits: [R, V] raw logits, packed as `drafted` says.
        stats: of the same rows.
    """
    if logits.is_cuda:
        from draftproof.kernels.decide_token_triton import decide_token_triton

        with torch.cuda.device(logits.device):
            return decide_token_triton(logits, stats, drafted, q)
    return decide_token_torch(logits, stats, drafted, q)


def decide_token_torch(logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    """The definition; reads only rows that are reached."""
    decided = [
        _decide(logits, stats, drafted.tokens[b].tolist(), start, end - start - 1, q, b, seed, position)
        for b, (start, end, seed, position) in enumerate(
            zip(
                drafted.cu_rows[:-1].tolist(),
                drafted.cu_rows[1:].tolist(),
                drafted.seeds.tolist(),
                drafted.positions.tolist(),
                strict=True,
            )
        )
    ]
    paths = [list(range(accepted)) for accepted, _, _ in decided]
    return as_decided(paths, [token for _, token, _ in decided], [bad for _, _, bad in decided], drafted.tokens)


def _decide(
    logits: Tensor,
    stats: RowStats,
    tokens: list[int],
    start: int,
    length: int,
    draft_rows: DraftRows,
    request: int,
    seed: int,
    position: int,
) -> tuple[int, int, int]:
    """(accepted, token that follows or -1, bad row or -1) of one chain."""
    vocab = logits.shape[1]
    for step in range(length):
        row = start + step
        if stats.bad[row]:
            return step, -1, step
        if stats.inv_temp[row] == 0:
            if tokens[step] != int(stats.argmax[row]):
                return step, int(stats.argmax[row]), -1
            continue
        token = tokens[step]
        p = probs(logits[row : row + 1], stats.law.row(row))[0]
        q = draft_rows.row(int(draft_rows.of[request, step]), vocab)
        if not (0 <= token < vocab and accepts(coin(seed, position + step, step), p[token], q[token])):
            return step, residual_draw(residual(p, q), seed, position + step), -1
    token = bonus(logits, stats, start + length, seed, position + length)
    return length, token, length if token < 0 else -1


def coin(seed: int, position: int, lane: int = 0) -> Tensor:
    """The uniform number that decides whether the token at this position is accepted, a float32 scalar.

    The lane is the step of a chain, or the sibling's number in a tree. A chain that is drafted again from a later
    position so meets new numbers: block verification looks at numbers beyond the tokens it emits, and meeting them
    again in the next round would bias the text (by 0.027 in total variation at p = (1/2, 1/2), q = (4/5, 1/5)).
    """
    return uniforms(seed, ACCEPT, position, lane, torch.zeros(1, dtype=torch.int64))[0]


def bonus(logits: Tensor, stats: RowStats, row: int, seed: int, position: int) -> int:
    """The token that plain decoding would draw from the row; -1 where the row is bad."""
    if stats.bad[row]:
        return -1
    if stats.inv_temp[row] == 0:
        return int(stats.argmax[row])
    at = slice(row, row + 1)
    z = scaled(logits[at], stats.inv_temp[at])[0]
    return draw_from_logits(torch.where(z < stats.threshold[row], -torch.inf, z), seed, TARGET, position)
