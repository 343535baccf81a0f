"""A GGUF file becomes the model that it was written from, or is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.models import gguf as reader
from draftproof.drafting.models.gguf import convert_gguf, gguf_model
from draftproof.drafting.models.gguf_file import open_gguf
from draftproof.drafting.models.gguf_tokenizer import gguf_tokenizer
from draftproof.errors import ModelError

Write = Callable[..., Path]


def read_gguf_model(path: Path) -> PreTrainedModel:
    return gguf_model(open_gguf(path))


def read_gguf_tokenizer(path: Path) -> Any:
    return gguf_tokenizer(open_gguf(path))


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 40).unsqueeze(0)).logits


@pytest.mark.parametrize(
    ("fixture", "architecture"),
    [
        pytest.param("gguf_llama", "llama", id="llama-rows-of-queries-and-keys-in-another-order"),
        pytest.param("gguf_llama_with_a_tied_head", "llama", id="llama-without-an-output-tensor"),
        pytest.param("gguf_qwen2", "qwen2", id="qwen2-with-biases"),
        pytest.param("gguf_qwen3", "qwen3", id="qwen3-with-head-norms-and-wide-heads"),
    ],
)
def test_a_file_becomes_the_model_that_it_was_written_from(
    fixture: str, architecture: str, write: Write, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original = request.getfixturevalue(fixture)
    wide = (lambda writer: writer.add_key_length(32)) if fixture == "gguf_qwen3" else (lambda writer: None)
    file = write(tmp_path / "model.gguf", original, architecture=architecture, change=wide)
    direct = read_gguf_model(file)
    assert type(direct) is type(original)
    assert torch.equal(logits(direct), logits(original))
    (tmp_path / "converted").mkdir()
    convert_gguf(file, tmp_path / "converted")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "converted")
    assert torch.equal(logits(converted), logits(original))
    assert converted.config.tie_word_embeddings == original.config.tie_word_embeddings
    assert converted.dtype is torch.float32


def test_rows_in_the_files_order_would_be_another_model(
    gguf_llama: PreTrainedModel, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the comparison above sees the order of rows."""
    monkeypatch.setattr(reader, "halves_from_pairs", lambda weight, heads: weight)
    assert not torch.allclose(logits(read_gguf_model(tiny_gguf)), logits(gguf_llama), atol=1e-2)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q8_0", "BF16", "F16"])
def test_quantised_weights_are_what_the_format_says(
    name: str, gguf_llama: PreTrainedModel, write: Write, tmp_path: Path
) -> None:
    kind = gguf.GGMLQuantizationType[name]
    file = write(tmp_path / "model.gguf", gguf_llama, quantisation=kind)
    got = read_gguf_model(file).state_dict()["model.layers.1.mlp.down_proj.weight"]
    weight = gguf_llama.state_dict()["model.layers.1.mlp.down_proj.weight"].numpy()
    assert np.array_equal(got.numpy(), gguf.dequantize(gguf.quantize(weight, kind), kind))
    assert got.dtype is torch.float32


def test_large_models_are_written_in_several_files(
    gguf_llama: PreTrainedModel, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_SHARD_BYTES", 100_000)
    convert_gguf(tiny_gguf, tmp_path)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(gguf_llama))


def test_generation_stops_where_the_file_says_or_the_caller(tiny_gguf: Path, tmp_path: Path) -> None:
    for folder, given, expected in (("own", (), [2]), ("given", (2, 0), [2, 0])):
        (tmp_path / folder).mkdir()
        convert_gguf(tiny_gguf, tmp_path / folder, stop_ids=given)
        assert json.loads((tmp_path / folder / "generation_config.json").read_text())["eos_token_id"] == expected
    assert read_gguf_model(tiny_gguf).generation_config.eos_token_id == [2]


def test_progress_ends_with_all_weights(tiny_gguf: Path, gguf_llama: PreTrainedModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert_gguf(tiny_gguf, tmp_path, progress=lambda done, total: seen.append((done, total)))
    total = sum(parameter.numel() for parameter in gguf_llama.parameters())
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def llama3_divisors(head_dim: int, factor: float) -> np.ndarray[Any, Any]:
    """As transformers computes them for `rope_type: llama3`."""
    config = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        vocab_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
    )
    scaled = LlamaForCausalLM(config).model.rotary_emb.inv_freq
    plain = 1 / 10000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim)
    return (plain / scaled).numpy()


