"""Which models the lean forward pass can run, and the numbers that it needs of their configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_ROTARY = ("default", "linear", "llama3", "yarn")
"""Kinds whose frequencies are fixed. Those of `dynamic` and `longrope` depend on how long the text has become."""
_LIBRARIES = ("torch", "transformers")
_LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True)
class LeanShape:
    """What layers look like, and what is computed in them apart from the weights."""

    hidden_size: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    """Of all RMS norms."""
    head_norms: bool
    """Queries and keys are normalised head by head (Qwen 3)."""
    tied: bool
    """The head's matrix is the embedding table."""
    windows: tuple[int | None, ...]
    """Of each layer, how many positions it sees, itself included; None is all."""
    frequencies: Tensor
    """[head_size / 2] float32: rotary angle per position."""
    rotary_scale: float
    """Length of the rotary factors; other than 1 for YaRN."""

    @property
    def n_layers(self) -> int:
        return len(self.windows)

    @property
    def group(self) -> int:
        """Query heads to a key and value head."""
        return self.heads // self.kv_heads


def why_not(config: Any) -> str | None:
    """Why models of this transformers configuration cannot be run; None when they can."""
    kind = getattr(config, "model_type", None)
    if kind not in _FAMILIES:
        return f"the lean backend runs {', '.join(_FAMILIES)}, not {kind}"
    if getattr(config, "quantization_config", None) is not None:
        return "its weights are quantised, and the lean backend takes plain ones"
    if config.hidden_act not in ("silu", "swish"):
        return f"its activation is {config.hidden_act}, and the lean backend has silu only"
    size = _head_size(config)
    if size % 2 or config.num_attention_heads % config.num_key_value_heads:
        return f"heads of size {size}, {config.num_attention_heads} over {config.num_key_value_heads}, do not divide"
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") not in _ROTARY:
        return f"its rotary embedding is of type {rotary.get('rope_type')}, not one of {', '.join(_ROTARY)}"
    if (rotary.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0) != 1.0:
        return "its rotary embedding turns only a part of each head"
    strange = sorted(set(getattr(config, "layer_types", None) or ()) - set(_LAYER_TYPES))
    return f"it has layers of the kind {strange[0]!r}" if strange else None


def why_not_model(model: PreTrainedModel) -> str | None:
    """Why this very model cannot be run: its configuration, its place, or modules that are not its family's own."""
    reason = why_not(model.config)
    if reason is not None:
        return reason
    if type(model).__module__ != f"transformers.models.{model.config.model_type}.modeling_{model.config.model_type}":
        return f"{type(model).__name__} is a class of its own, whose code may compute something else"
    strange = next((each for each in model.modules() if type(each).__module__.split(".")[0] not in _LIBRARIES), None)
    if strange is not None:
        return f"it has a {type(strange).__name__} inside, which may compute something else"
    if any(_is_altered(each) for each in model.modules()):
        return "it has hooks or a forward of its own inside, which may change what it computes"
    other = next((each for each in model.parameters() if each.dtype is not torch.float32), None)
    if other is not None:
        return f"the lean backend computes in float32, and it has weights in {str(other.dtype).removeprefix('torch.')}"
    away = next((each for each in model.parameters() if each.device.type != "cpu"), None)
    return None if away is None else f"the lean backend runs on the CPU, and it has weights on {away.device}"


def _is_altered(module: nn.Module) -> bool:
    """Hooks of transformers itself only record states; it leaves them on modules that were once asked for any."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    makers = (getattr(getattr(hook, "func", hook), "__module__", None) or "" for hook in hooks)
    return "forward" in vars(module) or any(maker.split(".")[0] not in _LIBRARIES for maker in makers)


def lean_shape(config: Any) -> LeanShape:
    """Of a configuration that `why_not` has nothing against."""
    rotary = LlamaRotaryEmbedding(config)  # all four families share its code
    return LeanShape(
        hidden_size=int(config.hidden_size),
        heads=int(config.num_attention_heads),
        kv_heads=int(config.num_key_value_heads),
        head_size=_head_size(config),
        epsilon=float(config.rms_norm_eps),
        head_norms=config.model_type == "qwen3",
        tied=bool(config.tie_word_embeddings),
        windows=_windows(config),
        frequencies=rotary.inv_freq.detach().float().cpu().clone(),
        rotary_scale=float(rotary.attention_scaling),
    )


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _windows(config: Any) -> tuple[int | None, ...]:
    """As each family's own code has it: Llama's ignores the setting, Mistral's knows no layer types."""
    window = getattr(config, "sliding_window", None)
    count = int(config.num_hidden_layers)
    if config.model_type == "llama":
        return (None,) * count
    if config.model_type == "mistral":
        return (window,) * count
    return tuple(window if kind == "sliding_attention" else None for kind in config.layer_types)
