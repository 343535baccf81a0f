"""A model's weights, rearranged so that a layer takes few operators.

- Queries, keys and values come from one multiplication, gate and up projection from another.
- An RMS norm is the step before the matrix that follows: a division by the vector's length, and a factor for each
  column, the norm's weight times the root of the width. The gate of the feed-forward network is the step before the
  last matrix.
- Rotary embedding turns pairs of numbers. Where transformers pairs number i of a head with i + size / 2, rows are
  reordered so that pairs lie side by side, as a complex number does; the product of query and key does not change.

No number of a matrix changes, so that one of few bits can be packed as such.

Each matrix is put together in one piece of memory, used again and again, and packed from there. So no matrix exists
twice for long, and no large piece is given back in between: packed layouts reserve more than they fill, which costs
nothing in memory that was never used, and much in memory that was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.backends.lean_shape import LeanShape
from draftproof.drafting.backends.packed_linear import PackedLinear
from draftproof.errors import ModelError

Source = Callable[[str], Tensor | None]
"""From a name in the model's state to its tensor, or None where there is none of that name."""


@dataclass(frozen=True)
class LeanLayer:
    queries_keys_values: PackedLinear
    head_norms: Tensor | None
    """[heads + kv_heads, head_size]: weights of the norms of query and key heads, where the family has them."""
    out: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear


@dataclass(frozen=True)
class LeanEnds:
    """What comes before the first and after the last layer."""

    embeddings: Tensor
    """[V, H], as it is in the model, in half precision too: rows are looked up in it, which no packed layout allows."""
    norm: Tensor
    """[H] float32: weight of the final norm times the root of H."""
    head: PackedLinear
    """The final norm is its step before."""


class WeightBuilder:
    """Makes layers from a source of tensors."""

    def __init__(self, shape: LeanShape, source: Source) -> None:
        self._shape = shape
        self._source = source
        self._workspace = torch.empty(0, dtype=torch.float32)
        self._floor = shape.hidden_size * shape.epsilon

    def ends(self) -> LeanEnds:
        shape = self._shape
        # A copy, so that neither a user's model nor a mapped file stays alive for it.
        embeddings = self._needed("model.embed_tokens.weight").clone()
        norm = self._gain("model.norm")
        matrix = self._together([embeddings if shape.tied else self._needed("lm_head.weight")])
        head = PackedLinear(matrix, before="unit", floor=self._floor, gain=norm)
        self._workspace = torch.empty(0, dtype=torch.float32)  # far more than a layer needs
        return LeanEnds(embeddings=embeddings, norm=norm, head=head)

    def layer(self, index: int) -> LeanLayer:
        shape, size = self._shape, self._shape.head_size
        before, after = f"model.layers.{index}.self_attn", f"model.layers.{index}.mlp"
        gate_up = PackedLinear(
            self._together([self._weight(f"{after}.gate_proj"), self._weight(f"{after}.up_proj")]),
            self._biases([f"{after}.gate_proj", f"{after}.up_proj"]),
            before="unit",
            floor=self._floor,
            gain=self._gain(f"model.layers.{index}.post_attention_layernorm"),
        )

        queries, keys, values = (f"{before}.{name}_proj" for name in "qkv")
        qkv = self._together(
            [paired(self._weight(queries), size), paired(self._weight(keys), size), self._weight(values)]
        )
        bias = self._biases([queries, keys, values])
        if bias is not None:
            turned = (shape.heads + shape.kv_heads) * size
            bias[:turned] = paired(bias[:turned].clone(), size).reshape(-1)
        return LeanLayer(
            queries_keys_values=PackedLinear(
                qkv,
                bias,
                before="unit",
                floor=self._floor,
                gain=self._gain(f"model.layers.{index}.input_layernorm"),
            ),
            head_norms=self._head_norms(before) if shape.head_norms else None,
            out=PackedLinear(self._together([self._weight(f"{before}.o_proj")]), self._biases([f"{before}.o_proj"])),
            gate_up=gate_up,
            down=PackedLinear(
                self._together([self._weight(f"{after}.down_proj")]),
                self._biases([f"{after}.down_proj"]),
                before="gate",
            ),
        )

    def _gain(self, norm: str) -> Tensor:
        """An RMS norm's factor of each column, beside the division by the length."""
        root: float = self._shape.hidden_size**0.5
        return self._vector(norm) * root

    def _head_norms(self, attention: str) -> Tensor:
        """The roots of the widths are in them."""
        shape, size = self._shape, self._shape.head_size
        of_queries = paired(self._vector(f"{attention}.q_norm"), size).reshape(size) * size**0.5
        of_keys = paired(self._vector(f"{attention}.k_norm"), size).reshape(size) * size**0.5
        return torch.cat([of_queries.expand(shape.heads, -1), of_keys.expand(shape.kv_heads, -1)])

    def _together(self, blocks: Sequence[Tensor]) -> Tensor:
        """[N, K] float32: the blocks, each [n, K] in any shape, one below the other. Valid until the next call."""
        columns = blocks[0].shape[-1]
        numbers = sum(block.numel() for block in blocks)
        if numbers > self._workspace.numel():
            self._workspace = torch.empty(numbers, dtype=torch.float32)
        low = 0
        for block in blocks:
            self._workspace[low : low + block.numel()].view(block.shape).copy_(block)
            low += block.numel()
        return self._workspace[:numbers].view(-1, columns)

    def _biases(self, names: Sequence[str]) -> Tensor | None:
        """Those of several matrices, one after the other; None where the family has none."""
        found = [self._source(f"{name}.bias") for name in names]
        return torch.cat([bias.float() for bias in found if bias is not None]) if found[0] is not None else None

    def _weight(self, name: str) -> Tensor:
        return self._needed(f"{name}.weight")

    def _vector(self, name: str) -> Tensor:
        """Float32 before anything is multiplied into it."""
        return self._weight(name).float()

    def _needed(self, name: str) -> Tensor:
        found = self._source(name)
        if found is None:
            raise ModelError(f"The weights lack {name}.", remedy="Get the checkpoint again; it may be of another kind.")
        return found


def paired(weight: Tensor, size: int) -> Tensor:
    """A view of `weight` [heads * size, ...] as [heads, size / 2, 2, ...]: number i of a head beside i + size / 2."""
    return weight.view(-1, 2, size // 2, *weight.shape[1:]).transpose(1, 2)
