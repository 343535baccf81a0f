"""Trained draft heads laid out for drafting: each block one product, in the weight layout that is fastest here.

Drafting asks the heads for a few rows at a time, where the time is that of reading weights. `DraftHeads` keeps them as
training needs them; this is a copy of its own, and says the same, but for rounding: the native layout gets the weights
in eight bits (`eight_bits`). A residual map, which begins as the identity, is kept as what it adds to the identity, so
that its small numbers are not rounded by the step of a large one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from draftproof.drafting.backends.lean_pages import gather
from draftproof.drafting.backends.packed_linear import PackedLinear, best_layout
from draftproof.drafting.drafters.eight_bits import in_eight_bits
from draftproof.drafting.drafters.head_models import Block, DraftHeads

Product = Callable[[Tensor], Tensor]


class HeadProducts:
    """What `DraftHeads.state` and `DraftHeads.logits` compute, for inference."""

    def __init__(self, heads: DraftHeads, device: torch.device) -> None:
        with torch.no_grad():
            self._width = heads.config.hidden_size
            self._sees_tokens = heads.config.kind == "hydra"
            self._blocks = [
                [_block(first, device), *(_block(each, device) for each in deeper.children())]
                for first, deeper in zip(heads.first, heads.deeper, strict=True)
            ]
            weight = torch.cat([heads.output, heads.rest.unsqueeze(0)])
            bias = torch.cat([heads.output_bias, heads.rest_bias.unsqueeze(0)])
            self._output = _product(weight, bias, device)
            products = [self._output, *(product for blocks in self._blocks for product, _ in blocks)]
            gather(product.memory for product in products if isinstance(product, PackedLinear))

    def logits(self, head: int, hidden: Tensor, embedded: Tensor) -> Tensor:
        """[n, W + 1] of head `head` (0-based) for states [n, H] and embeddings [n, head + 1, H], all normalised."""
        seen = torch.cat([hidden, embedded.flatten(1)], dim=1) if self._sees_tokens else hidden
        for product, has_residual in self._blocks[head]:
            made = product(seen)
            kept = seen[:, : self._width] + made[:, : self._width] if has_residual else seen
            seen = kept + nn.functional.silu(made[:, -self._width :])
        return self._output(seen)


def _block(block: nn.Module, device: torch.device) -> tuple[Product, bool]:
    """One product for branch and residual, the residual's change first; whether there is a residual map."""
    assert isinstance(block, Block)
    weight, bias = block.branch.weight, block.branch.bias
    if block.residual is None:
        return _product(weight, bias, device), False
    identity = torch.eye(*block.residual.weight.shape, device=weight.device)
    weight = torch.cat([block.residual.weight - identity, weight])
    return _product(weight, torch.cat([torch.zeros_like(bias), bias]), device), True


def _product(weight: Tensor, bias: Tensor, device: torch.device) -> Product:
    if device.type == "cpu":
        weight, bias = weight.detach().float().cpu(), bias.detach().float().cpu()
        return PackedLinear(in_eight_bits(weight) if best_layout() == "native" else weight, bias)
    moved, shift = weight.detach().to(device), bias.detach().to(device)
    return lambda rows: nn.functional.linear(rows, moved, shift)
