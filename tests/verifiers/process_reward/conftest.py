"""Tiny random checkpoints of every layout, saved as their publishers save them, and a tokenizer that merges ".\\n"."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

PROBLEM = "Ben has 4 pens and buys 3 more. How many has he?"
STEPS = ("First we count: 4 pens.", "Then 4 + 3 = 7.", "The answer is 7.")
CONTEXT = 320
_WORDS = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # as Qwen2's, where .\n is one
)
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def prm_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin|>", "<|im_start|>", "<|im_end|>", "<extra_0>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "\n".join([PROBLEM, *STEPS])
    core.train_from_iterator([text] * 20 + ["so ки\n is ки\n a + b - c .\n"] * 40, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|begin|>", eos_token="<|im_end|>", pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>", "<extra_0>"], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.chat_template = _TEMPLATE
    return made


_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": CONTEXT, "initializer_range": 0.3,
}  # fmt: skip


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def written(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_of(kind: type, tokenizer: PreTrainedTokenizerFast, **more: Any) -> Any:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return kind(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **ids, **(_SIZES | more))


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def with_head(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Add tensors to the checkpoint's file, as a wrapper around the model would save them."""
    file = folder / "model.safetensors"
    save_file(load_file(file) | tensors, file, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return prm_tokenizer()


@pytest.fixture(scope="session")
def skywork(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A causal model and a value head in one file; its class is in code that comes with it, and must not run."""
    folder = tmp_path_factory.mktemp("skywork")
    written(folder, seeded(lambda: Qwen2ForCausalLM(config_of(Qwen2Config, tokenizer))), tokenizer)
    head = seeded(lambda: nn.Linear(32, 1), 1)
    with_head(folder, {f"v_head.summary.{name}": value.detach() for name, value in head.named_parameters()})
    edited(folder, lambda config: config.update(architectures=["Qwen2ForPrmModel"]))
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    written(folder, seeded(lambda: Qwen2ForCausalLM(config_of(Qwen2Config, tokenizer)), 2), tokenizer)
    first, second = seeded(lambda: (nn.Linear(32, 32), nn.Linear(32, 2)), 3)
    tensors = {f"score.{place}.{name}": value.detach() for place, layer in ((0, first), (2, second))
               for name, value in layer.named_parameters()}  # fmt: skip
    with_head(folder, tensors)

    def own_code(config: dict[str, Any]) -> None:
        config["architectures"] = ["Qwen2ForProcessRewardModel"]
        config["auto_map"] = {
            "AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig",
            "AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel",
        }

    edited(folder, own_code)
    for name in ("configuration_qwen2_rm", "modeling_qwen2_rm"):
        (folder / f"{name}.py").write_text("raise AssertionError('code of a checkpoint ran')\n")
    return folder


@pytest.fixture(scope="session")
def shepherd(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    model = seeded(lambda: LlamaForCausalLM(config_of(LlamaConfig, tokenizer)), 4)
    return written(tmp_path_factory.mktemp("shepherd"), model, tokenizer)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A token classifier as TRL trains them."""
    model = seeded(lambda: LlamaForTokenClassification(config_of(LlamaConfig, tokenizer, num_labels=2)), 5)
    return written(tmp_path_factory.mktemp("tokens"), model, tokenizer)


@pytest.fixture(scope="session")
def causal_sequences(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    model = seeded(lambda: LlamaForSequenceClassification(config_of(LlamaConfig, tokenizer, num_labels=1)), 6)
    return written(tmp_path_factory.mktemp("sequence"), model, tokenizer)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """An encoder: every token sees those behind it."""
    sizes = {name: value for name, value in _SIZES.items() if name != "num_key_value_heads"}
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_labels=2, **sizes)
    model = seeded(lambda: BertForSequenceClassification(config), 7)
    return written(tmp_path_factory.mktemp("bert"), model, tokenizer)
