"""How long a training run will take, from a few timed passes of its own target on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from draftproof.drafting.drafters.head_models import DraftHeads, HeadsConfig
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.training.features import TOP
from draftproof.drafting.training.heads import HeadsTraining, cross_entropy
from draftproof.drafting.training.self_text import TextPlan

_CHUNK = 256


@dataclass(frozen=True)
class Estimate:
    """Seconds of each stage."""

    generating: float
    reading: float
    training: float

    @property
    def total(self) -> float:
        return self.generating + self.reading + self.training


def estimate_heads(
    model: CachedModel, plan: TextPlan, training: HeadsTraining, vocabulary: int, dtype: torch.dtype
) -> Estimate:
    """For `draftproof train heads`; a few seconds of timing."""
    generating, reading = estimate_text(model, plan)
    steps = training.epochs * -(-plan.tokens // training.batch)
    return Estimate(generating, reading, steps * _step_seconds(model, training, vocabulary, dtype))


def estimate_text(model: CachedModel, plan: TextPlan) -> tuple[float, float]:
    """Seconds to generate the text of a plan, and to read it once more for features."""
    mean_prompt = sum(map(len, plan.prompts)) / len(plan.prompts)
    jobs = max(1.0, plan.tokens / plan.max_new_tokens)
    pass_of_all = _pass_seconds(model, min(plan.batch, int(jobs) + 1), 1, Wanted(logits="last"))
    chunk = min(_CHUNK, model.info.context_length // 2)
    token = _pass_seconds(model, 1, chunk, Wanted(taps=(model.info.n_layers,))) / chunk
    generating = plan.tokens / min(plan.batch, int(jobs) + 1) * pass_of_all + jobs * mean_prompt * token
    return generating, (plan.tokens + jobs * mean_prompt) * token


def fastest_dtype(width: int, columns: int) -> torch.dtype:
    """float32, or bfloat16 where this CPU multiplies it at least half as fast again."""
    states, weight = torch.randn(256, width), torch.randn(columns, width)

    def seconds(dtype: torch.dtype) -> float:
        left, right = states.to(dtype), weight.to(dtype)
        return _fastest(lambda: torch.nn.functional.linear(left, right))

    return torch.bfloat16 if 1.5 * seconds(torch.bfloat16) < seconds(torch.float32) else torch.float32


def _pass_seconds(model: CachedModel, rows: int, tokens: int, wanted: Wanted) -> float:
    """Of a pass over so many tokens of so many rows that hold 8 tokens each."""
    ids = torch.zeros(max(8, tokens), dtype=torch.int64)
    batch = [RowTokens(row, ids[:tokens]) for row in range(rows)]
    for row in range(rows):
        model.add_row(row)
    try:
        model.forward([RowTokens(row, ids[:8]) for row in range(rows)], Wanted(logits="none"))
        for row in range(rows):
            model.commit(row, range(8))
        return _fastest(lambda: model.forward(batch, wanted))
    finally:
        for row in range(rows):
            model.drop_row(row)


def _step_seconds(model: CachedModel, training: HeadsTraining, vocabulary: int, dtype: torch.dtype) -> float:
    """Of a step of training, without reading its data."""
    info, n = model.info, training.batch
    kept = TrimmedVocabulary(torch.arange(min(vocabulary, info.vocab_size)), info.vocab_size)
    config = HeadsConfig(training.kind, training.n_heads, info.hidden_size, info.vocab_size, training.n_layers)
    heads = DraftHeads(config, kept)
    hidden = torch.randn(n, info.hidden_size)
    embedded = torch.randn(n, training.n_heads, info.hidden_size)
    columns = min(TOP, kept.size)
    classes = torch.arange(columns).expand(n, columns)
    mass = torch.full((n, columns + 1), 1.0 / (columns + 1))

    def step() -> None:
        losses = []
        for head in range(training.n_heads):
            state = heads.state(head, hidden, embedded[:, : head + 1])
            losses.append(cross_entropy(heads.logits(state.to(dtype)).float(), classes, mass))
        torch.stack(losses).sum().backward()

    return 1.1 * _fastest(step)  # the optimiser's own work


def _fastest(work: Callable[[], object], repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best
