"""A model's weights, rearranged so that a layer takes few operators.

- Queries, keys and values come from one multiplication, gate and up projection from another.
- An RMS norm divides by the root of the mean square and multiplies with a weight. The weight is multiplied into the
  matrix that follows, with the square root of the width, so that what remains is a division by the vector's length.
- The scale of attention is multiplied into the queries' weights.
- Rotary embedding turns pairs of numbers. Where transformers pairs number i of a head with i + size / 2, rows are
  reordered so that pairs lie side by side, as a complex number does; the product of query and key does not change.

Each matrix is packed as soon as it is made, so that at most one layer exists twice.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """[V, H] float32, as it is in the model: rows are looked up in it, which no packed layout allows."""
    norm: Tensor
    """[H] float32: weight of the final norm times the root of H."""
    head: PackedLinear
    """The final norm's weight is in it."""


def build_layer(index: int, shape: LeanShape, source: Source) -> LeanLayer:
    def weight(name: str) -> Tensor:
        return _needed(source, f"model.layers.{index}.{name}.weight")

    def bias(name: str) -> Tensor | None:
        found = source(f"model.layers.{index}.{name}.bias")
        return None if found is None else found.float()

    size, scale = shape.head_size, shape.head_size**-0.5
    width = shape.hidden_size**0.5
    query_scale = 1.0 if shape.head_norms else scale
    qkv = torch.cat(
        [
            paired(weight("self_attn.q_proj"), size).mul_(query_scale),
            paired(weight("self_attn.k_proj"), size),
            weight("self_attn.v_proj"),
        ]
    )
    biases = [bias(f"self_attn.{name}_proj") for name in "qkv"]
    queries, keys, values = biases
    qkv_bias = None
    if queries is not None and keys is not None and values is not None:
        qkv_bias = torch.cat([paired(queries, size).mul_(query_scale), paired(keys, size), values])
    head_norms = None
    if shape.head_norms:
        of_queries = paired(weight("self_attn.q_norm"), size).expand(shape.heads, -1) * (scale * size**0.5)
        of_keys = paired(weight("self_attn.k_norm"), size).expand(shape.kv_heads, -1) * size**0.5
        head_norms = torch.cat([of_queries, of_keys])
    packed_qkv = PackedLinear(qkv.mul_(weight("input_layernorm") * width), qkv_bias)
    del qkv
    gate_up = torch.cat([weight("mlp.gate_proj"), weight("mlp.up_proj")])
    gate, up = bias("mlp.gate_proj"), bias("mlp.up_proj")
    return LeanLayer(
        queries_keys_values=packed_qkv,
        head_norms=head_norms,
        out=PackedLinear(weight("self_attn.o_proj"), bias("self_attn.o_proj")),
        gate_up=PackedLinear(
            gate_up.mul_(weight("post_attention_layernorm") * width),
            None if gate is None or up is None else torch.cat([gate, up]),
        ),
        down=PackedLinear(weight("mlp.down_proj"), bias("mlp.down_proj")),
    )


def build_ends(shape: LeanShape, source: Source) -> LeanEnds:
    # A copy, so that neither a user's model nor a mapped file stays alive for it.
    embeddings = _needed(source, "model.embed_tokens.weight").clone(memory_format=torch.contiguous_format)
    norm = _needed(source, "model.norm.weight") * shape.hidden_size**0.5
    matrix = embeddings if shape.tied else _needed(source, "lm_head.weight")
    return LeanEnds(embeddings=embeddings, norm=norm, head=PackedLinear(matrix * norm))


def paired(weight: Tensor, size: int) -> Tensor:
    """A copy of `weight` [heads * size, ...] with rows i and i + size / 2 of each head side by side."""
    halves = weight.reshape(-1, 2, size // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape).clone()


def _needed(source: Source, name: str) -> Tensor:
    found = source(name)
    if found is None:
        raise ModelError(f"The weights lack {name}.", remedy="Get the checkpoint again; it may be of another kind.")
    return found.float()
