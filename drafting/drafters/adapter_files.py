"""Files of small trained adapters: weights as safetensors, everything else as JSON, bound to one target.

An adapter reads one target's hidden states; for any other it would be noise, so its digest is kept and compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.model import ModelInfo
from draftproof.errors import InputError, UsageError

WEIGHTS_FILE = "adapter.safetensors"
CONFIG_FILE = "adapter.json"
_IDS = "trimmed_ids"


@dataclass(frozen=True)
class AdapterTarget:
    """The model that an adapter was made for."""

    name: str
    digest: str
    hidden_size: int
    vocab_size: int

    @classmethod
    def of(cls, info: ModelInfo) -> AdapterTarget:
        return cls(info.name, info.digest, info.hidden_size, info.vocab_size)

    def check(self, info: ModelInfo, what: str) -> None:
        """Raises UsageError when `info` is another model."""
        if self.digest != info.digest:
            raise UsageError(
                f"This {what} was trained for {self.name} ({self.digest[:12]}), not for {info.name} "
                f"({info.digest[:12]}).",
                remedy="Train one for this target.",
            )


def write_adapter(
    folder: Path,
    kind: str,
    module: nn.Module,
    target: AdapterTarget,
    config: Mapping[str, Any],
    trimmed: TrimmedVocabulary | None,
) -> None:
    """Both files, the weights first and at once, so that a folder with a config is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in module.state_dict().items()}
    if trimmed is not None:
        tensors[_IDS] = trimmed.ids.cpu()
    partial = folder / f"{WEIGHTS_FILE}.partial"
    save_file(tensors, partial, metadata={"format": kind, "target_digest": target.digest})
    partial.replace(folder / WEIGHTS_FILE)
    described = {"format": kind, "target": vars(target), "config": dict(config)}
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class AdapterFiles:
    target: AdapterTarget
    config: dict[str, Any]
    weights: dict[str, Tensor]
    trimmed: TrimmedVocabulary | None

    def fill(self, module: nn.Module, folder: Path) -> None:
        """Load the weights into `module`, which must have exactly these, in these shapes."""
        expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in self.weights.items()}
        if expected != found:
            name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            raise InputError(
                f"{folder / WEIGHTS_FILE} does not fit its own {CONFIG_FILE}: {name} is {found.get(name)}, "
                f"{expected.get(name)} was expected."
            )
        module.load_state_dict(self.weights)


def read_adapter(folder: Path, kind: str) -> AdapterFiles:
    """Raises UsageError when there is no such adapter, InputError when its files are damaged."""
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not config_file.is_file() or not weights_file.is_file():
        raise UsageError(f"{folder} holds no trained adapter: {CONFIG_FILE} and {WEIGHTS_FILE} are expected in it.")
    try:
        described = json.loads(config_file.read_text(encoding="utf-8"))
        if described["format"] != kind:
            raise UsageError(f"{folder} holds {described['format']!r}, and {kind!r} was expected.")
        target = AdapterTarget(**described["target"])
        with safe_open(str(weights_file), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            stated = (file.metadata() or {}).get("target_digest")
        ids = tensors.pop(_IDS, None)
        trimmed = None if ids is None else TrimmedVocabulary(ids.to(torch.int64), target.vocab_size)
        config = dict(described["config"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        if isinstance(error, UsageError):
            raise
        raise InputError(f"The adapter in {folder} cannot be read: {error}") from error
    if stated != target.digest:
        raise InputError(f"{CONFIG_FILE} and {WEIGHTS_FILE} in {folder} are of different targets.")
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise InputError(f"{weights_file} holds weights that are not numbers.")
    return AdapterFiles(target, config, tensors, trimmed)
