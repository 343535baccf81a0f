"""What is read off a model, what is refused, and that the user's objects stay as they were."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    CTRLConfig,
    GPTNeoConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from draftproof.drafting.backends.transformers_facts import weights_digest
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import CachedModel, Wanted
from draftproof.errors import UsageError
from tests.drafting.backends import reference
from tests.drafting.backends.plain_forward import row_tokens


def fingerprint(model: PreTrainedModel) -> str:
    """Everything of a model that a user could notice."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tensor.requires_grad} {tensor._version}".encode())
        digest.update(tensor.float().numpy().tobytes())
    config = model.config.to_dict() | {"attention": model.config._attn_implementation}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(json.dumps(model.generation_config.to_dict(), sort_keys=True, default=str).encode())
    for name, module in model.named_modules():
        hooks = (len(module._forward_hooks), len(module._forward_pre_hooks))
        state = sorted(set(vars(module)) - {"_forward_hooks"})
        digest.update(f"{name} {type(module).__qualname__} {module.training} {hooks} {state}".encode())
    return digest.hexdigest()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2"])
def test_the_users_model_is_never_changed(family: str, request: pytest.FixtureRequest) -> None:
    model = copy.deepcopy(request.getfixturevalue(f"tiny_{family}"))
    before = fingerprint(model)
    cached = TransformersModel(model)
    with reference.rows(cached, [1, 2, 3], [4]) as (row, other):
        batch = [row_tokens(row, [5, 6, 7], [-1, 0, 0]), row_tokens(other, [8])]
        hidden = cached.forward(batch, Wanted(taps=(0, 1, 2))).hidden
        cached.head(hidden[2], torch.tensor([1, 2]))
        cached.embed(torch.tensor([1, 2]))
        if cached.supports_layers:
            cached.run_layers(batch, 0, 1, taps=(0,))
        with pytest.raises(UsageError):
            cached.forward([row_tokens(row, [97])])
        cached.commit(row, [])
        cached.truncate(row, 1)
    assert fingerprint(model) == before
    model.config.use_cache = not model.config.use_cache
    assert fingerprint(model) != before, "the fingerprint sees a change"


def test_facts_are_those_of_the_config(tiny_llama: PreTrainedModel) -> None:
    cached = TransformersModel(tiny_llama, name="tiny")
    assert isinstance(cached, CachedModel)
    info = cached.info
    assert (info.name, info.architecture, info.backend) == ("tiny", "LlamaForCausalLM", "transformers")
    assert (info.vocab_size, info.hidden_size, info.n_layers, info.context_length) == (97, 64, 2, 512)
    assert (info.eos_ids, info.device, info.dtype) == (frozenset({2}), torch.device("cpu"), torch.float32)
    assert TransformersModel(tiny_llama).info.name == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("in_generation", "in_config", "expected"),
    [
        pytest.param([3, 5], 2, {3, 5}, id="a-list-of-the-generation-config"),
        pytest.param(None, [2, 4], {2, 4}, id="a-list-of-the-config"),
        pytest.param(None, None, set(), id="none"),
        pytest.param([3, 500], 2, {3}, id="an-id-out-of-range"),
    ],
)
def test_end_tokens_are_the_generation_configs_or_else_the_configs(
    tiny_draft_llama: PreTrainedModel, in_generation: Any, in_config: Any, expected: set[int]
) -> None:
    model = copy.deepcopy(tiny_draft_llama)
    model.generation_config.eos_token_id = in_generation
    model.config.eos_token_id = in_config
    assert TransformersModel(model).info.eos_ids == expected


def test_the_digest_tells_weights_and_architectures_apart_and_nothing_else(
    tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel
) -> None:
    same = copy.deepcopy(tiny_llama)
    same.config.use_cache = False
    same.config._name_or_path = "elsewhere"
    assert weights_digest(same) == weights_digest(tiny_llama)
    assert weights_digest(tiny_draft_llama) != weights_digest(tiny_llama)
    trained = copy.deepcopy(tiny_llama)
    trained.get_decoder().layers[1].mlp.up_proj.weight.data += 0.01
    assert weights_digest(trained) != weights_digest(tiny_llama)
    other_angles = copy.deepcopy(tiny_llama)
    other_angles.config.rope_parameters = {"rope_type": "default", "rope_theta": 5000.0}
    assert weights_digest(other_angles) != weights_digest(tiny_llama)


def test_a_checkpoint_in_bfloat16_has_one_digest_in_both_dtypes(tiny_llama: PreTrainedModel) -> None:
    half = copy.deepcopy(tiny_llama).to(torch.bfloat16)
    assert weights_digest(half) == weights_digest(copy.deepcopy(half).float())


def test_half_precision_decodes_and_gives_float32_logits_on_the_cpu(tiny_llama: PreTrainedModel) -> None:
    half = copy.deepcopy(tiny_llama).to(torch.bfloat16)
    cached = TransformersModel(half)
    with reference.rows(cached, [1, 2, 3]) as (row,):
        result = cached.forward([row_tokens(row, [4, 5], [-1, -1])], Wanted(taps=(2,)))
    assert result.logits is not None
    assert (result.logits.dtype, result.hidden[2].dtype) == (torch.float32, torch.bfloat16)
    expected = reference.plain_logits(half, [1, 2, 3, 5])[-1:].float()
    # bfloat16 has eight bits: a few of them are lost on the way through two layers
    assert reference.relative_error(result.logits[1:], expected) < 0.03


