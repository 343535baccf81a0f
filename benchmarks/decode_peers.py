"""What the decoding benchmark runs: our engine, transformers and its assisted modes, and llama.cpp.

Each peer takes token ids and gives token ids, greedily. Peers are made once and run in turn on each prompt, so that
whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.models.load import LoadedModel


class Peer(Protocol):
    name: str

    def __call__(self, prompt: list[int], new_tokens: int) -> tuple[list[int], dict[str, Any]]:
        """The continuation, a stop token included, and what else there is to say of it."""
        ...


class Ours:
    """Our engine over the lean forward pass; `drafter` None decodes plainly."""

    def __init__(self, name: str, loaded: LoadedModel, drafter: str | None, policy: str = "cost") -> None:
        self.name = name
        self._decoder = SpeculativeDecoder(loaded, drafter, policy=policy)

    def __call__(self, prompt: list[int], new_tokens: int) -> tuple[list[int], dict[str, Any]]:
        (made,) = self._decoder.generate([prompt], max_new_tokens=new_tokens)
        figures = made.totals
        return list(made.tokens), {
            "rounds": figures.rounds,
            "drafted": figures.drafted,
            "accepted": figures.accepted,
            "acceptance_length": figures.acceptance_length,
            "draft_ms": figures.draft_ms,
            "verify_ms": figures.verify_ms,
        }


class Transformers:
    """`generate()`, plain or with what it offers for drafting."""

    def __init__(self, name: str, model: Any, **options: Any) -> None:
        self.name = name
        self._model = model
        self._options = options

    def __call__(self, prompt: list[int], new_tokens: int) -> tuple[list[int], dict[str, Any]]:
        ids = torch.tensor([prompt])
        made = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,  # one prompt at a time: nothing is padded
            **self._options,
        )
        return made[0, len(prompt) :].tolist(), {}


class LlamaCpp:
    """llama.cpp through llama-cpp-python, in the precision of its file.

    Weights stay in the file's layout: of the layouts that it can make while loading, the one for AMX ends the process
    on virtual machines that show AMX and do not allow it. Float32 has no other layout anyway.
    """

    def __init__(self, name: str, file: Path, stops: frozenset[int], threads: int) -> None:
        from llama_cpp import Llama, llama_cpp

        self.name = name
        self._stops = stops
        default = llama_cpp.llama_model_default_params
        llama_cpp.llama_model_default_params = lambda: _in_its_layout(default())
        try:
            self._model = Llama(str(file), n_ctx=4096, n_threads=threads, n_threads_batch=threads, verbose=False)
        finally:
            llama_cpp.llama_model_default_params = default

    def __call__(self, prompt: list[int], new_tokens: int) -> tuple[list[int], dict[str, Any]]:
        made: list[int] = []
        for token in self._model.generate(prompt, temp=0.0, reset=True):
            made.append(token)
            if len(made) >= new_tokens or token in self._stops:
                break
        self._model.reset()
        return made, {}


def _in_its_layout(parameters: Any) -> Any:
    parameters.use_extra_bufts = False
    return parameters


def float32_gguf(source: Path) -> Path:
    """`source` dequantised by llama.cpp's own quantiser, once, into the folder for temporary files."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    made = Path(tempfile.gettempdir()) / f"{digest[:16]}.f32.gguf"
    if not made.exists():
        import ctypes

        import llama_cpp

        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype, options.allow_requantize = 0, True
        part = made.with_suffix(".part")
        status = llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(options))
        if status:
            raise SystemExit(f"llama.cpp could not convert {source}: status {status}")
        part.rename(made)
    return made


def transformers_peers(model: Any, assistant: Any | None, early_exit: int) -> Iterator[Peer]:
    yield Transformers("transformers generate", model)
    yield Transformers("transformers prompt lookup 3", model, prompt_lookup_num_tokens=3)
    yield Transformers("transformers prompt lookup 10", model, prompt_lookup_num_tokens=10)
    yield Transformers("transformers early exit", model, assistant_early_exit=early_exit)
    if assistant is not None:
        yield Transformers("transformers assistant model", model, assistant_model=assistant)
