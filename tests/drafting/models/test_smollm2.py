"""The default text model as it is fetched: its vocabulary, chat format and ids.

The ids were taken once from llama.cpp's own tokenizer over the GGUF file, which is independent of ours. On 3,334
texts, real prompts and random ones, the two agreed on every id; the tokenizer that transformers makes of the file
differed on 1,741, those with white space before a digit.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from draftproof.drafting.model import RowTokens
from draftproof.drafting.models.load import LoadedModel, load_model

ABSENT_BYTES = [0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)]
"""Of six control characters, of characters from U+40000 to U+BFFFF, and what no UTF-8 text has."""


@pytest.fixture(scope="module")
def loaded(smollm2: Path) -> LoadedModel:
    return load_model(smollm2)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        pytest.param("Hello  world 3.14", [19556, 216, 905, 216, 35, 30, 33, 36], id="words-and-a-number"),
        pytest.param("12345", [33, 34, 35, 36, 37], id="digits-one-by-one"),
        pytest.param("\n\n1. a", [1116, 33, 30, 253], id="lines-before-a-digit"),
        pytest.param("x =  5\n    12", [104, 446, 256, 37, 2367, 33, 34], id="spaces-before-a-digit"),
    ],
)
def test_text_has_the_ids_of_llama_cpp(text: str, ids: list[int], loaded: LoadedModel) -> None:
    assert loaded.tokenizer.encode(text) == ids
    assert loaded.vocabulary.encode(text) == ids
    assert loaded.vocabulary.decode(ids) == text


def test_a_chat_has_the_ids_of_llama_cpp_and_the_default_system_prompt(loaded: LoadedModel) -> None:
    messages = [{"role": "user", "content": "Hi 12"}]
    text = loaded.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi 12<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182]
    ids += [2, 198, 1, 4093, 198, 26843, 216, 33, 34, 2, 198, 1, 520, 9531, 198]
    assert loaded.tokenizer.encode(text) == ids


def test_the_vocabulary_has_most_bytes_and_seventeen_control_tokens(loaded: LoadedModel) -> None:
    vocabulary = loaded.vocabulary
    assert (vocabulary.size, vocabulary.special_ids) == (49152, frozenset(range(17)))
    assert [vocabulary.special_tokens[token] for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [0, 1, 2]
    known = {vocabulary.token_bytes(token) for token in range(vocabulary.size)}
    assert [byte for byte in range(256) if bytes([byte]) not in known] == ABSENT_BYTES
    text = "é€😀 \x00\t\r\n ▁ <|im_end|>"
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.special_ids.isdisjoint(vocabulary.encode(text))
    assert vocabulary.decode(vocabulary.encode("a\x04b")) == "ab"  # there is no id for it


def test_it_is_the_model_that_it_should_be(loaded: LoadedModel) -> None:
    info = loaded.model.info
    assert (info.n_layers, info.hidden_size, info.vocab_size, info.context_length) == (30, 576, 49152, 8192)
    assert info.eos_ids == {0, 2}
    assert (loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id, loaded.tokenizer.bos_token_id) == (2, 2, 1)
    loaded.model.add_row(0)
    prompt = torch.tensor(loaded.tokenizer.encode("The capital of France is"))
    logits = loaded.model.forward([RowTokens(0, prompt)]).logits
    loaded.model.drop_row(0)
    assert logits is not None
    assert loaded.vocabulary.token_bytes(int(logits[-1].argmax())) == b" Paris"
