"""A self-check at construction: what the cache gives for a small tree must be what the model gives for plain text.

Families differ in what they make of masks and positions: some take positions from columns, some know no mask but the
causal one. Reading each one's code is no proof, and a wrong mask shows in no error, only in worse text. So two short
rows are decoded once in a way that depends on all of it: rows of different lengths, siblings, a slot that comes late
in its row but sits early in its text.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.errors import UsageError

_TOLERANCE = {torch.float64: 0.01, torch.float32: 0.01}
_HALF_TOLERANCE = 0.1
"""Largest relative error, far above rounding and far below what a misplaced token makes."""
_LONG, _SHORT = -1, -2
"""Row ids of the check; they are gone afterwards."""


def check_passes(cached: CachedModel, model: PreTrainedModel) -> None:
    """Raises UsageError unless a tree in the cache has the logits of the model's plain forward."""
    size = cached.info.vocab_size
    a, b, c, d, e, f, g, h = (int(part) for part in torch.linspace(1, size - 1, 8))
    cached.add_row(_LONG)
    cached.add_row(_SHORT)
    try:
        cached.forward([_row(_LONG, [a, b, c]), _row(_SHORT, [h])], Wanted(logits="none"))
        cached.commit(_LONG, [0, 1, 2])
        cached.commit(_SHORT, [0])
        tree = _row(_LONG, [d, e, f, g, h], parents=[-1, -1, -1, -1, 3])
        result = cached.forward([tree, _row(_SHORT, [g])])
    finally:
        cached.drop_row(_LONG)
        cached.drop_row(_SHORT)
    logits = result.logits
    if logits is None:
        raise UsageError(f"{cached.info.name} gave no logits.")
    late, short = _plain(model, [a, b, c, g, h]), _plain(model, [h, g])
    expected = torch.stack([late[3], late[4], short[1]])
    error = _relative_error(logits[[3, 4, 5]], expected)
    if not error < _TOLERANCE.get(cached.info.dtype, _HALF_TOLERANCE):
        raise UsageError(
            f"{cached.info.architecture} cannot be decoded in drafts: for a small token tree its logits are off by "
            f"{error:.0%} from those of its plain forward, so its code does not keep to the masks or positions given.",
            remedy="Load it with attn_implementation='eager', or choose another model.",
        )


def head_agrees(cached: CachedModel, model: PreTrainedModel) -> bool:
    """Whether the final norm and the head alone, applied to the last layer's output, give the model's logits."""
    top = cached.info.n_layers
    cached.add_row(_LONG)
    try:
        result = cached.forward([_row(_LONG, [0])], Wanted(taps=(top,)))
    finally:
        cached.drop_row(_LONG)
    logits = cached.head(result.hidden[top])
    if result.logits is None or logits.shape != result.logits.shape:
        return False
    return _relative_error(logits, result.logits) < _TOLERANCE.get(cached.info.dtype, _HALF_TOLERANCE)


def _row(row: int, tokens: list[int], parents: list[int] | None = None) -> RowTokens:
    return RowTokens(row, torch.tensor(tokens), None if parents is None else torch.tensor(parents))


@torch.no_grad()
def _plain(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """[n, V]"""
    logits: Tensor = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0]
    return logits


def _relative_error(got: Tensor, expected: Tensor) -> float:
    """Relative to how much logits differ among tokens; a constant added to all of a row changes nothing."""
    wanted = expected.double() - expected.double().mean(-1, keepdim=True)
    found = got.double() - got.double().mean(-1, keepdim=True)
    return float((found - wanted).norm() / wanted.norm())
