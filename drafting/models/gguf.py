"""GGUF files: llama.cpp's format, read into what transformers knows, with weights dequantised to float32.

Our own reading of the format, because a model must come out whole: every key that shapes the computation is either
understood or refused, every tensor is used, and text is cut as llama.cpp cuts it. transformers' own reader passes
over keys that it does not know (rotary scaling, the way of cutting), and the model then answers, a little wrongly.
Read are dense models of the architectures `llama` (Mistral and SmolLM included), `qwen2` and `qwen3`. Names and
layouts follow the format's specification (ggml, docs/gguf.md) and llama.cpp's converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

from draftproof.drafting.models.gguf_config import ROTARY_DIVISORS, GgufConfig, gguf_config
from draftproof.drafting.models.gguf_file import GgufFile, failures_named, open_gguf
from draftproof.drafting.models.gguf_tokenizer import gguf_tokenizer
from draftproof.drafting.models.quiet import no_progress_bars

_SHARD_BYTES = 2**30
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OTHER_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def transformers_config(config: GgufConfig) -> Any:
    return cast(Any, CONFIG_MAPPING)[config.transformers["model_type"]].from_dict(config.transformers)


def gguf_model(file: GgufFile, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The transformers model of a file, on the CPU, in evaluation mode."""
    with failures_named(file.path):
        config = gguf_config(file)
        names = names_in_transformers(file, config)
        weights = {name: weight(file, config, each).to(dtype) for name, each in names.items()}
        written = transformers_config(config)
        with no_progress_bars():
            model, loading = cast(Any, MODEL_FOR_CAUSAL_LM_MAPPING)[type(written)].from_pretrained(
                None, config=written, state_dict=weights, dtype=dtype, output_loading_info=True
            )
        for missing in sorted(loading["missing_keys"]):
            raise file.refused(f"lacks the tensor for {missing}", "Get it again.")
        model.generation_config.eos_token_id = list(config.stop_ids) or None
        return cast(PreTrainedModel, model.eval().requires_grad_(False))


def convert_gguf(
    path: Path,
    folder: Path,
    *,
    stop_ids: Sequence[int] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the file as a transformers checkpoint in float32 into `folder`, which exists.

    Memory holds one shard of about a gibibyte at a time. `progress` is told how many of all weights are written.
    """
    with failures_named(path):
        file = open_gguf(path)
        config = gguf_config(file)
        tokenizer = gguf_tokenizer(file)
        names = names_in_transformers(file, config)
        total, done = file.parameters, 0
        shards = _shards(file, names)
        weight_map: dict[str, str] = {}
        for number, inside in enumerate(shards, 1):
            shard = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
            weights = {}
            for name in inside:
                weights[name] = weight(file, config, names[name])
                done += weights[name].numel()
                progress(done, total)
            save_file(weights, folder / shard, metadata={"format": "pt"})
            weight_map.update(dict.fromkeys(weights, shard))
        if len(shards) > 1:
            index = {"metadata": {"total_size": 4 * done}, "weight_map": weight_map}
            _write_json(folder / "model.safetensors.index.json", index)
        _write_json(folder / "config.json", config.transformers)
        ids = {key: config.transformers[key] for key in ("bos_token_id", "pad_token_id")}
        _write_json(folder / "generation_config.json", ids | {"eos_token_id": list(stop_ids or config.stop_ids)})
        cast(Any, tokenizer).save_pretrained(folder)


def names_in_transformers(file: GgufFile, config: GgufConfig) -> dict[str, str]:
    """Name in transformers to name in the file, of every tensor. Raises ModelError for one that has no place."""
    names = {}
    for name in file.readers:
        match = _LAYER_TENSOR.fullmatch(name)
        if name == ROTARY_DIVISORS:  # said by the configuration
            continue
        if name in _OTHER_TENSORS:
            names[_OTHER_TENSORS[name]] = name
        elif match and match[2] in _LAYER_TENSORS and int(match[1]) < config.layers:
            names[f"model.layers.{match[1]}.{_LAYER_TENSORS[match[2]]}.{match[3]}"] = name
        else:
            raise file.refused(f"has the tensor {name!r:.80}, which is not part of a dense {file.architecture} model")
    return names


def weight(file: GgufFile, config: GgufConfig, name: str) -> Tensor:
    """The tensor that the file calls `name`, float32, with its rows in transformers' order."""
    found = file.tensor(name)
    match = _LAYER_TENSOR.fullmatch(name)
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    if config.interleaved_rotary and match and match[2] in heads:
        return halves_from_pairs(found, heads[match[2]])
    return found


def halves_from_pairs(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys [heads * d, …], for a rotation of dimensions (i, i + d/2) instead of (2i, 2i + 1).

    llama.cpp rotates neighbours in the architecture `llama`, and its converter puts the rows of each head in that
    order; transformers rotates halves.
    """
    return weight.view(heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _shards(file: GgufFile, names: Mapping[str, str]) -> list[list[str]]:
    """Names in transformers by the safetensors file that they go into, in the file's order."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, inside in names.items():
        added = 4 * int(file.readers[inside].n_elements)
        if shards[-1] and size + added > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += added
    return shards


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
