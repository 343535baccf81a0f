"""From states to draft logits: the target's own head, or the rows of it for the tokens that may be drafted.

Backends hold heads in layouts of their own, from which a few rows cannot be taken in place; copying 8192 rows for
every drafted token costs more than it saves. So the rows are taken once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, normalised, output_rows
from draftproof.drafting.model import CachedModel
from draftproof.errors import UsageError


class ExitHead:
    def __init__(self, model: CachedModel, trimmed: TrimmedVocabulary | None) -> None:
        self._model = model
        self.ids: Tensor | None = None
        """[W] int64 on the model's device, ascending: target id of each column; None when columns are ids."""
        if trimmed is None:
            return
        info = model.info
        if trimmed.full_size != info.vocab_size:
            raise UsageError(
                f"The trimmed vocabulary is cut from {trimmed.full_size} tokens; the target {info.name} has "
                f"{info.vocab_size}."
            )
        weight, bias = output_rows(model, trimmed.ids)
        self.ids = trimmed.ids.to(info.device)
        self._weight, self._bias = weight.to(info.device, info.dtype), bias.to(info.device)

    def __call__(self, states: Tensor) -> Tensor:
        """Draft logits [n, W] of states [n, H]."""
        if self.ids is None:
            return self._model.head(states)
        return torch.nn.functional.linear(normalised(states).to(self._weight.dtype), self._weight).float() + self._bias