def test_only_the_layers_of_known_families_are_run_one_by_one(tiny_gpt2: PreTrainedModel) -> None:
    cached = TransformersModel(tiny_gpt2)
    assert not cached.supports_layers
    cached.add_row(0)
    with pytest.raises(UsageError, match=r"GPT2LMHeadModel cannot be run one by one.*Llama"):
        cached.run_layers([row_tokens(0, [1])], 0, 1)


@pytest.mark.parametrize(
    ("first", "last", "hidden", "message"),
    [
        pytest.param(0, 3, None, "Layers 0 to 3", id="too-many"),
        pytest.param(1, 1, None, "Layers 1 to 1", id="none"),
        pytest.param(1, 2, None, "without its input", id="no-input"),
        pytest.param(0, 1, torch.zeros(2, 64), r"\(2, 64\) came; \[1, 64\] was expected", id="shape"),
    ],
)
def test_layers_are_checked_before_they_run(
    tiny_llama: PreTrainedModel, first: int, last: int, hidden: torch.Tensor | None, message: str
) -> None:
    cached = TransformersModel(tiny_llama)
    cached.add_row(0)
    with pytest.raises(UsageError, match=message):
        cached.run_layers([row_tokens(0, [1])], first, last, hidden)


def test_a_model_in_training_mode_is_refused(tiny_llama: PreTrainedModel) -> None:
    model = copy.deepcopy(tiny_llama)
    cached = TransformersModel(model)
    cached.add_row(0)
    model.train()
    with pytest.raises(UsageError, match=r"training mode.*eval\(\)"):
        cached.forward([row_tokens(0, [1])])
    with pytest.raises(UsageError, match="training mode"):
        TransformersModel(model)


def small(config: type[Any], **more: Any) -> Any:
    return config(vocab_size=97, hidden_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, **more)


@pytest.mark.parametrize(
    ("config", "attention", "message"),
    [
        pytest.param(small(MambaConfig, num_hidden_layers=2), None, "recurrent state", id="mamba"),
        pytest.param(small(BloomConfig, n_layer=2, n_head=4), None, "takes no position_ids", id="no-positions"),
        pytest.param(
            small(GPTNeoConfig, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]),
            None,
            "chunked or local",
            id="local-attention",
        ),
        pytest.param(
            small(LlamaConfig, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64),
            "flex_attention",
            "'flex_attention' cannot honour.*attn_implementation='sdpa'",
            id="attention-without-masks",
        ),
    ],
)
def test_models_that_cannot_be_decoded_in_drafts_are_refused_with_the_reason(
    config: Any, attention: str | None, message: str
) -> None:
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with pytest.raises(UsageError, match=message):
        TransformersModel(model)


def test_an_encoder_decoder_is_refused() -> None:
    config = small(T5Config, d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=4)
    with pytest.raises(UsageError, match="encoder or cross-attention"):
        TransformersModel(T5ForConditionalGeneration(config).eval())


SIZES: dict[str, Any] = {
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(small(CohereConfig, **SIZES, logit_scale=0.3), id="multiplied"),
        pytest.param(small(GraniteConfig, **SIZES, logits_scaling=3.0), id="divided"),
    ],
)
def test_heads_that_scale_logits_are_known(config: Any) -> None:
    model = AutoModelForCausalLM.from_config(config).eval()
    cached = TransformersModel(model)
    cached.add_row(0)
    result = cached.forward([row_tokens(0, [5, 6])], Wanted(taps=(2,)))
    assert result.logits is not None
    reference.assert_close(cached.head(result.hidden[2]), result.logits, "head")


def test_a_head_that_is_not_known_is_refused_and_the_rest_works() -> None:
    """CTRL's final norm goes by another name than anybody else's."""
    config = small(CTRLConfig, n_positions=64, dff=64, n_layer=2, n_head=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    cached = TransformersModel(model)
    reference.check_tree(cached, model)
    with pytest.raises(UsageError, match="makes logits in a way of its own"):
        cached.head(torch.zeros(1, 64))


def test_a_head_that_disagrees_with_the_models_logits_is_not_used(tiny_gemma2: PreTrainedModel) -> None:
    """As it would be in a family that does something to logits which we do not know of."""
    model = copy.deepcopy(tiny_gemma2)
    model.register_forward_hook(halve_logits)
    with pytest.raises(UsageError, match="makes logits in a way of its own"):
        TransformersModel(model).head(torch.zeros(1, 64))


def halve_logits(module: torch.nn.Module, args: object, output: Any) -> Any:
    output.logits = output.logits / 2
    return output


def test_the_context_ends_where_longrope_would_change_all_rows_at_once() -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 32,
    }
    config = small(Phi3Config, **SIZES, rope_parameters=rope, original_max_position_embeddings=32)
    model = AutoModelForCausalLM.from_config(config).eval()
    cached = TransformersModel(model)
    assert cached.info.context_length == 32
    reference.check_whole_context(cached, model)


def test_a_window_in_the_config_of_a_model_that_knows_none_is_ignored(tiny_llama: PreTrainedModel) -> None:
    """Fine-tunes carry `sliding_window` over from other families; Llama's code never looks at it."""
    config = copy.deepcopy(tiny_llama.config)
    config.sliding_window = 3
    model = LlamaForCausalLM(config).eval()
    reference.check_tree(TransformersModel(model), model)


def test_layers_with_and_without_a_window_may_be_mixed_in_a_family_whose_layers_run_alone() -> None:
    config = small(
        Qwen2Config,
        **(SIZES | {"num_hidden_layers": 3}),
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config).eval()
    assert set(config.layer_types) == {"full_attention", "sliding_attention"}
    cached = TransformersModel(model)
    reference.check_layers(cached, model)
    reference.check_early_exit(cached, model)
    reference.check_random_life(cached, model, seed=1)
