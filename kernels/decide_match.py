"""The `match` rule: draw the target's token, accept the drafted one if and only if it is the same.

Every row has its own race, keyed by the absolute position it decides, so the output is a function of logits and seed
alone: the text is that of plain seeded sampling, whatever was drafted. Exact for any proposal: the token that is
emitted is always the target's own draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.kernels.drafted import Decided, Drafted
from draftproof.kernels.race import target_draw_torch
from draftproof.kernels.walk import follow


def decide_match(logits: Tensor, inv_temp: Tensor, threshold: Tensor | None, drafted: Drafted) -> Decided:
    """What each request emits; chains and trees.

    Args:
        logits: [R, V] raw logits, packed as `drafted` says.
        inv_temp: [R] float32; 0 marks a greedy row.
        threshold: [R] float32 on scaled logits, from `row_stats`; None keeps all tokens.
    """
    if logits.is_cuda:
        from draftproof.kernels.decide_match_triton import decide_match_triton

        with torch.cuda.device(logits.device):
            return decide_match_triton(logits, inv_temp, threshold, drafted)
    return decide_match_torch(logits, inv_temp, threshold, drafted)


def decide_match_torch(logits: Tensor, inv_temp: Tensor, threshold: Tensor | None, drafted: Drafted) -> Decided:
    """The definition; draws only from rows that are reached."""

    def draw(request: int, row: int, depth: int) -> int:
        at = slice(row, row + 1)
        drawn = target_draw_torch(
            logits[at],
            inv_temp[at],
            None if threshold is None else threshold[at],
            drafted.seeds[request : request + 1],
            drafted.positions[request : request + 1] + depth,
        )
        return int(drawn[0])

    return follow(drafted, draw)
