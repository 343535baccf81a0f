"""What the target says about given text, computed once: hidden states and its most probable next tokens.

For each token position: the last layer's state, scaled to mean square 1 so that it fits float16, and the TOP largest
log-probabilities of the next token, with the mass of all others. Stored as safetensors shards that are bound to the
target and to the text; a killed run keeps the shards that it finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from draftproof.drafting.drafters.vocab_trim import normalised
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.training import self_text
from draftproof.drafting.training.progress import Report, silent
from draftproof.drafting.training.self_text import SelfText
from draftproof.errors import ModelError, UsageError

FORMAT = "draftproof-features-1"
TOP = 32
"""Next tokens whose log-probability is stored; with the rest they make the outcomes that students are trained on."""

SHARD_TOKENS = 16_384
_CHUNK = 256
"""Positions a pass: enough to keep the processor busy, few enough for their logits to fit."""


@dataclass(frozen=True)
class Features:
    """Positions of all texts, one after the other: N positions of M texts."""

    ids: Tensor
    """[N] int64."""
    bounds: Tensor
    """[M+1] int64: text m is at bounds[m] … bounds[m+1] - 1."""
    prompt_lengths: Tensor
    """[M] int64."""
    temperatures: Tensor
    """[M] float32: what each text was sampled with."""
    hidden: Tensor
    """[N, H] float16, mean square 1: the state after ids[n], which predicts the token after it."""
    top_ids: Tensor
    """[N, TOP] int64, the most probable first."""
    top_logprobs: Tensor
    """[N, TOP] float32."""

    @property
    def n_texts(self) -> int:
        return len(self.prompt_lengths)

    def text(self, index: int) -> Tensor:
        return self.ids[int(self.bounds[index]) : int(self.bounds[index + 1])]

    def of_text(self) -> Tensor:
        """[N] int64: which text a position belongs to."""
        return torch.repeat_interleave(torch.arange(self.n_texts), self.bounds.diff())


def extract(model: CachedModel, texts: Sequence[SelfText], folder: Path, *, report: Report = silent) -> Features:
    """Make `folder` hold the features of `texts`, and return them. Finished shards of an earlier run are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = {"format": FORMAT, "target_digest": model.info.digest, "data_digest": self_text.digest(texts)}
    shards = _partition(texts)
    total, done = sum(len(text.ids) for text in texts), 0
    held: list[dict[str, Tensor]] = []
    for number, shard in enumerate(shards):
        file = folder / f"features-{number:05}.safetensors"
        tensors = _stored(file, stated)
        if tensors is None:
            tensors = _shard(model, shard, report, done, total)
            partial = file.with_suffix(".partial")
            save_file(tensors, partial, metadata=stated)
            partial.replace(file)
        held.append(tensors)
        done += sum(len(text.ids) for text in shard)
        report("reading", done, total, f"shard {number + 1} of {len(shards)}")
    for stale in sorted(folder.glob("features-*.safetensors"))[len(shards) :]:
        stale.unlink()
    (folder / "features.json").write_text(json.dumps(stated | {"shards": len(shards)}, indent=2) + "\n")
    return _joined(held)


def load(folder: Path, *, target_digest: str) -> Features:
    """Features that `extract` stored, if they are this target's."""
    described = folder / "features.json"
    if not described.is_file():
        raise UsageError(f"{folder} holds no finished features: there is no {described.name}.")
    stated = json.loads(described.read_text(encoding="utf-8"))
    if stated["target_digest"] != target_digest:
        raise UsageError(
            f"The features in {folder} are of the target {stated['target_digest'][:19]}, not {target_digest[:19]}."
        )
    held = []
    for number in range(int(stated.pop("shards"))):
        tensors = _stored(folder / f"features-{number:05}.safetensors", stated)
        if tensors is None:
            raise UsageError(f"Shard {number} of the features in {folder} is missing or belongs to another run.")
        held.append(tensors)
    return _joined(held)


def _partition(texts: Sequence[SelfText]) -> list[list[SelfText]]:
    shards: list[list[SelfText]] = []
    room = 0
    for text in texts:
        if room < len(text.ids):
            shards.append([])
            room = SHARD_TOKENS
        shards[-1].append(text)
        room -= len(text.ids)
    if not shards:
        raise UsageError("There is no text to read.")
    return shards


def _stored(file: Path, stated: dict[str, str]) -> dict[str, Tensor] | None:
    """The tensors of a shard, or None where there is no file, a broken one, or one of something else."""
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as opened:
            if opened.metadata() != stated:
                return None
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError):
        return None


def _shard(model: CachedModel, texts: Sequence[SelfText], report: Report, done: int, total: int) -> dict[str, Tensor]:
    hidden, top_ids, top_logprobs = [], [], []
    for text in texts:
        for states, logits in _passes(model, text):
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(f"{model.info.name} gives logits that are not numbers for text {text.job}.")
            best = torch.log_softmax(logits.float(), dim=-1).topk(min(TOP, model.info.vocab_size - 1), dim=-1)
            hidden.append(normalised(states).to(torch.float16).cpu())
            top_ids.append(best.indices.to(torch.int32).cpu())
            top_logprobs.append(best.values.to(torch.float16).cpu())
            done += len(logits)
            report("reading", done, total, "")
    lengths = torch.tensor([len(text.ids) for text in texts])
    return {
        "ids": torch.tensor([token for text in texts for token in text.ids], dtype=torch.int32),
        "lengths": lengths.to(torch.int32),
        "prompt_lengths": torch.tensor([text.prompt_length for text in texts], dtype=torch.int32),
        "temperatures": torch.tensor([text.temperature for text in texts], dtype=torch.float32),
        "hidden": torch.cat(hidden),
        "top_ids": torch.cat(top_ids),
        "top_logprobs": torch.cat(top_logprobs),
    }


def _passes(model: CachedModel, text: SelfText) -> Iterator[tuple[Tensor, Tensor]]:
    """Last layer's states and logits of a text, chunk by chunk."""
    layer = model.info.n_layers
    ids = torch.tensor(text.ids)
    model.add_row(text.job)
    try:
        for begin in range(0, len(ids), _CHUNK):
            piece = ids[begin : begin + _CHUNK]
            result = model.forward([RowTokens(text.job, piece)], Wanted(taps=(layer,)))
            model.commit(text.job, range(len(piece)))
            assert result.logits is not None
            yield result.hidden[layer], result.logits
    finally:
        model.drop_row(text.job)


def _joined(shards: Sequence[dict[str, Tensor]]) -> Features:
    def whole(name: str) -> Tensor:
        return torch.cat([shard[name] for shard in shards])

    lengths = whole("lengths").to(torch.int64)
    return Features(
        ids=whole("ids").to(torch.int64),
        bounds=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        prompt_lengths=whole("prompt_lengths").to(torch.int64),
        temperatures=whole("temperatures"),
        hidden=whole("hidden"),
        top_ids=whole("top_ids").to(torch.int64),
        top_logprobs=whole("top_logprobs").float(),
    )
