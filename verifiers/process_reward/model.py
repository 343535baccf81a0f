"""A process reward model from a folder: opened cheaply, loaded when it is first asked, and asked in batches.

One forward pass of a trace scores all its steps; traces that are asked together share a padded batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, DynamicCache

from draftproof.drafting.models.checkpoint import read_checkpoint
from draftproof.drafting.models.load import checkpoint_config, failures_named, find_source
from draftproof.drafting.models.tokenizer import load_tokenizer
from draftproof.errors import ModelError, UsageError
from draftproof.verifiers.process_reward.heads import StepNetwork, load_network, padded, tensor_names
from draftproof.verifiers.process_reward.layouts import Layout, find_layout, good_class
from draftproof.verifiers.process_reward.prefix_cache import PrefixCache
from draftproof.verifiers.process_reward.reading import (
    ChatTagReader,
    PrefixReader,
    Reader,
    SeparatorReader,
    TagReader,
    plain_backend,
    single_id,
)
from draftproof.verifiers.process_reward.record import FILE, ProcessRewardRecord, files_digest, read_record

_TOKENS_TOGETHER = 8192
"""Padded tokens of one forward pass."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True)
class Question:
    """Scores that are wanted of one trace."""

    problem: str
    steps: tuple[str, ...]
    wanted: tuple[int, ...]
    """Indices into `steps`."""


@dataclass(frozen=True)
class StepScore:
    score: float
    """Probability that the step is good."""
    logits: tuple[float, ...]
    """As the head gave them: one, or two with the bad class first."""
    token: int
    """Index of the token that the score was read at."""
    fed: int
    """Tokens that the pass read for this step's trace; what was in the cache is not counted."""


@dataclass(frozen=True)
class Unscored:
    """Why there is no score."""

    reason: str
    """empty_step, context_too_long, no_score_position, invalid_text, or not_finite."""
    failed: bool = False
    """Whether the model broke, rather than having nothing to say."""


class ProcessRewardModel:
    """Raises UsageError and ModelError for a folder that is no process reward model, before weights are read."""

    def __init__(
        self, source: str | Path, *, layout: str = "auto", separator: str | None = None, device: str = "cpu"
    ) -> None:
        """
        Args:
            source: folder of a checkpoint, or a hub id.
            layout: one of `Layout`, or `auto`.
            separator: what stands behind each step, where the layout has a separator and the folder does not say.
        """
        self.folder = find_source(source)
        if not self.folder.is_dir():
            raise UsageError(f"Process reward models are folders of safetensors, and {self.folder} is a file.")
        with failures_named(self.folder):
            self._checkpoint = read_checkpoint(self.folder)
            self.weights_digest = files_digest(self._checkpoint.files)
            self.record = read_record(self.folder, self.weights_digest)
            self.layout = find_layout(
                self._checkpoint, tensor_names(self._checkpoint), layout, self.record.layout if self.record else None
            )
            self._config = self._checked_config()
            self._tokenizer: Any = load_tokenizer(self.folder)
            self.reader = _reader(self.layout, self._tokenizer, self.record, separator)
        self._device = _device(device)
        self._dtype = torch.float32 if self._device.type == "cpu" else self._config.dtype or torch.float32
        self._loading = Lock()
        self._cache = PrefixCache()
        if self.layout in (Layout.SEQUENCE, Layout.TOKENS) and self._config.num_labels not in (1, 2):
            raise ModelError(
                f"{self.folder} has {self._config.num_labels} classes; a score needs one, or two (bad and good)."
            )
        self._good = 1
        if self.layout in (Layout.SEQUENCE, Layout.TOKENS) and self._config.num_labels == 2:
            self._good = good_class(self._config.id2label, self.folder)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Digests of everything that scores depend on, and the layout."""
        others = [self.folder / name for name in ("config.json", FILE, *_TOKENIZER_FILES)]
        return {
            "layout": self.layout.value,
            "weights": self.weights_digest,
            "files": files_digest([file for file in others if file.is_file()]),
            "dtype": str(self._dtype).removeprefix("torch."),
        }

    @property
    def context_length(self) -> float:
        """Most tokens of a text; infinite where the configuration sets no limit."""
        return float(getattr(self._config.get_text_config(), "max_position_embeddings", None) or math.inf)

    @cached_property
    def network(self) -> StepNetwork:
        """Loaded when it is first needed. Raises ModelError and OutOfMemoryError."""
        answers = None
        if self.layout is Layout.MATH_SHEPHERD:
            backend = plain_backend(self._tokenizer)
            answers = single_id(backend, "-"), single_id(backend, "+")
        return load_network(
            self._checkpoint,
            self._config,
            self.layout,
            answers=answers,
            closing=bool(self.reader.closing),
            dtype=self._dtype,
            device=self._device,
        )

    def score(self, questions: Sequence[Question]) -> list[list[StepScore | Unscored]]:
        """For each question, one result for each wanted step, in order."""
        with self._loading:
            network = self.network
        results: list[list[StepScore | Unscored]] = [
            [Unscored("no_score_position") for _ in question.wanted] for question in questions
        ]
        rows: list[_Row] = []
        for question, found in zip(questions, results, strict=True):
            rows += self._rows(question, found, causal=network.causal)
        for batch in _batches(rows):
            for row, logits, fed in self._pass(network, batch):
                for place, values in zip(row.places, logits, strict=True):
                    row.found[place.slot] = self._scored(values, place.token, fed)
        return results

    def _rows(self, question: Question, found: list[StepScore | Unscored], *, causal: bool) -> list[_Row]:
        """What is fed for a question. What needs no model is written into `found`: why there is no score."""
        rows: list[_Row] = []
        try:
            "".join((question.problem, *question.steps)).encode()
        except UnicodeEncodeError:
            found[:] = [Unscored("invalid_text") for _ in found]
            return rows
        reader = self.reader
        whole = None if reader.by_step else reader.read(question.problem, question.steps)
        for slot, step in enumerate(question.wanted):
            reading = whole or reader.read(question.problem, question.steps[: step + 1])
            token = reading.ends[step]
            if not question.steps[step].strip():
                found[slot] = Unscored("empty_step")
            elif token is not None and token + len(reader.closing) >= self.context_length:
                found[slot] = Unscored("context_too_long")
            elif token is not None:
                rows.append(_Row((*reading.ids[: token + 1], *reader.closing), (_Place(slot, token),), found))
        return _shared(rows) if causal else rows

    @torch.inference_mode()
    def _pass(self, network: StepNetwork, batch: Sequence[_Row]) -> Iterator[tuple[_Row, list[list[float]], int]]:
        """Logits of each row's places, in order, and how many tokens were fed for them."""
        cached = self._cache.take(batch[0].ids, batch[0].places[0].token) if len(batch) == 1 else None
        cache, known = cached or (None, 0)
        if cache is None and len(batch) == 1 and network.causal:
            cache = DynamicCache(config=self._config)
        ids, mask = padded([row.ids[known:] for row in batch], self._device, self._filler)
        rows = [place for place, row in enumerate(batch) for _ in row.places]
        columns = [place.token - known for row in batch for place in row.places]
        device = self._device
        logits = network(ids, mask, torch.tensor(rows, device=device), torch.tensor(columns, device=device), cache)
        if cache is not None:
            self._cache.put(batch[0].ids, cache)
        if logits.shape[0] != len(rows):
            raise ModelError(f"{self.folder} gave {logits.shape[0]} scores for {len(rows)} steps.")
        values = iter(logits.tolist())
        for row in batch:
            yield row, [next(values) for _ in row.places], len(row.ids) - known

    def _scored(self, logits: list[float], token: int, fed: int) -> StepScore | Unscored:
        if not all(map(math.isfinite, logits)):
            return Unscored("not_finite", failed=True)
        if len(logits) == 1:
            (difference,) = logits
        else:
            difference = logits[self._good] - logits[1 - self._good]
        score = float(torch.sigmoid(torch.tensor(difference, dtype=torch.float64)))  # of two classes, the softmax
        return StepScore(score, tuple(logits), token, fed)

    @property
    def _filler(self) -> int:
        padding = self._config.get_text_config().pad_token_id
        return 0 if padding is None else int(padding)

    def _checked_config(self) -> Any:
        """The configuration as transformers knows this type of model, whatever class of its own a checkpoint names."""
        if self.layout not in (Layout.SEQUENCE, Layout.TOKENS):
            return checkpoint_config(self._checkpoint)
        if self._checkpoint.config["model_type"] not in CONFIG_MAPPING:
            raise ModelError(
                f"{self.folder} holds a model of type {self._checkpoint.config['model_type']!r}, which "
                "transformers does not know."
            )
        read: Any = AutoConfig.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)
        return read


