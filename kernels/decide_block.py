"""Block verification of chains (Sun et al., arXiv 2403.10444, algorithm 2): the chain is judged as a whole.

With `P_0 = 1`, `P_i = min(1, P_{i-1} p_i(d_i) / q_i(d_i))` and, over the row that follows token i,
`S_i = sum_v (P_i p(v) - q(v))+`, prefix i succeeds with probability `h_i = S_i / (S_i + 1 - P_i)`, and the whole chain
with `h_k = P_k`. The LAST success is kept, also after failures before it; what follows a prefix i < k is drawn from
`(P_i p - q)+`. The law is that of p, and no rule that looks at conditional probabilities accepts more in the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.kernels.decide_token import bonus, coin
from draftproof.kernels.drafted import Decided, Drafted, DraftRows, as_decided
from draftproof.kernels.residual import positive_part, residual, residual_draw
from draftproof.kernels.row_law import RowLaw, probs
from draftproof.kernels.row_stats import RowStats


def decide_block(logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    """What each request emits; `drafted` are chains whose tokens were drawn from `q`. Arguments as `decide_token`.

    All rows of a chain but the last are looked at, so that one bad row among them spoils the whole chain.
    """
    if logits.is_cuda:
        from draftproof.kernels.decide_block_triton import decide_block_triton

        with torch.cuda.device(logits.device):
            return decide_block_triton(logits, stats, drafted, q)
    return decide_block_torch(logits, stats, drafted, q)


def decide_block_torch(logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows) -> Decided:
    """The definition."""
    cu_rows = drafted.cu_rows.tolist()
    paths: list[list[int]] = []
    last: list[int] = []
    bad: list[int] = []
    for request in range(drafted.tokens.shape[0]):
        start, length = cu_rows[request], cu_rows[request + 1] - cu_rows[request] - 1
        spoiled = stats.bad[start : start + length].nonzero()
        if len(spoiled):
            accepted, token, spoiled_row = 0, -1, int(spoiled[0])
        else:
            one = greedy_block if stats.inv_temp[start] == 0 else sampled_block
            accepted, token = one(logits, stats, drafted, q, request, start, length)
            spoiled_row = accepted if token < 0 else -1
        paths.append(list(range(accepted)))
        last.append(token)
        bad.append(spoiled_row)
    return as_decided(paths, last, bad, drafted.tokens)


def greedy_block(
    logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows, request: int, start: int, length: int
) -> tuple[int, int]:
    """(accepted, next token or -1) of a chain decoded without temperature."""
    right = drafted.tokens[request, :length] == stats.argmax[start : start + length]
    accepted = int(right.int().cumprod(0).sum())
    return accepted, int(stats.argmax[start + accepted])


def sampled_block(
    logits: Tensor, stats: RowStats, drafted: Drafted, q: DraftRows, request: int, start: int, length: int
) -> tuple[int, int]:
    """(accepted, next token or -1) of a sampled chain."""
    vocab = logits.shape[1]
    seed, position = int(drafted.seeds[request]), int(drafted.positions[request])
    p_rows = probs(logits[start : start + length], _rows(stats, start, start + length))
    q_rows = [q.row(int(q.of[request, step]), vocab) for step in range(length)]
    ratio = torch.ones(())
    ratios = [ratio]
    accepted = 0
    for step in range(length):
        token = int(drafted.tokens[request, step])
        ratio = grown(ratio, p_rows[step], q_rows[step], token)
        ratios.append(ratio)
        if step + 1 == length:
            success = ratio
        else:
            mass = positive_part(ratio * p_rows[step + 1], q_rows[step + 1]).sum()
            success = prefix_success(mass, ratio)
        if coin(seed, position + step, step) < success:
            accepted = step + 1
    if accepted == length:
        return length, bonus(logits, stats, start + length, seed, position + length)
    weights = residual(p_rows[accepted], q_rows[accepted], ratios[accepted])
    return accepted, residual_draw(weights, seed, position + accepted)


def grown(ratio: Tensor, p: Tensor, q: Tensor, token: int) -> Tensor:
    """`P_i` from `P_{i-1}`, rows p and q [V] and the drafted token; 0 for a token that q could not have drawn."""
    if not (0 <= token < p.shape[0] and q[token] > 0):
        return torch.zeros(())
    return (ratio * p[token] / q[token]).clamp(max=1.0)


def prefix_success(mass: Tensor, ratio: Tensor) -> Tensor:
    """`h_i` of a prefix that is not the whole chain; 1 where both numerator and denominator vanish."""
    whole = mass + 1 - ratio
    return torch.where(whole > 0, mass / whole, 1.0)


def _rows(stats: RowStats, start: int, end: int) -> RowLaw:
    law = stats.law
    return RowLaw(law.inv_temp[start:end], law.threshold[start:end], law.lse[start:end])
