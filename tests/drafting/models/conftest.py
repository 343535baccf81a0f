"""A tiny model as llama.cpp would write it: GGUF with a byte-level vocabulary, and wheels that hold it."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from draftproof.drafting.models.byte_vocabulary import byte_characters
from draftproof.drafting.models.catalogue import CatalogueEntry
from draftproof.drafting.models.gguf import convert_gguf

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("Ġ t", "h e", "Ġt he", "Ċ Ċ", "Ġ Ġ", "i n", "1 2")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def byte_level_tokens() -> list[str]:
    """Control tokens, the 256 bytes, and what the merges make."""
    return [*CONTROL, *sorted(byte_characters()), *(merge.replace(" ", "") for merge in MERGES)]


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Writes a model as a GGUF file: see `write_gguf`."""
    return write_gguf


@pytest.fixture(scope="session")
def gguf_llama() -> PreTrainedModel:
    """What `tiny_gguf` holds."""
    return _model(LlamaForCausalLM, LlamaConfig(vocab_size=len(byte_level_tokens()), **SIZES))


@pytest.fixture(scope="session")
def gguf_llama_with_a_tied_head() -> PreTrainedModel:
    return _model(
        LlamaForCausalLM, LlamaConfig(vocab_size=len(byte_level_tokens()), **SIZES | {"tie_word_embeddings": True})
    )


@pytest.fixture(scope="session")
def gguf_qwen2() -> PreTrainedModel:
    """Biases on queries, keys and values."""
    return _model(Qwen2ForCausalLM, Qwen2Config(vocab_size=len(byte_level_tokens()), **SIZES))


@pytest.fixture(scope="session")
def gguf_qwen3() -> PreTrainedModel:
    """Norms on queries and keys, and heads that are wider than hidden size / heads."""
    return _model(Qwen3ForCausalLM, Qwen3Config(vocab_size=len(byte_level_tokens()), head_dim=32, **SIZES))


def _model(kind: Any, config: Any) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model: PreTrainedModel = kind(config).eval()
        for parameter in model.parameters():
            parameter.data = 0.2 * torch.randn_like(parameter)
    return model


def pairs_from_halves(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Row 2i of each head is its row i, row 2i + 1 its row i + d/2: the order that llama.cpp's converter writes."""
    rows = weight.shape[0] // heads
    order = [head * rows + half * rows // 2 + i for head in range(heads) for i in range(rows // 2) for half in (0, 1)]
    return weight[order]


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    *,
    architecture: str = "llama",
    quantisation: gguf.GGMLQuantizationType | None = None,
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    leave_out: tuple[str, ...] = (),
    **keys: Any,
) -> Path:
    """`model` as a GGUF file. `keys` replace what would be written, None leaves it out; `change` may add anything."""
    config: Any = model.config
    tokens = byte_level_tokens()
    writer = gguf.GGUFWriter(path, architecture)
    facts: dict[str, tuple[Callable[..., None], Any]] = {
        "block_count": (writer.add_block_count, config.num_hidden_layers),
        "context_length": (writer.add_context_length, config.max_position_embeddings),
        "embedding_length": (writer.add_embedding_length, config.hidden_size),
        "feed_forward_length": (writer.add_feed_forward_length, config.intermediate_size),
        "head_count": (writer.add_head_count, config.num_attention_heads),
        "head_count_kv": (writer.add_head_count_kv, config.num_key_value_heads),
        "epsilon": (writer.add_layer_norm_rms_eps, config.rms_norm_eps),
        "rope_base": (writer.add_rope_freq_base, 10000.0),
        "tokenizer": (writer.add_tokenizer_model, "gpt2"),
        "pre": (writer.add_tokenizer_pre, "smollm"),
        "tokens": (writer.add_token_list, tokens),
        "types": (writer.add_token_types, [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL))),
        "merges": (writer.add_token_merges, list(MERGES)),
        "bos": (writer.add_bos_token_id, 1),
        "eos": (writer.add_eos_token_id, 2),
        "unknown": (writer.add_unk_token_id, 0),
        "padding": (writer.add_pad_token_id, 2),
        "template": (writer.add_chat_template, TEMPLATE),
    }
    for key, (add, value) in facts.items():
        if keys.get(key, value) is not None:
            add(keys.get(key, value))
    change(writer)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        known = _NAMES.get(stem) or f"blk.{layer}.{_NAMES[part]}"
        if f"{known}.{kind}" in leave_out or (known == "output" and config.tie_word_embeddings):
            continue
        data = tensor.numpy().copy()
        if architecture == "llama" and known.rpartition(".")[2] in heads:
            data = pairs_from_halves(data, heads[known.rpartition(".")[2]])
        if quantisation is not None and data.ndim == 2 and data.shape[1] % 32 == 0:
            writer.add_tensor(f"{known}.{kind}", gguf.quantize(data, quantisation), raw_dtype=quantisation)
        else:
            writer.add_tensor(f"{known}.{kind}", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny_gguf(gguf_llama: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in float32 with a byte-level vocabulary that splits digits first, as SmolLM2's does."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", gguf_llama)


@pytest.fixture(scope="session")
def tiny_wheel(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the tiny model in it, and a member that would lie outside of any folder it is unpacked to."""
    path = tmp_path_factory.mktemp("wheel") / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('code of a wheel must not run')\n")
        about = "tiny_model-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
        archive.writestr("../../../escaped.gguf", b"escaped")
        archive.write(tiny_gguf, "tiny_model/tiny.gguf")
    return path


@pytest.fixture(scope="session")
def tiny_entry(tiny_gguf: Path) -> CatalogueEntry:
    """What a catalogue would say of `tiny_wheel`."""
    return CatalogueEntry(
        name="tiny",
        summary="a tiny model of the tests",
        requirement="tiny-model==1.0",
        member="tiny_model/tiny.gguf",
        sha256=hashlib.sha256(tiny_gguf.read_bytes()).hexdigest(),
        licence="CC0-1.0",
        origin="The tests",
        download_bytes=tiny_gguf.stat().st_size,
        file_bytes=tiny_gguf.stat().st_size,
        parameters=100_000,
        stop_ids=(2, 0),
    )


@pytest.fixture(scope="session")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a transformers checkpoint. Not to be changed."""
    folder = tmp_path_factory.mktemp("converted")
    convert_gguf(tiny_gguf, folder)
    return folder


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A copy of `converted` to damage."""
    return Path(shutil.copytree(converted, tmp_path / "model"))
