"""Log-probability, entropy and margin of tokens, and the largest probabilities, from the logits that decided them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftproof.errors import NumericalError
from draftproof.kernels.row_stats import row_stats


class Figures:
    """Of the tokens of one text, in their order."""

    HELD = 2**20
    """Logits that are kept until they are measured together: a call costs as much as a dozen short rows."""

    def __init__(self, top: int = 0) -> None:
        """`top`: how many of the largest probabilities are wanted; at most the vocabulary's size."""
        self.logprobs: list[float] = []
        self.entropies: list[float] = []
        self.margins: list[float] = []
        self.top: list[tuple[float, ...]] = []
        """The largest first, at temperature 1; without entries where none are wanted."""
        self._wanted = top
        self._logits: list[Tensor] = []
        self._tokens: list[int] = []
        self._held = 0

    def add(self, logits: Tensor, tokens: Sequence[int]) -> None:
        """`logits` [n, V], raw, of `n` tokens."""
        self._logits.append(logits)
        self._tokens += tokens
        self._held += logits.numel()
        if self._held > self.HELD:
            self.measure()

    def measure(self) -> None:
        """Bring the figures up to date. Raises NumericalError for logits that are no numbers."""
        if not self._tokens:
            return
        logits = self._logits[0] if len(self._logits) == 1 else torch.cat(self._logits)
        ones = torch.ones(len(self._tokens), device=logits.device)
        measured = row_stats(logits, ones, ids=torch.tensor(self._tokens, device=logits.device))
        if bool(measured.bad.any()):
            raise NumericalError(
                "A model's logits hold NaN or no finite number.",
                remedy="Its weights are damaged, or its dtype overflows.",
            )
        self.logprobs += measured.id_log_prob.tolist()
        self.entropies += measured.entropy.tolist()
        self.margins += measured.margin.tolist()
        if self._wanted:
            largest = logits.topk(self._wanted, dim=-1).values.float()
            self.top += map(tuple, (largest - measured.lse.unsqueeze(-1)).exp().tolist())
        self._logits, self._tokens, self._held = [], [], 0
