"""A model whose next token depends on the last one alone: its laws are known exactly, and it costs nothing to run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftproof.drafting.model import ModelInfo, Pass, RowTokens, Wanted


class Bigram:
    """A model whose next token depends on the last one alone: its laws are known exactly."""

    supports_layers = False

    def __init__(self, laws: Sequence[Sequence[float]]) -> None:
        self._logits = torch.tensor(laws, dtype=torch.float64).log().float()
        size = len(laws)
        self.info = ModelInfo(
            "bigram", "Bigram", size, size, 1, 4096, frozenset(), torch.device("cpu"), torch.float32, "test", "bigram"
        )
        self._lengths: dict[int, int] = {}

    def add_row(self, row: int) -> None:
        self._lengths[row] = 0

    def drop_row(self, row: int) -> None:
        del self._lengths[row]

    def length(self, row: int) -> int:
        return self._lengths[row]

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        fed = [each.tokens[-1:] if wanted.logits == "last" else each.tokens for each in batch]
        bounds = [0]
        for tokens in fed:
            bounds.append(bounds[-1] + len(tokens))
        return Pass(None if wanted.logits == "none" else self._logits[torch.cat(fed)], tuple(bounds))

    def commit(self, row: int, slots: Sequence[int]) -> None:
        self._lengths[row] += len(slots)

    def truncate(self, row: int, length: int) -> None:
        self._lengths[row] = length

    def embed(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    head = embed
