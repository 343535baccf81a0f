"""Draws from a row by an exponential race: `argmin_v E_v / p_v` is distributed as p when the E are independent
standard exponentials (the Gumbel-max trick in another dress: Maddison et al., arXiv 1411.0030, section 2).

A race needs no normaliser and splits over the vocabulary. The definitions here draw noise only for tokens that can
still win: an exponential is at least 2^-33 (see `philox.exponential_of`), so its Gumbel form is at most
33 ln 2 = 22.88. That changes nothing in the result; it pays where top-k, top-p or a sharp row leave few tokens. Ties
go to the lowest id.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.kernels.drafted import TARGET
from draftproof.kernels.philox import exponential_of, exponential_row, exponentials, word
from draftproof.kernels.row_law import scaled

EXPONENTIAL_MIN = 2.0**-33
"""The smallest exponential that can be drawn."""
GUMBEL_MAX = 22.9
"""Above `-log(E)` for every E that can be drawn."""
_ROUNDING = 1e-6
_DENSE = 4
"""From a quarter of the row on, its numbers are cheaper drawn all at once."""


def target_draw(logits: Tensor, inv_temp: Tensor, threshold: Tensor | None, seeds: Tensor, positions: Tensor) -> Tensor:
    """The target's own token of every row, [R] int64; -1 where the row holds NaN, +inf or no finite value.

    This is plain sampling: the `match` rule and bonus tokens draw the very same numbers.

    Args:
        logits: [R, V] raw logits.
        inv_temp: [R] float32; 0 marks a greedy row, which gives its arg-max.
        threshold: [R] float32 on scaled logits; None keeps all.
        seeds: [R] int64.
        positions: [R] int64: absolute position of the token that the row decides.
    """
    if logits.is_cuda:
        from draftproof.kernels.race_triton import target_draw_triton

        with torch.cuda.device(logits.device):
            return target_draw_triton(logits, inv_temp, threshold, seeds, positions)
    return target_draw_torch(logits, inv_temp, threshold, seeds, positions)


def target_draw_torch(
    logits: Tensor, inv_temp: Tensor, threshold: Tensor | None, seeds: Tensor, positions: Tensor
) -> Tensor:
    """The definition."""
    drawn = []
    for row in range(logits.shape[0]):
        at = slice(row, row + 1)
        z = scaled(logits[at], inv_temp[at])[0]
        if inv_temp[row] == 0:
            top, best = z.max(-1)
            drawn.append(int(best) if torch.isfinite(top) else -1)
            continue
        if threshold is not None:
            z = torch.where(z < threshold[row], -torch.inf, z)  # NaN stays NaN, and is found
        drawn.append(draw_from_logits(z, int(seeds[row]), TARGET, int(positions[row])))
    return torch.tensor(drawn, dtype=torch.int64, device=logits.device)


def draw_from_logits(z: Tensor, seed: int, purpose: int, position: int) -> int:
    """`argmax(z_v - log E_v)` of one row [V] of scaled logits; -1 when its largest is not finite."""
    top, at = z.max(-1)
    if not torch.isfinite(top):
        return -1
    best = float(top - torch.log(_exponential(seed, purpose, position, int(at))))
    alive = z >= best - GUMBEL_MAX - _ROUNDING * abs(best)
    if _DENSE * int(alive.sum()) >= z.shape[0]:
        return int(torch.argmax(z - torch.log(exponential_row(seed, purpose, position, 0, z.shape[0]))))
    ids = alive.nonzero().squeeze(-1)
    return int(ids[torch.argmax(z[ids] - torch.log(exponentials(seed, purpose, position, 0, ids)))])


def draw_from_weights(weights: Tensor, seed: int, purpose: int, position: int) -> int:
    """`argmax(w_v / E_v)` of one row [V] of weights that need not sum to 1; -1 when none is positive and finite."""
    top, at = weights.max(-1)
    if not (torch.isfinite(top) and top > 0):
        return -1
    best = float(top / _exponential(seed, purpose, position, int(at)))
    alive = weights >= best * EXPONENTIAL_MIN * (1 - _ROUNDING)
    if _DENSE * int(alive.sum()) >= weights.shape[0]:
        return int(torch.argmax(weights / exponential_row(seed, purpose, position, 0, weights.shape[0])))
    ids = alive.nonzero().squeeze(-1)
    return int(ids[torch.argmax(weights[ids] / exponentials(seed, purpose, position, 0, ids))])


def _exponential(seed: int, purpose: int, position: int, index: int) -> Tensor:
    return exponential_of(torch.tensor(word(seed, purpose, position, 0, index)))
