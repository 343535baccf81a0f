"""Tiny random models that write texts with separators, and whose tokenizers make it hard to tell steps apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.byte_vocabulary import byte_characters
from draftproof.drafting.models.load import LoadedModel, load_model

MERGES = [("Ċ", "Ċ"), (".", "ĊĊ"), ("ĊĊ", "Ċ"), ("ĊĊ", "S"), ("a", "b"), ("ab", "c"), ("Ġ", "a"), ("1", "2")]
"""Tokens that hold a separator and more: ".\\n\\n", "\\n\\n\\n", "\\n\\nS"."""
CHAT = (
    "{% for m in messages %}<|message|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|message|>assistant\n{% endif %}"
)


def merging_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    vocab = dict(byte_characters())
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", additional_special_tokens=["<|message|>"]
    )
    tokenizer.chat_template = chat_template
    return tokenizer


LOUD = ("ĊĊ", ".ĊĊ", "ĊĊĊ", "Ċ", "S", "abc", "Ġa", "12", ".", "b", "2")
OVERRUNNING = "ĊĊS"


def written_to(
    folder: Path,
    *,
    seed: int = 4,
    loud: tuple[str, ...] = LOUD,
    chat_template: str | None = None,
    context: int = 256,
) -> Path:
    """A checkpoint whose text is full of separators, because rows of its head that write them are long; and is text,
    because rows that write parts of characters are short. Of the tokens in MERGES, those not `loud` are never said."""
    tokenizer = merging_tokenizer(chat_template)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for text, token in tokenizer.get_vocab().items():
            merged_or_half = len(text) > 1 or byte_characters()[text] >= 128
            model.lm_head.weight[token] *= 2.5 if text in loud else 0.01 if merged_or_half else 1.0
        model.lm_head.weight[tokenizer.eos_token_id] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def stepper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_to(tmp_path_factory.mktemp("stepper"))


@pytest.fixture(scope="session")
def stepper(stepper_folder: Path) -> LoadedModel:
    """On the lean backend, without a chat template."""
    return load_model(stepper_folder, backend="lean")


@pytest.fixture(scope="session")
def other_stepper(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Another model with the same tokenizer."""
    return load_model(written_to(tmp_path_factory.mktemp("other"), seed=2), backend="lean")


@pytest.fixture(scope="session")
def overrunner(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Often writes a token that holds the separator and the beginning of what follows."""
    loud = (*LOUD, OVERRUNNING)
    return load_model(written_to(tmp_path_factory.mktemp("overrunner"), loud=loud), backend="lean")


@pytest.fixture(scope="session")
def chatter(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """With a chat template, on the reference backend."""
    return load_model(written_to(tmp_path_factory.mktemp("chatter"), chat_template=CHAT), backend="transformers")


@pytest.fixture
def fresh(stepper_folder: Path) -> Callable[[], LoadedModel]:
    """The model anew, with a cache of its own."""
    return lambda: load_model(stepper_folder, backend="lean")


@pytest.fixture
def local(stepper: LoadedModel) -> LocalLanguageModel:
    return LocalLanguageModel(stepper)
