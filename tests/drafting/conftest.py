"""Tiny random models: two layers, 64 wide, 97 tokens, float32, always the same weights for the same name.

Weights are drawn ten times wider than usual, so that logits differ by whole units, as a trained model's do, and a
token that attends to the wrong place shows. Tests must not change them: they are built once a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CONTEXT = 512
"""Longest sequence of every tiny model."""

_COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "initializer_range": 0.2,
}
_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}
_GROUPED: dict[str, Any] = _COMMON | _SIZES | {"num_key_value_heads": 2}
_GEMMA: dict[str, Any] = _GROUPED | {
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention"],
}


def _built(cls: Callable[[Any], PreTrainedModel], config: Any, seed: int = 0) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cls(config).eval()
        # Norms and biases start as ones and zeros, under which dropping or swapping them would not show.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_llama() -> PreTrainedModel:
    return _built(LlamaForCausalLM, LlamaConfig(**_GROUPED))


@pytest.fixture(scope="session")
def tiny_draft_llama() -> PreTrainedModel:
    """A one-layer Llama with the vocabulary of `tiny_llama` and other weights: a draft model that often disagrees."""
    return _built(LlamaForCausalLM, LlamaConfig(**(_GROUPED | {"num_hidden_layers": 1})), seed=1)


@pytest.fixture(scope="session")
def tiny_gpt2() -> PreTrainedModel:
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
    return _built(GPT2LMHeadModel, GPT2Config(**_COMMON, **sizes))


@pytest.fixture(scope="session")
def tiny_gpt_neox() -> PreTrainedModel:
    return _built(GPTNeoXForCausalLM, GPTNeoXConfig(**_COMMON, **_SIZES, tie_word_embeddings=False))


@pytest.fixture(scope="session")
def tiny_phi() -> PreTrainedModel:
    """Its head has a bias, and its layers run attention and feed-forward side by side."""
    return _built(PhiForCausalLM, PhiConfig(**_GROUPED, tie_word_embeddings=False))


@pytest.fixture(scope="session")
def tiny_qwen2() -> PreTrainedModel:
    """Biases on queries, keys and values."""
    return _built(Qwen2ForCausalLM, Qwen2Config(**_GROUPED))


@pytest.fixture(scope="session")
def tiny_qwen3() -> PreTrainedModel:
    """Norms on queries and keys, heads wider than hidden size / heads, tied embeddings."""
    return _built(Qwen3ForCausalLM, Qwen3Config(**_GROUPED, head_dim=32, tie_word_embeddings=True))


@pytest.fixture(scope="session")
def tiny_mistral() -> PreTrainedModel:
    return _built(MistralForCausalLM, MistralConfig(**_GROUPED, sliding_window=None))


@pytest.fixture(scope="session")
def tiny_mistral_window() -> PreTrainedModel:
    """Every layer sees the last 6 positions only."""
    return _built(MistralForCausalLM, MistralConfig(**_GROUPED, sliding_window=6))


@pytest.fixture(scope="session")
def tiny_gemma2() -> PreTrainedModel:
    """A sliding window of 5 in the first layer; attention scores and logits are soft-capped; eager attention."""
    caps = {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}
    return _built(Gemma2ForCausalLM, Gemma2Config(**_GEMMA, **caps, attn_implementation="eager"))


@pytest.fixture(scope="session")
def tiny_gemma3() -> PreTrainedModel:
    """A sliding window of 5 and its own rotary base in the first layer."""
    return _built(Gemma3ForCausalLM, Gemma3TextConfig(**_GEMMA))
