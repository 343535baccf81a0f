"""What an exit adapter learns from: the target's states at one exit, and what the target says in the end.

The target stays as it is, so both are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from draftproof.drafting.drafters.vocab_trim import normalised
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.training.features import TOP
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import ModelError, UsageError

_CHUNK = 256
"""Positions a pass: enough to keep the processor busy, few enough for their logits to fit."""


@dataclass(frozen=True)
class ExitStates:
    """Positions of all texts, one after the other: N positions of M texts."""

    layer: int
    digest: str
    """Of the texts and the target that was run over them."""
    bounds: Tensor
    """[M+1] int64: text m is at bounds[m] … bounds[m+1] - 1."""
    shape: Tensor
    """[N, H] float16, mean square 1: states after `layer` layers without their size, which float16 might not hold."""
    size: Tensor
    """[N, 1] float32."""
    top_ids: Tensor
    """[N, TOP] int64: the target's most probable next tokens."""
    top_logprobs: Tensor
    """[N, TOP] float32."""

    @property
    def n_texts(self) -> int:
        return len(self.bounds) - 1

    def span(self, text: int) -> slice:
        return slice(int(self.bounds[text]), int(self.bounds[text + 1]))

    def states(self, text: int) -> Tensor:
        """[n, H] float32."""
        at = self.span(text)
        return self.shape[at].float() * self.size[at]


def read_exit(model: CachedModel, texts: Sequence[Sequence[int]], layer: int, *, report: Report = silent) -> ExitStates:
    """Run the target over `texts` once."""
    if not 0 < layer < model.info.n_layers:
        raise UsageError(f"{model.info.name} can be left after 1 … {model.info.n_layers - 1} layers, not {layer}.")
    if not texts or any(not len(text) for text in texts):
        raise UsageError("There must be texts to train on, and none of them empty.")
    total, done = sum(len(text) for text in texts), 0
    shape, size, top_ids, top_logprobs = [], [], [], []
    for number, text in enumerate(texts):
        model.add_row(number)
        try:
            for begin in range(0, len(text), _CHUNK):
                piece = torch.tensor(text[begin : begin + _CHUNK], dtype=torch.int64)
                result = model.forward([RowTokens(number, piece)], Wanted(taps=(layer,)))
                model.commit(number, range(len(piece)))
                states, logits = result.hidden[layer].float(), result.logits
                assert logits is not None
                if not bool(torch.isfinite(logits).all()):
                    raise ModelError(f"{model.info.name} gives logits that are not numbers for text {number}.")
                best = torch.log_softmax(logits.float(), dim=-1).topk(min(TOP, model.info.vocab_size), dim=-1)
                shape.append(normalised(states).to(torch.float16).cpu())
                size.append(states.square().mean(-1, keepdim=True).sqrt().cpu())
                top_ids.append(best.indices.cpu())
                top_logprobs.append(best.values.cpu())
                done += len(piece)
                report("reading", done, total, "")
        finally:
            model.drop_row(number)
    lengths = torch.tensor([len(text) for text in texts])
    return ExitStates(
        layer=layer,
        digest=sha256(f"{model.info.digest} {[list(text) for text in texts]}".encode()).hexdigest(),
        bounds=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        shape=torch.cat(shape),
        size=torch.cat(size),
        top_ids=torch.cat(top_ids),
        top_logprobs=torch.cat(top_logprobs),
    )
