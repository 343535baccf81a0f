"""The facts of a model, for people and machines: what it is, what it is stored as, and which backend would run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.drafting.models.checkpoint import read_checkpoint
from draftproof.drafting.models.gguf import read_gguf_model, read_gguf_tokenizer
from draftproof.drafting.models.gguf_file import open_gguf
from draftproof.drafting.models.load import backend_for, failures_named, find_source, load_checkpoint
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import UsageError


def describe_model(source: str | Path, models_folder: Path | None = None) -> dict[str, Any]:
    """Facts of the model that `load_model` would load, as plain JSON. Reads the weights, because the digest does."""
    place = find_source(source, models_folder)
    with failures_named(place):
        if place.is_dir():
            checkpoint = read_checkpoint(place)
            stored, files = checkpoint.dtypes, checkpoint.files
            model = load_checkpoint(checkpoint, torch.float32, torch.device("cpu"))
            tokenizer = load_tokenizer(place)
        else:
            readers = open_gguf(place).readers.values()
            stored = tuple(dict.fromkeys(reader.tensor_type.name for reader in readers))
            files = (place,)
            model, tokenizer = read_gguf_model(place), read_gguf_tokenizer(place)
    return _facts(model, tokenizer) | {
        "place": str(place),
        "stored_as": list(stored),
        "bytes": sum(file.stat().st_size for file in files),
    }


def _facts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    from draftproof.drafting.backends.transformers_facts import dissect, model_info

    try:
        dissect(model)
        backend, reason = backend_for(model.config, torch.float32, torch.device("cpu"))
    except UsageError as error:
        backend, reason = "none", error.message
    info = model_info(model, name=None, backend=backend)
    vocabulary = ByteVocabulary(tokenizer)
    return {
        "architecture": info.architecture,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": info.n_layers,
        "hidden_size": info.hidden_size,
        "vocabulary": info.vocab_size,
        "tokens": vocabulary.size,
        "context": info.context_length,
        "stop_ids": sorted(info.eos_ids),
        "chat_template": bool(cast(Any, tokenizer).chat_template),
        "digest": info.digest,
        "vocabulary_digest": vocabulary.digest,
        "backend": backend,
        "reason": reason,
    }
