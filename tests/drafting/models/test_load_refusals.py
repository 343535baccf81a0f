"""What cannot be loaded says why and what to do, before anything of it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from draftproof.drafting.models import load
from draftproof.drafting.models.info import describe_model
from draftproof.drafting.models.load import load_model
from draftproof.drafting.models.memory import available_bytes
from draftproof.errors import ModelError, OutOfMemoryError, UsageError
from tests.drafting.models.damage import (
    Damage,
    a_tensor_less,
    adapter,
    broken_tokenizer,
    configured,
    cut_short,
    index_of_elsewhere,
    index_of_nothing,
    index_that_is_none,
    no_config,
    no_tokenizer,
    no_weights,
    nonsense,
    not_json,
    pickled,
)


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


def test_a_model_that_no_backend_runs_is_refused_with_the_reason(folder: Path) -> None:
    config = MambaConfig(vocab_size=266, hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(folder)
    with pytest.raises(UsageError, match="recurrent state") as caught:
        describe_model(folder)
    assert caught.value.__notes__ == [f"In {folder}."]
    with pytest.raises(UsageError, match="recurrent state"):
        load_model(folder)
