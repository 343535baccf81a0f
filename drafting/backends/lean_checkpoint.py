"""A checkpoint's facts and tensors for the lean backend, without building the model that transformers would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from draftproof.drafting.backends.lean_weights import Source
from draftproof.drafting.backends.transformers_facts import model_info, state_digest
from draftproof.drafting.model import ModelInfo
from draftproof.drafting.models.checkpoint import Checkpoint
from draftproof.errors import ModelError


def checkpoint_config(checkpoint: Checkpoint) -> Any:
    """The transformers configuration; code that comes with a checkpoint never runs."""
    return cast(Any, AutoConfig).from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)


def checkpoint_info(checkpoint: Checkpoint, config: Any, *, name: str | None, backend: str) -> ModelInfo:
    """What `model_info` says of the model that transformers loads from the checkpoint in float32."""
    with torch.device("meta"):
        skeleton: PreTrainedModel = cast(Any, AutoModelForCausalLM).from_config(config, dtype=torch.float32)
    if (checkpoint.folder / "generation_config.json").is_file():
        skeleton.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    info = model_info(skeleton, name=name or str(checkpoint.folder), backend=backend)
    source = checkpoint_source(checkpoint, tied=config.tie_word_embeddings)
    return replace(info, device=torch.device("cpu"), digest=state_digest(skeleton.config, _state(skeleton, source)))


def checkpoint_source(checkpoint: Checkpoint, *, tied: bool) -> Source:
    """Tensors by name. A file is mapped for as long as a tensor of it is held, and no longer."""
    where = _files_by_name(checkpoint)

    def tensor(name: str) -> Tensor | None:
        if tied and name == "lm_head.weight":
            name = "model.embed_tokens.weight"
        if name not in where:
            return None
        with safe_open(where[name], framework="pt") as opened:
            return cast(Tensor, opened.get_tensor(name))

    return tensor


def _files_by_name(checkpoint: Checkpoint) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for file in checkpoint.files:
        with safe_open(file, framework="pt") as opened:
            found.update((name, file) for name in opened.keys())  # noqa: SIM118 - no mapping
    return found


def _state(skeleton: PreTrainedModel, source: Source) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the model's state, read from the files one by one."""
    for name, expected in sorted(skeleton.state_dict().items()):
        tensor = source(name)
        if tensor is None or tensor.shape != expected.shape:
            got = "is missing" if tensor is None else f"has the shape {tuple(tensor.shape)}"
            raise ModelError(
                f"In the checkpoint {name} {got}; {tuple(expected.shape)} was expected.",
                remedy="Get the checkpoint again; it may be one of another kind of model.",
            )
        yield name, tensor
