"""Configurations inside the families: rotary kinds, biases, tied heads, windows in some layers, odd sizes; refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.packed_linear import Form, best_layout
from draftproof.errors import UsageError
from tests.drafting.backends import reference
from tests.drafting.backends.plain_forward import NOISE, plain_logits, relative_error, row_tokens, rows, some_text
from tests.drafting.backends.weight_forms import rounded

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
MIXED = ["full_attention", "sliding_attention", "full_attention"]


def rotary(kind: str, **more: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **more}}


LLAMA3 = rotary("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = rotary("yarn", factor=4.0, original_max_position_embeddings=128)

VARIANTS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "three heads to a key": (LlamaForCausalLM, LlamaConfig, {}),
    "tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "untied": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": False, "head_dim": 24}),
    "one key head": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 1}),
    "a key head each": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 6}),
    "biases everywhere": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama3 rotary": (LlamaForCausalLM, LlamaConfig, LLAMA3),
    "linear rotary": (LlamaForCausalLM, LlamaConfig, rotary("linear", factor=3.0)),
    "yarn rotary": (LlamaForCausalLM, LlamaConfig, YARN),
    "a large epsilon": (LlamaForCausalLM, LlamaConfig, {"rms_norm_eps": 0.1}),
    "windows in one layer": (
        Qwen2ForCausalLM,
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 5, "layer_types": MIXED},
    ),
    "a window that Llama's code ignores": (LlamaForCausalLM, LlamaConfig, {"sliding_window": 4}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def plain(request: pytest.FixtureRequest) -> PreTrainedModel:
    kind, config, changes = VARIANTS[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = kind(config(**(SIZES | changes))).eval()
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases, which start as ones and zeros
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False)


@pytest.mark.parametrize("native", [True, False], ids=["native", "by operators"])
def test_variants_agree_with_their_plain_forward(native: bool, plain: PreTrainedModel) -> None:
    cached = _one_way(plain, native)
    reference.check_prefill_and_chain(cached, plain)
    reference.check_tree(cached, plain)
    reference.check_taps_and_head(cached, plain)
    reference.check_layers(cached, plain)
    reference.check_random_life(cached, plain, steps=25)


@pytest.mark.parametrize("native", [True, False], ids=["native", "by operators"])
def test_a_long_text_read_token_by_token_agrees_with_its_plain_forward(native: bool, plain: PreTrainedModel) -> None:
    """Through the growth of the cache, and windows and rotary scaling far beyond where they begin to matter."""
    cached = _one_way(plain, native)
    text = some_text(3, 300, cached.info.vocab_size)
    expected = plain_logits(plain, text)
    with rows(cached, text[:40]) as (row,):
        for at in range(40, 300):
            logits = cached.forward([row_tokens(row, [text[at]])]).logits
            assert logits is not None
            assert relative_error(logits[0], expected[at]) <= NOISE, f"token {at}"
            cached.commit(row, [0])


def _one_way(plain: PreTrainedModel, native: bool) -> LeanLlama:
    cached = LeanLlama.from_transformers(plain)
    assert cached._native is not None
    if not native:
        cached._native = None
    return cached


@pytest.mark.skipif(best_layout() != "native", reason="other layouts keep 32 bits")
@pytest.mark.parametrize("form", ["halves", "bytes", "nibbles"])
@pytest.mark.parametrize(
    ("kind", "config", "changes"),
    [
        (Qwen2ForCausalLM, Qwen2Config, {}),
        (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": False, "head_dim": 24}),
        (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True, "attention_bias": True}),
    ],
    ids=["biases", "head norms, untied", "tied"],
)
def test_weights_in_few_bits_agree_with_the_plain_forward(
    form: Form, kind: type, config: type, changes: dict[str, Any]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sizes = SIZES | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
        plain: PreTrainedModel = kind(config(**(sizes | changes))).eval().requires_grad_(False)
        for parameter in plain.parameters():
            if parameter.dim() == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.data.copy_(rounded(parameter, form))
    cached = LeanLlama.from_transformers(plain)
    assert {packed.form for packed in cached._packed()} == {form}
    reference.check_prefill_and_chain(cached, plain)
    reference.check_tree(cached, plain)
    reference.check_taps_and_head(cached, plain)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (GPT2Config(), "gpt2"),
        (GemmaConfig(), "gemma"),
        (LlamaConfig(**(SIZES | {"hidden_act": "gelu"})), "gelu"),
        (LlamaConfig(**(SIZES | rotary("dynamic", factor=2.0))), "dynamic"),
        (LlamaConfig(**(SIZES | {"hidden_size": 18})), "size 3"),
        (LlamaConfig(**SIZES, quantization_config={"quant_method": "gptq"}), "quantised"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_computed_exactly_is_refused_with_the_reason(config: Any, reason: str) -> None:
    assert reason in (LeanLlama.supports(config) or "")


@pytest.mark.parametrize("config", [LlamaConfig(), MistralConfig(), Qwen2Config(), Qwen3Config()])
def test_the_families_as_they_come_are_supported(config: Any) -> None:
    assert LeanLlama.supports(config) is None


def test_a_model_with_other_code_or_weights_inside_is_refused(tiny_llama: PreTrainedModel) -> None:
    class Own(LlamaForCausalLM):
        pass

    class Scaled(torch.nn.Linear):
        pass

    own = Own(copy.deepcopy(tiny_llama.config)).eval()
    half = copy.deepcopy(tiny_llama).to(torch.bfloat16)
    adapted, hooked = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    adapted.model.layers[0].mlp.up_proj = Scaled(64, 128, bias=False)
    hooked.model.norm.register_forward_hook(lambda module, args, output: 2 * output)
    for model, reason in ((own, "Own"), (half, "bfloat16"), (adapted, "Scaled"), (hooked, "hooks")):
        with pytest.raises(UsageError, match=f"{reason}.*transformers backend"):
            LeanLlama.from_transformers(model)
