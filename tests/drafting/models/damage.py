"""Ways in which a checkpoint's folder can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None takes one out."""
    found = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


Damage = Callable[[Path], None]


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    no_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def nonsense(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def a_tensor_less(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def index_of_nothing(folder: Path) -> None:
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def index_of_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../outside.safetensors"}}')


def index_that_is_none(folder: Path) -> None:
    no_weights(folder)
    (folder / "model.safetensors.index.json").write_text('["weight_map"]')


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')


def configured(**fields: Any) -> Damage:
    return lambda folder: change(folder / "config.json", **fields)


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{" * 100_000)


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Surprise"}}')
