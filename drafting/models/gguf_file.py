"""A GGUF file, opened: its keys and its tensors, nothing of it computed yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from draftproof.errors import DraftproofError, MissingExtraError, ModelError


@dataclass(frozen=True)
class GgufFile:
    path: Path
    metadata: dict[str, Any]
    """Key to value; arrays are lists."""
    readers: dict[str, Any]
    """Name to gguf's ReaderTensor, whose data are mapped from the file."""

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture"))

    @property
    def parameters(self) -> int:
        return sum(int(reader.n_elements) for reader in self.readers.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """As torch counts: the file has its dimensions the other way round."""
        return tuple(int(size) for size in reversed(self.readers[name].shape))

    def tensor(self, name: str) -> Tensor:
        """Dequantised, float32."""
        from gguf import dequantize

        found = self.readers[name]
        return torch.from_numpy(np.array(dequantize(found.data, found.tensor_type), dtype=np.float32, order="C"))

    def refused(self, reason: str, remedy: str = "Use the model's safetensors instead.") -> ModelError:
        return ModelError(f"{self.path} {reason}.", remedy=remedy)


def open_gguf(path: Path) -> GgufFile:
    """Raises ModelError for what is no GGUF file, and MissingExtraError without the package `gguf`."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingExtraError(
            "Reading GGUF files needs the package gguf.", remedy="Install it: pip install 'draftproof[engine]'"
        ) from error
    with failures_named(path):
        reader = GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        return GgufFile(path, metadata, {tensor.name: tensor for tensor in reader.tensors})


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """What the reader of the format raises at files that are cut short or made up, as an error of ours."""
    try:
        yield
    except (DraftproofError, MemoryError):
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read, or its copy not written: {error}.") from error
    except Exception as error:
        raise ModelError(
            f"{path} is no GGUF file that can be read: {type(error).__name__}: {error}",
            remedy="Get it again; a download may have ended early.",
        ) from error
