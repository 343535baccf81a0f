"""What verification, length policies and records need to know of each row of logits, in one reading of it.

Processors are those of plain sampling: temperature, then top-k, then top-p on the softmax of what top-k kept. Top-k
keeps every logit that reaches the k-th largest; top-p the smallest descending prefix whose mass reaches p, ties
with its last logit included, hence always one token. Both come down to one number, the threshold, which is always
the value of one of the row's scaled logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from draftproof.kernels.row_law import RowLaw, inside, scaled


@dataclass(frozen=True)
class RowStats:
    """Figures of R rows. Where `bad`, the row's floating-point figures are NaN and its arg-max is -1."""

    inv_temp: Tensor
    """[R] float32, as given."""
    argmax: Tensor
    """[R] int64; ties go to the lowest id."""
    max: Tensor
    """[R] float32: the largest scaled logit."""
    lse: Tensor
    """[R] float32: log-sum-exp of the kept scaled logits."""
    entropy: Tensor
    """[R] float32, nats, of the kept distribution."""
    margin: Tensor
    """[R] float32: the largest scaled logit less the second largest, 0 in a tie."""
    threshold: Tensor
    """[R] float32: the smallest kept scaled logit; -inf where neither top-k nor top-p is on."""
    id_log_prob: Tensor
    """[R] float32: log-probability of the given id; -inf where it is not kept, out of range, or none was given."""
    bad: Tensor
    """[R] bool: the scaled row holds NaN or +inf, or no finite value."""

    @property
    def law(self) -> RowLaw:
        return RowLaw(self.inv_temp, self.threshold, self.lse)


def row_stats(
    logits: Tensor,
    inv_temp: Tensor,
    *,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    ids: Tensor | None = None,
) -> RowStats:
    """Figures of every row.

    Args:
        logits: [R, V] float32, bfloat16 or float16; rows may be strided, a row's logits are adjacent.
        inv_temp: [R] float32; 0 marks a greedy row, which is measured at temperature 1 without top-k and top-p.
        top_k: [R] int64; 0 is off.
        top_p: [R] float32; 1 is off.
        ids: [R] int64: the token of each row whose log-probability is wanted; -1 is none.
    """
    if logits.is_cuda:
        from draftproof.kernels.row_stats_triton import row_stats_triton

        with torch.cuda.device(logits.device):
            return row_stats_triton(logits, inv_temp, top_k=top_k, top_p=top_p, ids=ids)
    return row_stats_torch(logits, inv_temp, top_k=top_k, top_p=top_p, ids=ids)


def row_stats_torch(
    logits: Tensor,
    inv_temp: Tensor,
    *,
    top_k: Tensor | None = None,
    top_p: Tensor | None = None,
    ids: Tensor | None = None,
) -> RowStats:
    """The definition."""
    z = scaled(logits, inv_temp)
    top, argmax = z.max(-1)  # hands NaN on
    bad = ~torch.isfinite(top)
    any_bad = bool(bad.any())
    if any_bad:
        z = torch.where(bad.unsqueeze(-1), 0.0, z)
        top, argmax = z.max(-1)
    second = z.scatter(1, argmax.unsqueeze(-1), -torch.inf).amax(-1)

    restricted = torch.full_like(top, -torch.inf)
    if top_k is not None or top_p is not None:
        for row in range(z.shape[0]):
            k = 0 if top_k is None else int(top_k[row])
            p = 1.0 if top_p is None else float(top_p[row])
            if inv_temp[row] != 0 and (0 < k < z.shape[1] or p < 1.0):
                restricted[row] = threshold_of(z[row], k, p)
        z = torch.where(z >= restricted.unsqueeze(-1), z, -torch.inf)
    lse = z.logsumexp(-1)
    log_p = z - lse.unsqueeze(-1)
    entropy = -(log_p.exp() * log_p.clamp(min=torch.finfo(torch.float32).min)).sum(-1)

    id_log_prob = torch.full_like(top, -torch.inf)
    if ids is not None:
        at, valid = inside(ids, z.shape[1])
        id_log_prob = torch.where(valid, log_p.gather(1, at.unsqueeze(-1)).squeeze(-1), -torch.inf)

    def unless_bad(figure: Tensor) -> Tensor:
        return torch.where(bad, torch.nan, figure) if any_bad else figure

    return RowStats(
        inv_temp=inv_temp,
        argmax=torch.where(bad, -1, argmax) if any_bad else argmax,
        max=unless_bad(top),
        lse=unless_bad(lse),
        entropy=unless_bad(entropy),
        margin=unless_bad(top - second),
        threshold=unless_bad(restricted),
        id_log_prob=unless_bad(id_log_prob),
        bad=bad,
    )


def threshold_of(z: Tensor, top_k: int, top_p: float) -> Tensor:
    """The smallest kept value of one row of scaled logits [V], none of them NaN, as a scalar tensor.

    Sorts: numpy's vectorised sort of a row takes a tenth of a millisecond on a CPU. The kernel does not.
    """
    falling = torch.from_numpy(np.sort(z.numpy())[::-1].copy())
    lowest = falling.new_full((), -torch.inf)
    if 0 < top_k < z.shape[0]:
        lowest = falling[top_k - 1]
        falling = falling[falling >= lowest]
    if top_p >= 1.0:
        return lowest
    mass = (falling - falling[0]).exp().cumsum(-1, dtype=torch.float64)
    reached = mass >= top_p * mass[-1]
    return falling[int(reached.int().argmax())]