def test_rotary_scaling_of_llama_3_is_read_from_its_divisors(
    gguf_llama: PreTrainedModel, write: Write, tmp_path: Path
) -> None:
    divisors = llama3_divisors(16, 8.0)
    assert divisors.max() == pytest.approx(8)
    file = write(
        tmp_path / "model.gguf",
        gguf_llama,
        change=lambda writer: writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32)),
    )
    rotary = read_gguf_model(file).config.rope_parameters
    assert (rotary["rope_type"], rotary["factor"]) == ("llama3", 8.0)
    assert rotary["original_max_position_embeddings"] == 8192


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"architecture": "gemma3"}, "architecture 'gemma3'", id="another-architecture"),
        pytest.param({"change": lambda w: w.add_expert_count(8)}, "llama.expert_count", id="mixture-of-experts"),
        pytest.param({"change": lambda w: w.add_logit_scale(2.0)}, "llama.logit_scale", id="a-key-that-scales-logits"),
        pytest.param(
            {"change": lambda w: w.add_rope_dimension_count(8)}, "rope.dimension_count", id="rotation-of-half-the-head"
        ),
        pytest.param(
            {"change": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)}, "longrope", id="longrope"
        ),
        pytest.param(
            {"change": lambda w: w.add_tensor("rope_freqs.weight", np.linspace(1, 3, 8, dtype=np.float32))},
            "rotary frequencies",
            id="divisors-of-another-kind",
        ),
        pytest.param(
            {"change": lambda w: w.add_tensor("blk.0.ffn_gate_inp.weight", np.ones((4, 4), np.float32))},
            "ffn_gate_inp",
            id="a-tensor-that-no-dense-model-has",
        ),
        pytest.param({"leave_out": ("blk.1.attn_v.weight",)}, "layers.1.self_attn.v_proj", id="a-missing-tensor"),
        pytest.param({"leave_out": ("token_embd.weight",)}, "token_embd.weight", id="no-embedding"),
        pytest.param({"head_count": None}, "attention.head_count", id="a-missing-key"),
    ],
)
def test_what_would_be_another_model_is_refused(
    options: dict[str, Any], said: str, gguf_llama: PreTrainedModel, write: Write, tmp_path: Path
) -> None:
    file = write(tmp_path / "model.gguf", gguf_llama, **options)
    with pytest.raises(ModelError, match=said) as caught:
        read_gguf_model(file)
    assert str(file) in caught.value.message
    assert caught.value.remedy


def test_scaling_that_transformers_knows_is_kept(gguf_llama: PreTrainedModel, write: Write, tmp_path: Path) -> None:
    def scaled(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(64)

    rotary = read_gguf_model(write(tmp_path / "model.gguf", gguf_llama, change=scaled)).config.rope_parameters
    assert rotary["rope_type"] == "yarn"
    assert (rotary["factor"], rotary["original_max_position_embeddings"]) == (4.0, 64)


@pytest.mark.parametrize("end", [0, 3, 40, 3000, -10])
def test_a_file_that_was_cut_short_is_an_error_of_ours(end: int, tiny_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:end])
    with pytest.raises(ModelError, match=r"cut\.gguf"):
        read_gguf_model(cut)


def test_counts_that_no_file_holds_are_an_error_of_ours(tiny_gguf: Path, tmp_path: Path) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    data[8:16] = (2**62).to_bytes(8, "little")  # tensors
    (tmp_path / "many.gguf").write_bytes(data)
    with pytest.raises(ModelError):
        read_gguf_model(tmp_path / "many.gguf")


# tokenizers


