"""The facts of a model, for people and machines: what it is, what it is stored as, and which backend would run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from draftproof.drafting.model import ModelInfo
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.drafting.models.catalogue import CATALOGUE, fetched_folder
from draftproof.drafting.models.checkpoint import Checkpoint, read_checkpoint
from draftproof.drafting.models.gguf import gguf_model
from draftproof.drafting.models.gguf_file import open_gguf
from draftproof.drafting.models.gguf_tokenizer import gguf_tokenizer
from draftproof.drafting.models.load import (
    backend_for,
    checkpoint_config,
    checkpoint_model,
    failures_named,
    find_source,
)
from draftproof.drafting.models.tokenizer import load_tokenizer

_CPU = torch.device("cpu")


def describe_model(source: str | Path, models_folder: Path | None = None) -> dict[str, Any]:
    """Facts of the model that `load_model` would load on the CPU, as plain JSON.

    The digest is taken of the weights: those of the Llama family are read where they lie, others are loaded for it.
    """
    place = find_source(source, models_folder)
    with failures_named(place):
        if place.is_dir():
            checkpoint = read_checkpoint(place)
            info, reason = _of_checkpoint(checkpoint)
            parameters, stored, files = checkpoint.parameters, checkpoint.dtypes, checkpoint.files
            tokenizer = load_tokenizer(place)
        else:
            file = open_gguf(place)
            tokenizer = gguf_tokenizer(file)
            info, reason = _of_model(gguf_model(file))
            parameters, files = file.parameters, (place,)
            stored = tuple(dict.fromkeys(reader.tensor_type.name for reader in file.readers.values()))
    return {
        "place": str(place),
        "architecture": info.architecture,
        "parameters": parameters,
        "stored_as": list(stored),
        **_dequantised_from(place),
        "bytes": sum(file.stat().st_size for file in files),
        "layers": info.n_layers,
        "hidden_size": info.hidden_size,
        "vocabulary": info.vocab_size,
        "context": info.context_length,
        "stop_ids": sorted(info.eos_ids),
        "digest": info.digest,
        "backend": info.backend,
        "reason": reason,
    } | _of_tokenizer(tokenizer)


def _dequantised_from(place: Path) -> dict[str, str]:
    """What a fetched model was made from: float32 is how its weights are stored, not how exact they are."""
    entry = next((each for each in CATALOGUE.values() if place.name == each.name), None)
    if entry is None or fetched_folder(entry, place.parent) is None:
        return {}
    return {"dequantised_from": Path(entry.member).name}


def _of_checkpoint(checkpoint: Checkpoint) -> tuple[ModelInfo, str]:
    from draftproof.drafting.backends.lean_checkpoint import checkpoint_info

    config = checkpoint_config(checkpoint)
    backend, reason = backend_for(config, torch.float32, _CPU)
    if backend == "lean":
        return checkpoint_info(checkpoint, config, name=None, backend=backend), reason
    return _of_model(checkpoint_model(checkpoint, config, torch.float32, _CPU))


def _of_model(model: PreTrainedModel) -> tuple[ModelInfo, str]:
    """Raises UsageError, with the reason, for a model that no backend runs."""
    from draftproof.drafting.backends.transformers_facts import dissect, model_info

    dissect(model)
    backend, reason = backend_for(model.config, torch.float32, _CPU)
    return model_info(model, name=None, backend=backend), reason


def _of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    vocabulary = ByteVocabulary(tokenizer)
    return {
        "tokens": vocabulary.size,
        "control_tokens": len(vocabulary.special_ids),
        "vocabulary_digest": vocabulary.digest,
        "chat_template": bool(cast(Any, tokenizer).chat_template),
    }
