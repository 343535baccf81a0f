"""From a name, folder, file or object to a model that the engine can run, its tokenizer and its vocabulary.

Loading is where outside files come in: only safetensors and GGUF are read, code that comes with a checkpoint never
runs, and weights that are missing are an error instead of random numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from draftproof.drafting.model import CachedModel
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.drafting.models.catalogue import CATALOGUE, fetched_folder, standard_models_folder
from draftproof.drafting.models.checkpoint import Checkpoint, read_checkpoint
from draftproof.drafting.models.gguf import gguf_model, transformers_config
from draftproof.drafting.models.gguf_config import gguf_config
from draftproof.drafting.models.gguf_file import open_gguf
from draftproof.drafting.models.gguf_tokenizer import gguf_tokenizer
from draftproof.drafting.models.memory import available_bytes
from draftproof.drafting.models.quiet import no_progress_bars
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.drafting.pocket.shipped import SHIPPED, shipped_folder
from draftproof.errors import DraftproofError, ModelError, OutOfMemoryError, UsageError

Backend = Literal["auto", "lean", "transformers"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "merges.txt"]


@dataclass(frozen=True)
class LoadedModel:
    """What text generation needs of a model."""

    model: CachedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: ByteVocabulary


def load_model(
    source: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    backend: Backend = "auto",
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    models_folder: Path | None = None,
) -> LoadedModel:
    """Load a causal language model.

    Args:
        source: name of a shipped (`pocket-target`) or fetched model (`smollm2-135m`), folder of a checkpoint, .gguf
            file, hub id (`owner/name`, or `owner/name@revision`), or a transformers model that is used as it is.
        tokenizer: instead of the source's own; needed with a model object.
        backend: `lean` is our own forward pass, for the Llama family in float32 on the CPU; `transformers` runs
            whatever transformers runs; `auto` takes `lean` where it can.
        dtype: of weights and activations; float32 on the CPU and the checkpoint's own elsewhere unless given.
        device: where it runs.
        models_folder: where `draftproof models fetch` put its models, unless that is the standard place.

    Raises ModelError for what cannot be loaded, OutOfMemoryError for what does not fit, and UsageError for wrong
    arguments; each says what was found and what can be done.
    """
    if backend not in ("auto", "lean", "transformers"):
        raise UsageError(f"A backend of auto, lean or transformers was expected, got {backend!r}.")
    device = _device(device)
    if isinstance(source, PreTrainedModel):
        if tokenizer is None:
            raise UsageError(
                "A model object comes without its tokenizer.", remedy="Give it as well: load_model(model, tokenizer=…)."
            )
        return LoadedModel(_served(source, backend, type(source).__name__), tokenizer, ByteVocabulary(tokenizer))
    if not isinstance(source, (str, Path)):
        raise UsageError(f"A name, a path or a transformers model was expected, got {type(source).__name__}.")
    place = find_source(source, models_folder)
    with failures_named(place):
        if place.is_dir():
            return _from_folder(place, tokenizer, backend, dtype, device, str(source))
        return _from_gguf(place, tokenizer, backend, dtype, device, str(source))


def find_source(source: str | Path, models_folder: Path | None = None) -> Path:
    """The folder or .gguf file that `source` names; a hub id is downloaded. Raises ModelError or UsageError."""
    models_folder = models_folder or standard_models_folder()
    if str(source) in SHIPPED:
        return shipped_folder(str(source))
    if str(source) in CATALOGUE:
        folder = fetched_folder(CATALOGUE[str(source)], models_folder)
        if folder is None:
            raise ModelError(
                f"The model {source} was not fetched: {models_folder / str(source)} is not there.",
                remedy=f"Fetch it: draftproof models fetch {source}",
            )
        return folder
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".gguf"):
        return path
    if path.exists():
        raise UsageError(
            f"A folder with a checkpoint or a .gguf file was expected, got the file {path}.",
            remedy="Name the folder that save_pretrained wrote.",
        )
    if isinstance(source, str) and _HUB_ID.fullmatch(source):
        return _downloaded(source)
    raise UsageError(
        f"There is no model at {path}.",
        remedy=f"Name a folder, a .gguf file, a hub id (owner/name), or one of: {', '.join([*SHIPPED, *CATALOGUE])}.",
    )


def backend_for(config: Any, dtype: torch.dtype, device: torch.device) -> tuple[str, str]:
    """The backend that `auto` takes for a model of this transformers configuration, and why."""
    from draftproof.drafting.backends.lean_llama import LeanLlama

    if device.type != "cpu":
        return "transformers", f"the lean backend runs on the CPU, not on {device.type}"
    if dtype is not torch.float32:
        return "transformers", f"the lean backend computes in float32, not in {_short(dtype)}"
    reason = LeanLlama.supports(config)
    return ("lean", "a model of the Llama family in float32 on the CPU") if reason is None else ("transformers", reason)


def _from_folder(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    backend: Backend,
    dtype: torch.dtype | None,
    device: torch.device,
    name: str,
) -> LoadedModel:
    from draftproof.drafting.backends.lean_llama import LeanLlama

    checkpoint = read_checkpoint(folder)
    config = checkpoint_config(checkpoint)
    dtype = dtype or (torch.float32 if device.type == "cpu" else getattr(config, "dtype", None)) or torch.float32
    tokenizer = tokenizer or load_tokenizer(folder)
    vocabulary = ByteVocabulary(tokenizer)
    if _chosen(backend, config, dtype, device, name) == "lean":
        _must_fit(folder, checkpoint.parameters, dtype, device)
        return LoadedModel(LeanLlama.from_checkpoint(checkpoint, name=name), tokenizer, vocabulary)
    model = checkpoint_model(checkpoint, config, dtype, device)
    return LoadedModel(_served(model, "transformers", name), tokenizer, vocabulary)


def _from_gguf(
    file: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    backend: Backend,
    dtype: torch.dtype | None,
    device: torch.device,
    name: str,
) -> LoadedModel:
    from draftproof.drafting.models.gguf_lean import lean_from_gguf

    opened = open_gguf(file)
    dtype = dtype or torch.float32
    tokenizer = tokenizer or gguf_tokenizer(opened)
    vocabulary = ByteVocabulary(tokenizer)
    _must_fit(file, opened.parameters, dtype, torch.device("cpu"))
    config = transformers_config(gguf_config(opened))
    if _chosen(backend, config, dtype, device, name) == "lean":
        return LoadedModel(lean_from_gguf(opened, name), tokenizer, vocabulary)
    model = cast(Any, gguf_model(opened, dtype)).to(device)
    return LoadedModel(_served(model, "transformers", name), tokenizer, vocabulary)


def _served(model: PreTrainedModel, backend: Backend, name: str) -> CachedModel:
    """`model` behind the engine's protocol. One that was altered, by hooks or modules of others, is not for `lean`."""
    from draftproof.drafting.backends.lean_llama import LeanLlama
    from draftproof.drafting.backends.lean_shape import why_not_model
    from draftproof.drafting.backends.transformers_model import TransformersModel

    if backend == "lean" or (backend == "auto" and why_not_model(model) is None):
        return LeanLlama.from_transformers(model, name=name)
    return TransformersModel(model, name=name)