@pytest.mark.parametrize(
    ("cut", "text", "tokens"),
    [
        pytest.param("smollm", "12", ["1", "2"], id="digits-stand-alone"),
        pytest.param("gpt-2", "12", ["12"], id="digits-merge"),
        pytest.param("smollm", "\n\n1", ["ĊĊ", "1"], id="lines-before-a-digit-stay-together"),
        pytest.param("gpt-2", "\n\n1", ["Ċ", "Ċ", "1"], id="lines-before-a-digit-are-cut-by-gpt-2"),
        pytest.param("qwen2", "12 the", ["1", "2", "Ġthe"], id="qwen2-one-digit"),
        pytest.param("llama-bpe", "12 the", ["12", "Ġthe"], id="llama-3-up-to-three-digits"),
        pytest.param("smollm", " the<|im_end|>", ["Ġthe", "<|im_end|>"], id="control-tokens-are-found"),
    ],
)
def test_text_is_cut_as_the_file_says(
    cut: str, text: str, tokens: list[str], gguf_llama: PreTrainedModel, write: Write, tmp_path: Path
) -> None:
    tokenizer = read_gguf_tokenizer(write(tmp_path / "model.gguf", gguf_llama, pre=cut))
    assert tokenizer.tokenize(text) == tokens
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == text


def test_a_converted_tokenizer_is_the_one_that_was_read(tiny_gguf: Path, tmp_path: Path) -> None:
    from draftproof.drafting.models.tokenizer import load_tokenizer

    convert_gguf(tiny_gguf, tmp_path)
    read = read_gguf_tokenizer(tiny_gguf)
    loaded: Any = load_tokenizer(tmp_path)
    text = "<|im_start|>in  the\n\n12 é€😀\t<|im_end|>"
    assert loaded.encode(text) == read.encode(text)
    messages = [{"role": "user", "content": "12"}]
    asked = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert asked == read.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert asked == "<|im_start|>12<|im_end|><|im_start|>"
    named = ("bos_token", "eos_token", "unk_token", "pad_token")
    assert [getattr(loaded, name) for name in named] == ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_end|>"]


def test_a_start_token_is_put_where_the_file_asks_for_one(
    gguf_llama: PreTrainedModel, write: Write, tmp_path: Path
) -> None:
    file = write(tmp_path / "model.gguf", gguf_llama, change=lambda writer: writer.add_add_bos_token(True))
    with_start = read_gguf_tokenizer(file)
    assert with_start.encode("1")[0] == 1
    assert with_start.encode("1", add_special_tokens=False) == with_start.encode("1")[1:]


PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "t", "h", "e", "▁t", "he", "▁the"]


def sentence_pieces(write: Write, model: PreTrainedModel, path: Path, **keys: Any) -> Path:
    """A SentencePiece vocabulary; joined tokens have the scores that decide what is joined first."""
    tokens = PIECES + [f"[{number}]" for number in range(266 - len(PIECES))]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)]
    given: dict[str, Any] = {
        "tokenizer": "llama",
        "pre": None,
        "merges": None,
        "template": None,
        "tokens": tokens,
        "types": kinds,
        "padding": None,
        "change": lambda writer: writer.add_token_scores([0.0] * 259 + [-float(n) for n in range(len(tokens) - 259)]),
    }
    return write(path, model, **given | keys)


def test_sentence_pieces_are_joined_by_score(gguf_llama: PreTrainedModel, write: Write, tmp_path: Path) -> None:
    tokenizer = read_gguf_tokenizer(sentence_pieces(write, gguf_llama, tmp_path / "model.gguf"))
    assert tokenizer.tokenize("the the") == ["▁the", "▁the"]
    assert tokenizer.tokenize("é") == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.encode("the") == [1, PIECES.index("▁the")]  # this kind of file asks for a start token
    assert tokenizer.decode(tokenizer.encode("the é"), skip_special_tokens=True) == "the é"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param({"pre": "default"}, "'default'", id="a-way-of-cutting-that-is-not-known"),
        pytest.param({"pre": None}, "cuts text as None", id="no-way-of-cutting"),
        pytest.param({"tokenizer": "bert"}, "type 'bert'", id="another-kind"),
        pytest.param({"merges": None}, "merges", id="no-merges"),
        pytest.param({"types": [1, 1]}, "2 kinds", id="fewer-kinds-than-tokens"),
        pytest.param({"tokens": ["a", "a"], "types": [1, 1]}, "twice", id="a-token-twice"),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused(
    keys: dict[str, Any], said: str, gguf_llama: PreTrainedModel, write: Write, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        read_gguf_tokenizer(write(tmp_path / "model.gguf", gguf_llama, **keys))
    assert "tokenizer=" in str(caught.value.remedy)
