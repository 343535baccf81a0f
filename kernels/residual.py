"""What is drawn where a drafted token was rejected: `(scale p - q)+`, and p where nothing is left of that."""

from __future__ import annotations

import torch
from torch import Tensor

from draftproof.kernels.drafted import RESIDUAL
from draftproof.kernels.race import draw_from_weights

NO_MASS = 1e-6
"""A residual of at most this mass is rounding: p and q are the same, and p itself is drawn from."""


def residual(p: Tensor, q: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """[V] unnormalised weights from rows p and q [V]; p itself where their mass is at most `NO_MASS`."""
    weights = positive_part(scale * p, q)
    return weights if weights.sum() > NO_MASS else p


def positive_part(p: Tensor, q: Tensor) -> Tensor:
    """`(p - q)+`; 0 where q is NaN, so that a broken draft row cannot put its NaN into the output."""
    return torch.where(p > q, p - q, 0.0)


def residual_draw(weights: Tensor, seed: int, position: int) -> int:
    """A token from unnormalised weights [V] by the stream that is kept for residuals."""
    return draw_from_weights(weights, seed, RESIDUAL, position)


def accepts(uniform: Tensor, p: Tensor, q: Tensor) -> bool:
    """`u q < p`, strict; a token that q could not have drawn is rejected (Leviathan et al., arXiv 2211.17192)."""
    return bool((q > 0) & (uniform * q < p))
