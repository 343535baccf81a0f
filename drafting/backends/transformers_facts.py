"""What is read off a transformers model before it is used: whether it can be, its facts, and its digest."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_head import LogitHead
from draftproof.drafting.model import ModelInfo
from draftproof.errors import UsageError

_NEEDED_ARGUMENTS = ("input_ids", "attention_mask", "position_ids", "past_key_values")
_LAYER_TYPES = ("full_attention", "sliding_attention")
_LAYER_LISTS = ("layers", "h")
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
_LAYERED_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_NOT_WEIGHTS = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache")
_SAMPLES = 64


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of a model are."""

    decoder: nn.Module
    layers: nn.ModuleList
    head: LogitHead | None
    """None where the final norm goes by a name we do not know, or the head is no matrix."""
    layer_types: tuple[str, ...]
    windows: dict[str, int | None]
    """Layer type -> width of its sliding window; None sees everything."""
    eager: bool
    """Masks are added to attention scores, rather than boolean."""
    runs_layers: bool
    """Its layers can be called one by one."""
    chooses_logits: bool
    """Its forward can be asked for the logits of some places only."""


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a decoder-only model with plain attention. Raises UsageError, with the reason, for others."""
    config = model.config.get_text_config(decoder=True)
    _check_kind(model, config)
    decoder: nn.Module = cast(Any, model).get_decoder()
    count = int(config.num_hidden_layers)
    lists = [getattr(decoder, name, None) for name in _LAYER_LISTS]
    layers = next((each for each in lists if isinstance(each, nn.ModuleList) and len(each) == count), None)
    if layers is None:
        raise _refusal(model, f"its {count} layers were not found in {type(decoder).__name__}")
    norm = next((getattr(decoder, name) for name in _FINAL_NORMS if hasattr(decoder, name)), None)
    linear = _output_embeddings(model)
    head = None
    if isinstance(norm, nn.Module) and isinstance(linear, nn.Linear):
        head = LogitHead(norm, linear, *_scale_and_cap(config))
    types, windows = _layer_types(model, decoder, config, count)
    return Anatomy(
        decoder=decoder,
        layers=layers,
        head=head,
        layer_types=types,
        windows=windows,
        eager=config._attn_implementation == "eager",
        runs_layers=config.model_type in _LAYERED_TYPES and hasattr(decoder, "rotary_emb"),
        chooses_logits="logits_to_keep" in inspect.signature(model.forward).parameters,
    )


def _output_embeddings(model: PreTrainedModel) -> nn.Module | None:
    """The language-model head's matrix."""
    found: nn.Module | None = cast(Any, model).get_output_embeddings()
    return found


def _refusal(model: PreTrainedModel, reason: str, remedy: str | None = None) -> UsageError:
    return UsageError(f"{type(model).__name__} cannot be decoded in drafts: {reason}.", remedy=remedy)


def _scale_and_cap(config: Any) -> tuple[float, float | None]:
    """What Cohere and Granite multiply logits with, under two names, and where Gemma 2 caps them."""
    scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    return float(scale), getattr(config, "final_logit_softcapping", None)


def _check_kind(model: PreTrainedModel, config: Any) -> None:
    if model.config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        raise _refusal(model, "it has an encoder or cross-attention, and only decoders are supported")
    if getattr(model, "_is_stateful", False):
        raise _refusal(model, "it keeps a recurrent state, which cannot be taken back to an earlier token")
    takes = inspect.signature(model.forward).parameters
    missing = [name for name in _NEEDED_ARGUMENTS if name not in takes]
    if missing:
        raise _refusal(
            model, f"its forward takes no {' and no '.join(missing)}, so a token cannot be told what it sees"
        )
    if _output_embeddings(model) is None:
        raise _refusal(model, "it has no language-model head", "Load it with AutoModelForCausalLM.")
    if not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False):
        raise _refusal(model, "its attention is bidirectional")
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        raise _refusal(
            model,
            f"its attention implementation {attention!r} cannot honour the masks of token trees",
            "Load it with attn_implementation='sdpa' or 'eager'.",
        )
    if not getattr(config, "max_position_embeddings", None):
        raise _refusal(model, "its config does not say how long its context is (max_position_embeddings)")


