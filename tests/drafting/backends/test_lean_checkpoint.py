"""Where weights come from: a model in memory stays as it was, a folder is read without ever holding it twice."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.packed_linear import best_layout
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import Wanted
from draftproof.drafting.models.checkpoint import Checkpoint
from draftproof.errors import ModelError, UsageError
from tests.drafting.backends.plain_forward import row_tokens, rows

PEAK = """
import sys, torch
from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.packed_linear import best_layout
from draftproof.drafting.model import RowTokens
from tests_peak import checkpoint, resident

best_layout()
before = resident("VmRSS")
cached = LeanLlama.from_checkpoint(checkpoint(sys.argv[1]))
cached.add_row(0)
cached.forward([RowTokens(0, torch.arange(40))])
print(resident("VmHWM") - before)
"""
HELP = """
from pathlib import Path
from draftproof.drafting.models.checkpoint import Checkpoint
import json

def checkpoint(folder):
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    return Checkpoint(folder, config, tuple(sorted(folder.glob("*.safetensors"))), 0, 0, ("F32",))

def resident(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))
"""


def fingerprint(model: PreTrainedModel) -> str:
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tensor.requires_grad} {tensor._version}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def checkpoint_of(folder: Path) -> Checkpoint:
    """Without the tokenizer that `read_checkpoint` wants to see."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Checkpoint(folder, config, tuple(sorted(folder.glob("*.safetensors"))), 0, 0, ("F32",))


def used(cached: LeanLlama) -> torch.Tensor:
    with rows(cached, [1, 2, 3], [4]) as (row, other):
        batch = [row_tokens(row, [5, 6, 7], [-1, 0, 0]), row_tokens(other, [8])]
        result = cached.forward(batch, Wanted(taps=(0, 1, 2)))
        result.hidden[1].zero_()
        cached.run_layers(batch, 1, 2, result.hidden[0])
        cached.commit(row, [0, 2])
        assert result.logits is not None
        return result.logits


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_users_model_is_never_changed(family: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    before = fingerprint(model)
    used(LeanLlama.from_transformers(model))
    assert fingerprint(model) == before
    model.model.norm.weight.data.add_(1.0)
    changed = fingerprint(model)
    model.model.norm.weight.data.sub_(1.0)
    assert changed != before


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_a_folder_gives_the_same_model_as_the_object_that_was_saved_there(
    family: str, shard: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(f"tiny_{family}")
    model.save_pretrained(tmp_path, max_shard_size=shard)
    checkpoint = checkpoint_of(tmp_path)
    assert (len(checkpoint.files) > 1) == (shard == "20KB")
    read = LeanLlama.from_checkpoint(checkpoint, name="m")
    held = LeanLlama.from_transformers(model, name="m")
    assert torch.equal(used(read), used(held))
    assert read.info == held.info
    assert read.info == replace(TransformersModel(model, name="m").info, backend="lean-llama")


def test_a_folder_in_half_precision_is_widened_before_anything_is_computed(tmp_path: Path) -> None:
    config = Qwen3Config(
        vocab_size=97,
        hidden_size=48,  # neither this nor the size of heads has a root that half precision holds
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
    )
    half = Qwen3ForCausalLM(config).to(torch.bfloat16)
    for parameter in half.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    half.save_pretrained(tmp_path)
    wide = Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    read = LeanLlama.from_checkpoint(checkpoint_of(tmp_path), name="m")
    held = LeanLlama.from_transformers(wide, name="m")
    assert torch.equal(used(read), used(held))
    assert read.info == held.info


def test_a_folder_without_a_weight_or_with_one_of_another_shape_is_refused(
    tiny_llama: PreTrainedModel, tmp_path: Path
) -> None:
    tiny_llama.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    for changed in ({}, {name: torch.zeros(3, 3)}):
        tensors = {key: each for key, each in whole.items() if key != name} | changed
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=name):
            LeanLlama.from_checkpoint(checkpoint_of(tmp_path))


def test_a_folder_of_another_family_is_refused(tiny_gpt2: PreTrainedModel, tmp_path: Path) -> None:
    tiny_gpt2.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"gpt2.*transformers backend"):
        LeanLlama.from_checkpoint(checkpoint_of(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_a_folder_takes_little_more_memory_than_its_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    if dtype is not torch.float32 and best_layout() != "native":
        pytest.skip("other layouts keep 32 bits")
    model = LlamaForCausalLM(config).to(dtype)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    model.save_pretrained(tmp_path / "model")
    del model
    (tmp_path / "tests_peak.py").write_text(HELP)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "model")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert weights < int(done.stdout) <= 1.25 * weights
