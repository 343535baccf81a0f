"""Trained heads as folders: `head.safetensors` with weights and normaliser, `head.json` with all else.

A head reads one model's states; any other's are noise to it. So the base model's digest is kept in both files, and
whoever loads a head says which model it is for.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from draftproof.canonical import digest
from draftproof.drafting.drafters.weights_digest import weights_digest
from draftproof.drafting.model import ModelInfo
from draftproof.errors import DraftproofError, InputError, UsageError
from draftproof.verifiers.uncertainty_head.features import FeatureSet
from draftproof.verifiers.uncertainty_head.head import HeadConfig, StepHead

FORMAT = "draftproof-uncertainty-head"
VERSION = 1
WEIGHTS_FILE = "head.safetensors"
RECORD_FILE = "head.json"
_MOST_BYTES = 64 << 20
"""Of either file: a head of ten million float32 weights has 40 MB. A file must not make us read without end."""


@dataclass(frozen=True)
class Base:
    """The model whose internals a head reads."""

    name: str
    digest: str
    """`ModelInfo.digest`: architecture and weights."""
    hidden_size: int
    n_layers: int
    writer: str
    """What `LanguageModel.identity` ends with: a digest of weights, tokenizer and chat template."""

    @classmethod
    def of(cls, info: ModelInfo, writer: str) -> Base:
        return cls(info.name, info.digest, info.hidden_size, info.n_layers, writer)

    def check(self, info: ModelInfo, writer: str | None, what: str) -> None:
        """Raises UsageError when `info` is another model, or `writer` the same one with another tokenizer."""
        if info.digest != self.digest:
            raise UsageError(
                f"{what} was trained for {self.name} ({self.digest[:19]}), not for {info.name} ({info.digest[:19]}): "
                "its scores would mean nothing.",
                remedy="Train one for this model: draftproof train uncertainty-head.",
            )
        if writer is not None and writer != self.writer:
            raise UsageError(
                f"{what} was trained for {self.name} with another tokenizer or chat template.",
                remedy="Use those that it was trained with, or train another.",
            )


@dataclass(frozen=True)
class HeadRecord:
    """What is known of a head beside its weights."""

    base: Base
    features: FeatureSet
    blank: tuple[int, ...]
    """Token ids that say nothing (`features.blank_ids`): online, no tokenizer is at hand to ask."""
    training: dict[str, Any] = field(default_factory=dict)
    """Label source and counts, base rate, measures, settings, seed, digest of the data."""


@dataclass(frozen=True)
class TrainedHead:
    head: StepHead
    record: HeadRecord
    digest: str
    """Of the weights, the shape and what they are applied to."""


def save_head(folder: Path, head: StepHead, record: HeadRecord) -> None:
    """Both files, the weights first and at once, so that a folder with a record is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in head.state_dict().items()}
    partial = folder / f"{WEIGHTS_FILE}.partial"
    save_file(tensors, partial, metadata={"base_digest": record.base.digest})  # one entry: several come in any order
    partial.replace(folder / WEIGHTS_FILE)
    described = {
        "format": FORMAT,
        "version": VERSION,
        "base": asdict(record.base),
        "head": asdict(head.config),
        "features": asdict(record.features),
        "normaliser": f"mean and standard deviation of the training tokens: `mean`, `std` in {WEIGHTS_FILE}",
        "blank": list(record.blank),
        "training": record.training,
    }
    partial = folder / f"{RECORD_FILE}.partial"
    partial.write_text(json.dumps(described, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(folder / RECORD_FILE)


def load_head(folder: Path, info: ModelInfo | None = None, writer: str | None = None) -> TrainedHead:
    """A head ready to judge. `info` and `writer`: of the model that it will be used with.

    Raises UsageError where there is none, or one of another version or another model; InputError for damaged files.
    """
    record_file, weights_file = folder / RECORD_FILE, folder / WEIGHTS_FILE
    if not record_file.is_file() or not weights_file.is_file():
        raise UsageError(
            f"{folder} holds no uncertainty head: {RECORD_FILE} and {WEIGHTS_FILE} are expected in it.",
            remedy="Train one: draftproof train uncertainty-head.",
        )
    for file in (record_file, weights_file):
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file} has {file.stat().st_size:,} bytes, which is more than any head has.")
    try:
        described = json.loads(record_file.read_text(encoding="utf-8"))
        _check_version(described, record_file)
        record = _record(described)
        config = HeadConfig(**described["head"])
        tensors, stated = _tensors(weights_file)
        head = StepHead(config)
        _fill(head, tensors, weights_file)
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError, RecursionError) as error:
        if isinstance(error, DraftproofError):
            raise
        raise InputError(f"The uncertainty head in {folder} cannot be read: {error!r}") from error
    if stated != record.base.digest:
        raise InputError(f"{RECORD_FILE} and {WEIGHTS_FILE} in {folder} are of different heads.")
    if info is not None:
        record.base.check(info, writer, f"The uncertainty head in {folder}")
    return TrainedHead(head.eval().requires_grad_(False), record, _digest(head, record))


def _check_version(described: Any, file: Path) -> None:
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise InputError(f"{file} does not describe an uncertainty head.")
    if described.get("version") != VERSION:
        raise UsageError(
            f"{file} is of version {described.get('version')!r}; this program reads version {VERSION}.",
            remedy="Train the head again, or use the program that made it.",
        )


def _record(described: dict[str, Any]) -> HeadRecord:
    base, features = described["base"], described["features"]
    return HeadRecord(
        base=Base(
            name=str(base["name"]),
            digest=str(base["digest"]),
            hidden_size=int(base["hidden_size"]),
            n_layers=int(base["n_layers"]),
            writer=str(base["writer"]),
        ),
        features=FeatureSet(**{**features, "layers": tuple(features["layers"])}),
        blank=tuple(int(token) for token in described["blank"]),
        training=dict(described["training"]),
    )


def _tensors(file: Path) -> tuple[dict[str, Tensor], str | None]:
    with safe_open(str(file), framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        return tensors, (opened.metadata() or {}).get("base_digest")


def _fill(head: StepHead, tensors: dict[str, Tensor], file: Path) -> None:
    """Load the weights, which must be exactly those of this shape."""
    expected = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    for what, names in (("lacks", expected.keys() - found.keys()), ("has a strange", found.keys() - expected.keys())):
        if names:
            raise InputError(f"{file} {what} tensor {min(names)}.")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"{file}: {name} has shape {found[name]}, and {RECORD_FILE} makes it {shape}.")
        if not tensors[name].is_floating_point() or not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{file}: {name} holds values that are not numbers.")
    if not bool((tensors["std"] > 0).all()):
        raise InputError(f"{file}: std holds a standard deviation that is not above 0.")
    head.load_state_dict({name: value.float() for name, value in tensors.items()})


def _digest(head: StepHead, record: HeadRecord) -> str:
    """Two heads of equal digests say the same of the same internals."""
    return digest(
        {
            "weights": weights_digest(head, None),
            "features": {**asdict(record.features), "layers": list(record.features.layers)},
            "blank": list(record.blank),
        }
    )
