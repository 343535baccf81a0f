"""From hidden states to logits: final norm, language-model head, and what some families do to logits afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class LogitHead:
    norm: nn.Module
    linear: nn.Linear
    scale: float = 1.0
    cap: float | None = None
    """Logits are squeezed into (-cap, cap) by `cap · tanh(logit / cap)` (Gemma 2, arXiv 2408.00118, section 2)."""

    def __call__(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Logits [..., V] of states [..., H] before the final norm; [..., len(ids)] for those ids only."""
        normed = cast(Tensor, self.norm(hidden))
        logits = self._scores(normed, ids)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def _scores(self, normed: Tensor, ids: Tensor | None) -> Tensor:
        if ids is None:
            return cast(Tensor, self.linear(normed))
        at = ids.to(normed.device)
        if not self.linear.weight.is_floating_point():
            # Quantized: rows cannot be taken out of the packed weight.
            return cast(Tensor, self.linear(normed))[..., at]
        bias = None if self.linear.bias is None else self.linear.bias[at]
        return functional.linear(normed, self.linear.weight[at], bias)
