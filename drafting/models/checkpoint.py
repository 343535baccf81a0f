"""What lies in the folder of a checkpoint, read without loading it, and why it cannot be used where it cannot.

Only safetensors are read. Pickled weights, code that comes with a checkpoint and adapters that point to other
checkpoints are refused before any library is shown the folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from draftproof.errors import ModelError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a configuration, safetensors and a tokenizer."""

    folder: Path
    config: Mapping[str, Any]
    """config.json as it stands."""
    files: tuple[Path, ...]
    """The safetensors."""
    parameters: int
    """Numbers stored in them."""
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
    numbers: dict[str, int] = {}
    for file in files:
        for dtype, count in _counted(file).items():
            numbers[dtype] = numbers.get(dtype, 0) + count
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} holds a model without a tokenizer: none of {', '.join(_TOKENIZER_FILES)} is there.",
            remedy="Copy the files of its tokenizer into the folder.",
        )
    return Checkpoint(
        folder=folder,
        config=config,
        files=files,
        parameters=sum(numbers.values()),
        dtypes=tuple(sorted(numbers, key=lambda dtype: -numbers[dtype])),
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
    return config


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


def _counted(file: Path) -> dict[str, int]:
    """Numbers of each dtype. Opening checks the header against the file's size, so that a short file is noticed."""
    numbers: dict[str, int] = {}
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                tensor = opened.get_slice(name)
                numbers[tensor.get_dtype()] = numbers.get(tensor.get_dtype(), 0) + math.prod(tensor.get_shape())
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file} is damaged: {error}.", remedy="Get it again; a download may have ended early."
        ) from error
    return numbers


def _listed(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir())
    if not names:
        return "is nothing"
    return "is " + ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
