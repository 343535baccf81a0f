"""Attention to the last few tokens, which only transformers' eager attention tells.

Feature set of arXiv 2505.08200 (section 3) and 2511.06209: from the position that predicts a token, the weights of
every layer and head on that position itself and those just before it. Reading them takes a pass that materialises
attention, [layers, heads, T, T]: the reader's, never the generating engine's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.drafting.models.checkpoint import read_checkpoint
from draftproof.drafting.models.gguf import gguf_model
from draftproof.drafting.models.gguf_file import open_gguf
from draftproof.drafting.models.gguf_tokenizer import gguf_tokenizer
from draftproof.drafting.models.load import LoadedModel, checkpoint_config, checkpoint_model, find_source
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import UsageError


class AttentionReader:
    """Windows of attention of one model, which must attend eagerly."""

    def __init__(self, model: PreTrainedModel) -> None:
        attends = model.config._attn_implementation
        if attends != "eager":
            raise UsageError(
                f"{type(model).__name__} attends by {attends!r}, which tells no attention weights.",
                remedy="Load it with attn_implementation='eager'.",
            )
        self._model = model

    @torch.no_grad()
    def windows(self, ids: Tensor, start: int, width: int) -> Tensor:
        """[T - start, width · layers · heads] float32 for tokens `start` … T - 1 of ids [T], `start` above 0.

        Column (back · layers + layer) · heads + head is the weight that the position before the token gives to the
        one `back` before itself; 0 where there is none.
        """
        taken = self._model(input_ids=ids[:-1].unsqueeze(0).to(self._model.device), output_attentions=True)
        attentions = getattr(taken, "attentions", None)
        if not attentions or any(each is None for each in attentions):
            raise UsageError(
                f"{type(self._model).__name__} gave no attention weights, though it attends eagerly.",
                remedy="Train a head without --window for this model.",
            )
        weights = torch.stack([each[0] for each in attentions]).float().cpu()  # [layers, heads, T-1, T-1]
        rows = torch.arange(start - 1, len(ids) - 1)
        columns = []
        for back in range(width):
            at = rows - back
            found = weights[:, :, rows, at.clamp_min(0)] * (at >= 0)  # [layers, heads, n]
            columns.append(found.flatten(0, 1).T)
        return torch.cat(columns, dim=1)


def load_eager(source: str | Path, models_folder: Path | None = None) -> tuple[LoadedModel, AttentionReader]:
    """A model by name, folder or .gguf file, in float32 on the CPU, that attends eagerly."""
    place = find_source(source, models_folder)
    if place.is_dir():
        checkpoint = read_checkpoint(place)
        model = checkpoint_model(checkpoint, checkpoint_config(checkpoint), torch.float32, torch.device("cpu"))
        tokenizer: Any = load_tokenizer(place)
    else:
        opened = open_gguf(place)
        model, tokenizer = gguf_model(opened), gguf_tokenizer(opened)
    cast(Any, model).set_attn_implementation("eager")
    engine = TransformersModel(model, name=str(source))
    return LoadedModel(engine, tokenizer, ByteVocabulary(tokenizer)), AttentionReader(model)
