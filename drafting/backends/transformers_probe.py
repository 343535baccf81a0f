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

from draftproof.drafting.backends.transformers_head import LogitHead
from draftproof.drafting.model import CachedModel, Pass, RowTokens, Wanted
from draftproof.errors import DraftproofError, NumericalError, UsageError

_TOLERANCE = 0.01
_HALF_TOLERANCE = 0.1
"""Largest relative error in half precision: above its rounding, and below what a misplaced token makes."""
_CHECKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that may hold NaN; others are quantised."""
_LONG, _SHORT = -1, -2
"""Row ids of the check; they are gone afterwards."""


def check_passes(cached: CachedModel, model: PreTrainedModel, head: LogitHead | None) -> bool:
    """Raises UsageError unless a tree in the cache has the logits of the model's plain forward.

    Returns whether `head`, applied to the last layer's output, gives the same logits too. Raises NumericalError for
    logits that are not numbers, which say nothing about masks.
    """
    size = cached.info.vocab_size
    a, b, c, d, e, f, g, h = (int(part) for part in torch.linspace(1, size - 1, 8))
    late, short = _plain(model, [a, b, c, g, h]), _plain(model, [h, g])
    expected = torch.stack([late[3], late[4], short[1]])
    _check_numbers(expected, cached, model, "in its plain forward")
    result = _tree_pass(cached, [a, b, c], [d, e, f, g, h], [-1, -1, -1, -1, 3], short=[h, g])
    picked = torch.tensor([3, 4, 5], device=expected.device)
    tolerance = _HALF_TOLERANCE if cached.info.dtype in (torch.float16, torch.bfloat16) else _TOLERANCE
    error = float("inf")
    if result.logits is not None:
        _check_numbers(result.logits[picked], cached, model, "for a small token tree, though not in its plain forward")
        error = _relative_error(result.logits[picked], expected)
    if not error <= tolerance:
        raise UsageError(
            f"{cached.info.architecture} cannot be decoded in drafts: for a small token tree its logits are off by "
            f"{error:.0%} from those of its plain forward, so its code does not keep to the masks or positions given.",
            remedy="Load it with attn_implementation='eager', or choose another model.",
        )
    with torch.no_grad():
        return (
            head is not None
            and _relative_error(head(result.hidden[cached.info.n_layers][picked]), expected) <= tolerance
        )


def _tree_pass(cached: CachedModel, prompt: list[int], tree: list[int], parents: list[int], short: list[int]) -> Pass:
    """A tree after `prompt`, beside a row of two tokens that was begun at the same time."""
    cached.add_row(_LONG)
    cached.add_row(_SHORT)
    try:
        cached.forward([_row(_LONG, prompt), _row(_SHORT, short[:1])], Wanted(logits="none"))
        cached.commit(_LONG, range(len(prompt)))
        cached.commit(_SHORT, [0])
        batch = [_row(_LONG, tree, parents), _row(_SHORT, short[1:])]
        return cached.forward(batch, Wanted(taps=(cached.info.n_layers,)))
    except DraftproofError:
        raise
    except Exception as error:  # whatever a model's code does with arguments that it was not written for
        raise UsageError(
            f"{cached.info.architecture} cannot be decoded in drafts: its forward fails on a token tree ({error})."
        ) from error
    finally:
        cached.drop_row(_LONG)
        cached.drop_row(_SHORT)


def _row(row: int, tokens: list[int], parents: list[int] | None = None) -> RowTokens:
    return RowTokens(row, torch.tensor(tokens), None if parents is None else torch.tensor(parents))


@torch.no_grad()
def _plain(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """[n, V]"""
    logits: Tensor = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0]
    return logits


def _check_numbers(logits: Tensor, cached: CachedModel, model: PreTrainedModel, where: str) -> None:
    """Raises NumericalError, saying whether a weight is at fault, unless all of `logits` are numbers."""
    if bool(logits.isfinite().all()):
        return
    damaged = next((name for name, weight in model.named_parameters() if not _is_finite(weight)), None)
    if damaged is not None:
        raise NumericalError(
            f"{cached.info.name} cannot be decoded: its weight {damaged} holds NaN or infinity, and so do its logits "
            f"{where}.",
            remedy="The weights are damaged: fetch or train them again.",
        )
    raise NumericalError(
        f"{cached.info.name} cannot be decoded: its logits hold NaN or infinity {where}. Its weights are all numbers, "
        "so activations are not.",
        remedy=f"If they overflow {str(cached.info.dtype).removeprefix('torch.')}, load it with dtype=torch.float32 "
        "or torch.bfloat16; else its code or its attention implementation is at fault.",
    )


def _is_finite(weight: Tensor) -> bool:
    return weight.dtype not in _CHECKED or bool(weight.isfinite().all())


def _relative_error(got: Tensor, expected: Tensor) -> float:
    """Relative to how much logits differ among tokens, so that a large constant in all of them hides nothing."""
    wanted = expected.double() - expected.double().mean(-1, keepdim=True)
    wrong = got.double() - expected.double()
    return float(wrong.norm() / wanted.norm().clamp_min(torch.finfo(torch.float64).tiny))