def _layer_types(
    model: PreTrainedModel, decoder: nn.Module, config: Any, count: int
) -> tuple[tuple[str, ...], dict[str, int | None]]:
    """As transformers infers them for its own caches, but without windows that the model's code never makes."""
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    if types is None:
        if getattr(config, "attention_chunk_size", None) or "local" in (
            getattr(config, "attention_layers", None) or ()
        ):
            raise _refusal(model, "its attention is chunked or local, and only full and sliding windows are supported")
        types = ["full_attention" if window is None else "sliding_attention"] * count
    strange = sorted(set(types) - set(_LAYER_TYPES))
    if strange:
        raise _refusal(model, f"it has layers of the kind {strange[0]!r}, and only plain attention is supported")
    if not _makes_windows(decoder):
        types = ["full_attention"] * count
    if "sliding_attention" in types and not window:
        raise _refusal(model, "it has sliding-window layers and its config does not say how wide the window is")
    return tuple(types), {kind: window if kind == "sliding_attention" else None for kind in types}


def _makes_windows(decoder: nn.Module) -> bool:
    """Whether the code of the model knows sliding windows. Configs may name one that it does not: many Llamas do."""
    modules = (vars(sys.modules[each.__module__]) for each in type(decoder).__mro__)
    return any("create_sliding_window_causal_mask" in names for names in modules)


def model_info(model: PreTrainedModel, *, name: str | None, backend: str) -> ModelInfo:
    config = model.config.get_text_config(decoder=True)
    vocab_size = int(cast(Any, _output_embeddings(model)).weight.shape[0])
    return ModelInfo(
        name=name or model.name_or_path or type(model).__name__,
        architecture=type(model).__name__,
        vocab_size=vocab_size,
        hidden_size=int(config.hidden_size),
        n_layers=int(config.num_hidden_layers),
        context_length=_context_length(config),
        eos_ids=_eos_ids(model, vocab_size),
        device=model.device,
        dtype=model.dtype,
        backend=backend,
        digest=weights_digest(model),
    )


def _context_length(config: Any) -> int:
    """With LongRoPE, the length up to which frequencies stay: beyond it every row of a batch would change with one."""
    longest = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return longest
    original = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    return min(longest, int(original or longest))


def _eos_ids(model: PreTrainedModel, vocab_size: int) -> frozenset[int]:
    """The generation config's word counts first: chat models name their end-of-turn token there only."""
    given = getattr(model.generation_config, "eos_token_id", None)
    if given is None:
        given = model.config.get_text_config(decoder=True).eos_token_id
    each = given if isinstance(given, list | tuple) else [] if given is None else [given]
    return frozenset(int(token) for token in each if 0 <= token < vocab_size)


def weights_digest(model: PreTrainedModel) -> str:
    """`sha256:…` over the config and, of every tensor of the state, name, shape and 64 evenly spaced values.

    Cheap, and enough to tell checkpoints apart: training moves every tensor. It is no protection against somebody who
    edits single weights. Values are rounded to bfloat16 first, so that a checkpoint in bfloat16 has the same digest
    when it is loaded as float32. Where the model was loaded from, and by which version, does not enter.
    """
    return state_digest(model.config, sorted(model.state_dict().items()))


def state_digest(config: Any, state: Iterable[tuple[str, Tensor]]) -> str:
    """`weights_digest` of a model with this configuration and this state, in the order of names."""
    digest = hashlib.sha256()
    digest.update(json.dumps(_architecture(config.to_dict()), sort_keys=True, default=str).encode())
    for name, tensor in state:
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(_sampled(tensor))
    return f"sha256:{digest.hexdigest()}"


def _architecture(config: Any) -> Any:
    if isinstance(config, dict):
        return {str(key): _architecture(value) for key, value in config.items() if key not in _NOT_WEIGHTS}
    return config


def _sampled(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    if flat.is_meta or flat.numel() == 0:
        return b""
    at = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel()), dtype=torch.float64).long()
    values = flat[at.to(flat.device)].cpu()
    if values.is_floating_point():
        return values.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    return values.long().numpy().tobytes()
