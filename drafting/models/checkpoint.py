"""What lies in the folder of a checkpoint, read without loading it, and why it cannot be used where it cannot.

Only safetensors are read. Pickled weights, adapters that point to other checkpoints, and configurations that name
kernels to be fetched and run are refused before any library is shown the folder.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from draftproof.errors import ModelError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""Keys by which transformers lets a configuration choose code, that of kernels on a hub included."""
_REFUSED = {
    "quantization_config": "of quantised weights, GGUF files are",
    "transformers_weights": "weights are in model.safetensors",
    "fusion_config": "the layers run as their authors wrote them",
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a configuration, safetensors and a tokenizer."""

    folder: Path
    config: Mapping[str, Any]
    """config.json as it stands."""
    files: tuple[Path, ...]
    """The safetensors."""
    tensors: int
    parameters: int
    """Numbers stored in all tensors."""
    dtypes: tuple[str, ...]
    """As safetensors names them, the one with most numbers first."""

    @property
    def architecture(self) -> str:
        listed = self.config.get("architectures") or [self.config["model_type"]]
        return str(listed[0])


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises ModelError, saying what was found and what to do, for a folder that cannot be loaded."""
    config = _config(folder)
    files = _weight_files(folder)
    numbers: Counter[str] = Counter()
    tensors = 0
    for file in files:
        for dtype, count in _counted(file):
            numbers[dtype] += count
            tensors += 1
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > tensors:
        raise ModelError(f"{folder} has {layers} layers by its config.json, and {tensors} tensors in its safetensors.")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} holds a model without a tokenizer: none of {', '.join(_TOKENIZER_FILES)} is there.",
            remedy="Copy the files of its tokenizer into the folder.",
        )
    return Checkpoint(
        folder=folder,
        config=config,
        files=files,
        tensors=tensors,
        parameters=numbers.total(),
        dtypes=tuple(dtype for dtype, _ in numbers.most_common()),
    )


def _config(folder: Path) -> Mapping[str, Any]:
    file = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, not a whole model.",
            remedy="Merge it into its base model (peft: merge_and_unload, then save_pretrained) and load the result.",
        )
    if not file.is_file():
        raise ModelError(
            f"A checkpoint with a config.json was expected in {folder}; there {_listed(folder)}.",
            remedy="Name the folder that save_pretrained wrote, or a .gguf file.",
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: {error}.", remedy="Get the checkpoint again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} names no model_type, so it describes no transformers model.")
    for path, key, value in _entries(config):
        if key in _IMPLEMENTATIONS and value not in (None, "eager", "sdpa"):
            raise ModelError(
                f"{file} asks for {path} {value!r:.80}: a checkpoint may not say which code runs it.",
                remedy=f"Take {key} out of it.",
            )
    for key in _REFUSED:
        if config.get(key) is not None:
            raise ModelError(f"{file} has a {key}, which is not read here: {_REFUSED[key]}.")
    return config


def _entries(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Path, key and value of every entry, those of parts inside parts included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}", key, inner
            yield from _entries(inner, f"{path}{key}.")


def _weight_files(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        return (single,)
    if not index.is_file():
        pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLED)
        if pickled:
            raise ModelError(
                f"{folder} has its weights as a pickle ({pickled[0]}), which can run any code when it is opened, "
                "and not as safetensors.",
                remedy="Ask for safetensors, or convert it where you trust it: save_pretrained writes them.",
            )
        raise ModelError(f"Weights in model.safetensors were expected in {folder}; there {_listed(folder)}.")
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is no index of safetensors: {error!r}.", remedy="Get it again.") from error
    files = tuple(folder / name for name in names)
    for file in files:
        if file.name != str(file.relative_to(folder)) or not file.is_file():
            raise ModelError(
                f"{index} lists {file.relative_to(folder)}, which is no file in {folder}.",
                remedy="Get the missing files; a download may have ended early.",
            )
    if not files:
        raise ModelError(f"{index} lists no files.")
    return files


def _counted(file: Path) -> list[tuple[str, int]]:
    """Dtype and size of each tensor. Opening compares the header with the file's size: a short file is noticed."""
    try:
        with safe_open(file, framework="pt") as opened:
            slices = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118 - no mapping
            return [(tensor.get_dtype(), math.prod(tensor.get_shape())) for tensor in slices]
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file} is damaged: {error}.", remedy="Get it again; a download may have ended early."
        ) from error


def _listed(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir())
    if not names:
        return "is nothing"
    return "is " + ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
