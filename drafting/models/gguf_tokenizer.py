"""The tokenizer that a GGUF file describes.

A file has tokens, their kinds, and merges or scores, but of the way in which a text is cut before merging it has only
a name (`tokenizer.ggml.pre`). The cuts decide which ids the model sees: SmolLM2 splits digits first, and "\\n\\n1."
has other ids without that. So a name that is not in the table is an error, never a guess.
"""

from __future__ import annotations

import json
from typing import Any, cast

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from draftproof.drafting.models.gguf_file import GgufFile, failures_named

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
"""Kinds of tokens in `tokenizer.ggml.token_type`."""
_REMEDY = "Give the model's own tokenizer: load_model(path, tokenizer=…)."

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_GPT2 = [_BYTES | {"use_regex": True}]
_DIGITS_FIRST = [{"type": "Digits", "individual_digits": True}, *_GPT2]


def _words(digits: str) -> list[dict[str, Any]]:
    """Cuts into words as Llama 3 and Qwen do, which differ in how many digits they keep together."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, _BYTES | {"use_regex": False}]


_CUTS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": _GPT2,
    "smollm": _DIGITS_FIRST,
    "llama-bpe": _words(r"\p{N}{1,3}"),
    "qwen2": _words(r"\p{N}"),
    "deepseek-r1-qwen": _words(r"\p{N}"),
}
_WHOLE_WORDS_FIRST = ("llama-bpe",)
"""Vocabularies in which a whole word that is a token is never split by merges."""
_COMPOSED = ("qwen2",)
"""Trained on text in Unicode normal form C."""


def gguf_tokenizer(file: GgufFile) -> PreTrainedTokenizerBase:
    """Raises ModelError for a kind of tokenizer, or a way of cutting, that is not known."""
    with failures_named(file.path):
        return _tokenizer(file)


def _tokenizer(file: GgufFile) -> PreTrainedTokenizerBase:
    tokens = _listed(file, "tokens", str)
    if len(set(tokens)) != len(tokens):
        raise file.refused("lists a token twice", _REMEDY)
    kinds = _listed(file, "token_type", int) if "tokenizer.ggml.token_type" in file.metadata else [1] * len(tokens)
    if len(kinds) != len(tokens):
        raise file.refused(f"has {len(tokens)} tokens and {len(kinds)} kinds of tokens", _REMEDY)
    model = file.metadata.get("tokenizer.ggml.model")
    if model == "gpt2":
        written = _byte_level(file, tokens)
    elif model == "llama":
        written = _sentence_pieces(file, tokens)
    else:
        raise file.refused(f"has a tokenizer of type {model!r:.80}; gpt2 and llama are read", _REMEDY)
    written["added_tokens"] = [
        {
            "id": token,
            "content": tokens[token],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != _USER_DEFINED,
        }
        for token, kind in enumerate(kinds)
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    named = {
        name: tokens[token]
        for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
        if isinstance(token := file.metadata.get(f"tokenizer.ggml.{key}_token_id"), int) and 0 <= token < len(tokens)
    }
    written["post_processor"] = _around(file, named, tokens)
    built = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=Tokenizer.from_str(json.dumps(written)),
        clean_up_tokenization_spaces=False,
        model_max_length=int(file.metadata.get(f"{file.architecture}.context_length", 2**30)),
        **{f"{name}_token": token for name, token in named.items()},
    )
    template = file.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        built.chat_template = template
    return cast(PreTrainedTokenizerBase, built)


def _byte_level(file: GgufFile, tokens: list[str]) -> dict[str, Any]:
    cut = file.metadata.get("tokenizer.ggml.pre")
    if cut not in _CUTS:
        raise file.refused(f"cuts text as {cut!r:.80} before merging, which is not known here", _REMEDY)
    return {
        "version": "1.0",
        "normalizer": {"type": "NFC"} if cut in _COMPOSED else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _CUTS[cut]},
        "decoder": _BYTES | {"use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in _listed(file, "merges", str)],
            "ignore_merges": cut in _WHOLE_WORDS_FIRST,
            "byte_fallback": False,
        },
    }


def _sentence_pieces(file: GgufFile, tokens: list[str]) -> dict[str, Any]:
    """SentencePiece's BPE: of all neighbours, those whose joined token has the highest score are joined first."""
    scores = _listed(file, "scores", float)
    if len(scores) != len(tokens):
        raise file.refused(f"has {len(tokens)} tokens and {len(scores)} scores", _REMEDY)
    ids = {token: number for number, token in enumerate(tokens)}
    merges = [
        (-scores[number], number, token[:at], token[at:])
        for number, token in enumerate(tokens)
        for at in range(1, len(token))
        if token[:at] in ids and token[at:] in ids
    ]
    unknown = file.metadata.get("tokenizer.ggml.unknown_token_id", 0)
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    prefixed = bool(file.metadata.get("tokenizer.ggml.add_space_prefix", True))
    before = [{"type": "Prepend", "prepend": "\u2581"}, space] if prefixed else [space]
    after: list[dict[str, Any]] = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefixed:
        after.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "normalizer": {"type": "Sequence", "normalizers": before},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": after},
        "model": {
            "type": "BPE",
            "vocab": ids,
            "merges": [[left, right] for _, _, left, right in sorted(merges)],
            "unk_token": tokens[unknown] if isinstance(unknown, int) and 0 <= unknown < len(tokens) else None,
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def _around(file: GgufFile, named: dict[str, str], tokens: list[str]) -> dict[str, Any] | None:
    """What is put before and behind a text. A byte-level file that does not say puts nothing."""
    by_default = file.metadata.get("tokenizer.ggml.model") == "llama"
    before = bool(file.metadata.get("tokenizer.ggml.add_bos_token", by_default)) and named.get("bos")
    behind = bool(file.metadata.get("tokenizer.ggml.add_eos_token", False)) and named.get("eos")
    if not before and not behind:
        return None

    def special(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    def template(*pieces: str) -> list[dict[str, Any]]:
        inside = [{"Sequence": {"id": piece, "type_id": 0}} for piece in pieces]
        return [*([special(before)] if before else []), *inside, *([special(behind)] if behind else [])]

    used = {token: tokens.index(token) for token in (before, behind) if token}
    return {
        "type": "TemplateProcessing",
        "single": template("A"),
        "pair": template("A", "B"),
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in used.items()},
    }


def _listed(file: GgufFile, key: str, kind: type) -> list[Any]:
    found = file.metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        raise file.refused(f"has no list tokenizer.ggml.{key}", _REMEDY)
    return found