@dataclass(frozen=True)
class _Place:
    slot: int
    """Index into the question's wanted steps."""
    token: int


@dataclass(frozen=True)
class _Row:
    """What is fed as one row, what is read from it, and where that goes."""

    ids: tuple[int, ...]
    places: tuple[_Place, ...]
    found: list[StepScore | Unscored]


def _shared(rows: Sequence[_Row]) -> list[_Row]:
    """The same rows, those that others begin with made part of these."""
    shared: list[_Row] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        for index, longer in enumerate(shared):
            if longer.ids[: len(row.ids)] == row.ids:
                shared[index] = _Row(longer.ids, (*row.places, *longer.places), longer.found)
                break
        else:
            shared.append(row)
    return shared


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Rows of similar length together, at most `_TOKENS_TOGETHER` padded tokens, a row at least."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):  # ascending: the newest is the longest
        if batch and len(row.ids) * (len(batch) + 1) > _TOKENS_TOGETHER:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _reader(layout: Layout, tokenizer: Any, record: ProcessRewardRecord | None, separator: str | None) -> Reader:
    """What turns text into ids for this layout. A line break is what Skywork and TRL put behind a step."""
    if separator is not None and (record is not None or layout in (Layout.QWEN_MATH_PRM, Layout.MATH_SHEPHERD)):
        raise UsageError(
            f"A separator was given, and this model's is known ({'its record' if record else layout.value} says it).",
            remedy="Leave it out.",
        )
    match layout:
        case Layout.SKYWORK:
            return SeparatorReader(tokenizer, problem_separator="\n", step_separator=separator or "\n")
        case Layout.QWEN_MATH_PRM:
            return ChatTagReader(tokenizer)
        case Layout.MATH_SHEPHERD:
            return TagReader(tokenizer)
        case Layout.SEQUENCE:
            return PrefixReader(tokenizer, separator or "\n")
        case Layout.TOKENS:
            return SeparatorReader(
                tokenizer,
                problem_separator=record.problem_separator if record else "",
                step_separator=record.step_separator if record else separator or "\n",
            )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"A device such as cpu or cuda was expected, got {name!r}.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("The device cuda was asked for, and torch sees none.", remedy="Use device=cpu.")
    return device
