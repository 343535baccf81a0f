"""A GGUF file straight into the lean backend: tensors are dequantised one by one as they are packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.lean_shape import lean_shape
from draftproof.drafting.backends.transformers_facts import model_info, state_digest
from draftproof.drafting.models.gguf import names_in_transformers, transformers_config, weight
from draftproof.drafting.models.gguf_config import gguf_config
from draftproof.drafting.models.gguf_file import GgufFile, failures_named


def lean_from_gguf(file: GgufFile, name: str) -> LeanLlama:
    """The model that `gguf_model` gives in float32, with the same digest, and never in memory twice."""
    with failures_named(file.path):
        config = gguf_config(file)
        names = names_in_transformers(file, config)
        written = transformers_config(config)
        tied = {"lm_head.weight": "model.embed_tokens.weight"} if written.tie_word_embeddings else {}

        def source(wanted: str) -> Tensor | None:
            inside = names.get(tied.get(wanted, wanted))
            return None if inside is None else weight(file, config, inside)

        with torch.device("meta"):
            skeleton: PreTrainedModel = cast(Any, AutoModelForCausalLM).from_config(written, dtype=torch.float32)
        skeleton.generation_config.eos_token_id = list(config.stop_ids) or None

        def state() -> Iterator[tuple[str, Tensor]]:
            for key, expected in sorted(skeleton.state_dict().items()):
                found = source(key)
                if found is None or found.shape != expected.shape:
                    got = "lacks" if found is None else f"has the shape {tuple(found.shape)} as"
                    raise file.refused(f"{got} the tensor for {key}", "Get it again.")
                yield key, found

        info = model_info(skeleton, name=name, backend="lean-llama")
        info = replace(info, device=torch.device("cpu"), digest=state_digest(skeleton.config, state()))
        return LeanLlama(info, lean_shape(written), source)
