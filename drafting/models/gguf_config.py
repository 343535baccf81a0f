"""The configuration that a GGUF file describes, as transformers writes it.

A key of the architecture that is not understood is an error: it may change what the model computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from draftproof.drafting.models.gguf_file import GgufFile
from draftproof.errors import ModelError

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
ROTARY_DIVISORS = "rope_freqs.weight"
"""The tensor that stands for Llama 3's rotary scaling: a divisor for each frequency."""
_STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of Llama 3.1, 3.2 and 3.3; a file does not have them, only what follows from them."""


@dataclass(frozen=True)
class GgufConfig:
    """What is needed to read a file's tensors and to run the model."""

    transformers: dict[str, Any]
    """config.json."""
    interleaved_rotary: bool
    """Rows of queries and keys are in llama.cpp's order."""
    stop_ids: tuple[int, ...]

    @property
    def layers(self) -> int:
        return int(self.transformers["num_hidden_layers"])

    @property
    def heads(self) -> int:
        return int(self.transformers["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        return int(self.transformers["num_key_value_heads"])


class _Keys:
    """The architecture's keys, each taken once; what nobody took is left over."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._prefix = f"{file.architecture}."
        self._left = {
            key.removeprefix(self._prefix): value
            for key, value in file.metadata.items()
            if key.startswith(self._prefix)
        }

    def number(self, key: str, default: float | None = None) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._file.refused(f"has {value!r:.80} as {self._prefix}{key}, where a number was expected")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if value != int(value) or value < 1:
            raise self._file.refused(f"has {value!r:.80} as {self._prefix}{key}, where a count was expected")
        return int(value)

    def take(self, key: str, default: Any = None) -> Any:
        return self._left.pop(key, default)

    def left(self) -> list[str]:
        return sorted(self._left)


def gguf_config(file: GgufFile) -> GgufConfig:
    """Raises ModelError for what is not a dense model of an architecture that is read here."""
    architecture = file.architecture
    if architecture not in ARCHITECTURES:
        raise file.refused(
            f"holds a model of architecture {architecture!r:.80}; {', '.join(ARCHITECTURES)} can be read from GGUF"
        )
    if "token_embd.weight" not in file.readers:
        raise file.refused("has no tensor token_embd.weight, so it is no whole model")
    keys = _Keys(file)
    vocab, hidden = file.shape("token_embd.weight")
    heads = keys.count("attention.head_count")
    head_dim = keys.count("attention.key_length", hidden // heads)
    context = keys.count("context_length")
    window = keys.take("attention.sliding_window")
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[architecture]],
        "model_type": architecture,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": keys.count("feed_forward_length"),
        "num_hidden_layers": keys.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rotary(file, keys, head_dim),
        "tie_word_embeddings": "output.weight" not in file.readers,
        "dtype": "float32",
    }
    if architecture == "llama" and isinstance(window, int) and 0 < window < context:
        config |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": window}
    elif architecture == "llama":
        config |= {
            "attention_bias": "blk.0.attn_q.bias" in file.readers,
            "mlp_bias": "blk.0.ffn_up.bias" in file.readers,
        }
    elif window:
        raise file.refused("has a sliding window, which is not read for its architecture")

    same = {
        "embedding_length": hidden,
        "vocab_size": vocab,
        "rope.dimension_count": head_dim,
        "attention.value_length": head_dim,
    }
    for key, expected in same.items():
        found = keys.take(key, expected)
        if found != expected:
            raise file.refused(f"has {found!r:.80} as {architecture}.{key}, where only {expected} is read")
    if keys.left():
        raise file.refused(f"says {architecture}.{keys.left()[0]}, which is not understood here")

    special = {key: _token_id(file, key) for key in ("bos_token_id", "eos_token_id", "padding_token_id", *_STOP_KEYS)}
    config |= {
        "bos_token_id": special["bos_token_id"],
        "eos_token_id": special["eos_token_id"],
        "pad_token_id": special["padding_token_id"],
    }
    stop_ids = dict.fromkeys(found for key in _STOP_KEYS if (found := special[key]) is not None)
    return GgufConfig(config, interleaved_rotary=architecture == "llama", stop_ids=tuple(stop_ids))


def _rotary(file: GgufFile, keys: _Keys, head_dim: int) -> dict[str, Any]:
    base = keys.number("rope.freq_base", 10000.0)
    kind = keys.take("rope.scaling.type", "none")
    keys.take("rope.scaling.finetuned")
    rotary: dict[str, Any] = {"rope_theta": base, "rope_type": "default"}
    if ROTARY_DIVISORS in file.readers:
        return rotary | _llama3(file, base, head_dim)
    if kind == "none":
        return rotary
    if kind not in ("linear", "yarn"):
        raise file.refused(f"has rotary scaling of type {kind!r:.80}; none, linear and yarn are read")
    rotary |= {"rope_type": kind, "factor": keys.number("rope.scaling.factor")}
    if kind == "yarn":
        rotary["original_max_position_embeddings"] = keys.count("rope.scaling.original_context_length")
        for name in ("beta_fast", "beta_slow"):
            found = keys.take(f"rope.scaling.yarn_{name}")
            if found is not None:
                rotary[name] = found
    return rotary


def _llama3(file: GgufFile, base: float, head_dim: int) -> dict[str, Any]:
    """The parameters that the file's divisors follow from, as transformers' `llama3` scaling computes them."""
    divisors = file.tensor(ROTARY_DIVISORS).double()
    factor = float(divisors.max())
    if divisors.shape == (head_dim // 2,) and factor >= 1:
        wavelengths = 2 * math.pi * base ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
        smooth = (_LLAMA3["original_max_position_embeddings"] / wavelengths - low) / (high - low)
        smooth = smooth.clamp(0, 1)
        expected = 1 / ((1 - smooth) / factor + smooth)
        if torch.allclose(divisors, expected, rtol=1e-4):
            return {"rope_type": "llama3", "factor": round(factor, 3), **_LLAMA3}
    raise file.refused("divides its rotary frequencies in another way than Llama 3's")


def _token_id(file: GgufFile, key: str) -> int | None:
    found = file.metadata.get(f"tokenizer.ggml.{key}")
    if found is not None and (not isinstance(found, int) or found < 0):
        raise ModelError(f"{file.path} has {found!r:.80} as tokenizer.ggml.{key}, where an id was expected.")
    return found
