"""Weights that a form of `native_weights.h` holds."""

from __future__ import annotations

import torch

from draftproof.drafting.backends.packed_linear import Form

FORMS: tuple[Form, ...] = ("floats", "halves", "bytes", "nibbles")


def rounded(weight: torch.Tensor, form: Form) -> torch.Tensor:
    """`weight` [N, K], K a multiple of 32 for bytes and nibbles, rounded to what the form holds."""
    if form == "floats":
        return weight.clone()
    if form == "halves":
        return weight.bfloat16().float()
    groups = weight.unflatten(1, (-1, 32))
    largest = groups.abs().amax(-1, keepdim=True)
    if form == "bytes":  # as GGUF's Q8_0
        scale = (largest / 127).half().float()
        return ((groups / scale).round().clamp(-127, 127) * scale).flatten(1)
    low = groups.amin(-1, keepdim=True)  # as GGUF's Q4_1
    scale = ((groups.amax(-1, keepdim=True) - low) / 15).half().float()
    return (((groups - low) / scale).round().clamp(0, 15) * scale + low.half().float()).flatten(1)
