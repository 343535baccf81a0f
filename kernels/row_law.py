"""The distribution of a row of logits, held as three numbers: inverse temperature, threshold, log-sum-exp.

With `z = logit * inv_temp`, a token's probability is `exp(z - lse)` when `z >= threshold` and 0 otherwise. A
verification reads raw logits and these numbers; a tensor of probabilities is never written. Greedy rows have no
temperature: they are marked by `inv_temp == 0` and follow the arg-max of `z = logit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowLaw:
    inv_temp: Tensor
    """[R] float32: 1 / temperature, 0 for a greedy row."""
    threshold: Tensor
    """[R] float32: the smallest scaled logit that top-k and top-p keep; -inf keeps all."""
    lse: Tensor
    """[R] float32: log of the sum of `exp(z)` over the kept tokens."""

    def row(self, index: int) -> RowLaw:
        at = slice(index, index + 1)
        return RowLaw(self.inv_temp[at], self.threshold[at], self.lse[at])


def scaled(logits: Tensor, inv_temp: Tensor) -> Tensor:
    """`z`, [R, V] float32, of logits [R, V] in any floating type."""
    factor = torch.where(inv_temp == 0, torch.ones_like(inv_temp), inv_temp)
    return logits.to(torch.float32) * factor.unsqueeze(-1)


def log_probs(logits: Tensor, law: RowLaw) -> Tensor:
    """[R, V] float32, -inf for tokens that are not kept. Of a greedy row: at temperature 1."""
    z = scaled(logits, law.inv_temp)
    return torch.where(z >= law.threshold.unsqueeze(-1), z - law.lse.unsqueeze(-1), -torch.inf)


def probs(logits: Tensor, law: RowLaw) -> Tensor:
    """[R, V] float32."""
    return log_probs(logits, law).exp()


def inside(ids: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Ids that are safe to index `width` columns with, and which of the given ids they are; others are 0 and False."""
    valid = (ids >= 0) & (ids < width)
    return torch.where(valid, ids, 0), valid