def _chosen(backend: Backend, config: Any, dtype: torch.dtype, device: torch.device, name: str) -> str:
    best, reason = backend_for(config, dtype, device)
    if backend == "lean" and best != "lean":
        raise UsageError(f"The lean backend cannot run {name}: {reason}.", remedy="Leave the choice to backend='auto'.")
    return best if backend == "auto" else backend


def checkpoint_config(checkpoint: Checkpoint) -> Any:
    """The transformers configuration of a causal language model. Raises ModelError for any other."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    folder, kind = checkpoint.folder, checkpoint.config["model_type"]
    if kind not in CONFIG_MAPPING:
        own = "it needs code of its own, which is never run" if "auto_map" in checkpoint.config else "it may be newer"
        raise ModelError(
            f"{folder} holds a model of type {kind!r}, which transformers does not know; {own}.",
            remedy="Use a model that transformers itself has, or update transformers.",
        )
    config = cast(Any, AutoConfig).from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{folder} holds a model of type {kind!r}, which is no causal language model.")
    return config


def checkpoint_model(checkpoint: Checkpoint, config: Any, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The transformers model of a checkpoint, in evaluation mode, with every weight from its files."""
    folder = checkpoint.folder
    _must_fit(folder, checkpoint.parameters, dtype, device)
    try:
        with no_progress_bars():
            model, loading = cast(Any, AutoModelForCausalLM).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ModelError(
            f"{folder} has tensors of other shapes than its config.json gives them; transformers' report names them.",
            remedy="Get the checkpoint again, all its files.",
        ) from error
    absent = sorted(loading["missing_keys"])
    if absent:
        raise ModelError(
            f"{folder} lacks weights of {type(model).__name__}: {', '.join(absent[:3])}"
            + (f" and {len(absent) - 3} more." if len(absent) > 3 else "."),
            remedy="Get the checkpoint again; it may be one of another kind of model.",
        )
    return cast(PreTrainedModel, model.to(device).eval().requires_grad_(False))


def _must_fit(place: Path, parameters: int, dtype: torch.dtype, device: torch.device) -> None:
    needed = parameters * dtype.itemsize
    available = available_bytes()
    if device.type == "cpu" and available is not None and needed > available:
        raise OutOfMemoryError(
            f"{place} needs {needed / 2**30:.1f} GiB in {_short(dtype)}, "
            f"and {available / 2**30:.1f} GiB of memory are available.",
            remedy="Free memory, take a smaller model, or load with dtype=torch.bfloat16, which is half of float32.",
        )


@contextmanager
def failures_named(place: Path) -> Iterator[None]:
    """Errors say where they came up, and what libraries raise while they read `place` becomes an error of ours."""
    try:
        yield
    except DraftproofError as error:
        if str(place) not in error.message:
            error.add_note(f"In {place}.")
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in first:
            raise OutOfMemoryError(
                f"{place} does not fit into memory: {first}", remedy="Free memory or take a smaller model."
            ) from error
        raise ModelError(
            f"{place} cannot be loaded: {type(error).__name__}: {first}",
            remedy="Get the checkpoint again; if that does not help, it needs another version of transformers.",
        ) from error


def _downloaded(source: str) -> Path:
    """The checkpoint of a hub id: from the hub, or from its cache where the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition("@")
    try:
        got = snapshot_download(name, revision=revision or None, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
    except Exception as error:  # many kinds: no network, no such model, no permission, a full disk
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{source} is no folder here, and as a hub id it cannot be downloaded: {type(error).__name__}: {first}",
            remedy="Check the name and the network, or name a folder that holds the model.",
        ) from error
    return Path(got)


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"A device such as cpu or cuda was expected, got {device!r}.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("The device cuda was asked for, and torch sees none.", remedy="Use device='cpu'.")
    return found


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
