"""A model that counts its passes, and fails when it is told to; all else is the model's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from draftproof.drafting.model import CachedModel, ModelInfo, Pass, RowTokens, Wanted
from draftproof.drafting.models.load import LoadedModel


class Counted:
    def __init__(self, model: CachedModel, before: Callable[[Sequence[RowTokens]], None] | None = None) -> None:
        self.model = model
        self.before = before
        """Called with what each pass reads."""
        self.passes: list[list[int]] = []
        """Of each pass, how many tokens each row read."""
        self.rows: set[int] = set()
        self.eos_ids = model.info.eos_ids

    @property
    def info(self) -> ModelInfo:
        return replace(self.model.info, eos_ids=self.eos_ids)

    @property
    def tokens(self) -> int:
        return sum(map(sum, self.passes))

    def add_row(self, row: int) -> None:
        self.model.add_row(row)
        self.rows.add(row)

    def drop_row(self, row: int) -> None:
        self.model.drop_row(row)
        self.rows.remove(row)

    def length(self, row: int) -> int:
        return self.model.length(row)

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        self.passes.append([len(each.tokens) for each in batch])
        if self.before is not None:
            self.before(batch)
        return self.model.forward(batch, wanted)

    def commit(self, row: int, slots: Sequence[int]) -> None:
        self.model.commit(row, slots)

    def truncate(self, row: int, length: int) -> None:
        self.model.truncate(row, length)

    def embed(self, ids: Tensor) -> Tensor:
        return self.model.embed(ids)

    def head(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        return self.model.head(hidden, ids)


def counted(loaded: LoadedModel) -> tuple[Counted, LoadedModel]:
    model = Counted(loaded.model)
    return model, LoadedModel(model, loaded.tokenizer, loaded.vocabulary)
