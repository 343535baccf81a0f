"""Arbitration keeps the target's law: a draft that was drawn is never dropped because of what was drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from draftproof.drafting.drafters.hybrid import Hybrid
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.model import ModelInfo, Pass, RowTokens, Wanted
from draftproof.drafting.policies.confidence import Confidence
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.session import Session

PROMPT = [3, 3, 2, 2, 1, 0, 3, 2, 1]
"""Repeats itself, so that the copying drafter has something to promise."""


class Bigram:
    """A model whose next token depends on the last one alone: its laws are known exactly."""

    supports_layers = False

    def __init__(self, laws: Sequence[Sequence[float]]) -> None:
        self._logits = torch.tensor(laws, dtype=torch.float64).log().float()
        size = len(laws)
        self.info = ModelInfo(
            "bigram", "Bigram", size, size, 1, 4096, frozenset(), torch.device("cpu"), torch.float32, "test", "bigram"
        )
        self._lengths: dict[int, int] = {}

    def add_row(self, row: int) -> None:
        self._lengths[row] = 0

    def drop_row(self, row: int) -> None:
        del self._lengths[row]

    def length(self, row: int) -> int:
        return self._lengths[row]

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        fed = [each.tokens[-1:] if wanted.logits == "last" else each.tokens for each in batch]
        bounds = [0]
        for tokens in fed:
            bounds.append(bounds[-1] + len(tokens))
        return Pass(None if wanted.logits == "none" else self._logits[torch.cat(fed)], tuple(bounds))

    def commit(self, row: int, slots: Sequence[int]) -> None:
        self._lengths[row] += len(slots)

    def truncate(self, row: int, length: int) -> None:
        self._lengths[row] = length

    def embed(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    head = embed


class JudgedByItself(Hybrid):
    """The mistake: a drawn draft is chosen by its own promise, which grows with the length that it was drawn to."""

    def _chosen(self, request, drafts, promises):  # type: ignore[no-untyped-def]
        for record, draft, promise in zip(self._records, drafts, promises[0], strict=True):
            if draft.law != "match":
                record.mean_kept = promise.expected * record.factor(request.rows[0])
        return super()._chosen(request, drafts, promises)


def misfit(kind: type[Hybrid], brought: float) -> tuple[float, Counter[str]]:
    """Pearson's statistic (3 degrees of freedom) of the first token of a round, and who drafted.

    `brought`: tokens that the draft model had right per round, by its record.
    """
    likely = torch.tensor([[0.25] * 4, [0, 1.0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]]) * 0.96 + 0.01
    target = Bigram([[0.25] * 4] * 4)
    seen: Counter[int] = Counter()
    sources: Counter[str] = Counter()
    for seed in range(2500):
        drafter = kind([PromptLookup(), SmallLM(Bigram(likely.tolist()), max_depth=4)], mode="arbitrate")
        drafter._records[1].mean_kept = brought
        session = Session(target, drafter, create_rule("auto"), Confidence(threshold=0.4, draft_length=4))
        session.open({0: PROMPT}, sampling=Sampling(temperature=1.0, seed=seed), max_new_tokens=12)
        if session.rows[0].tokens[-1] >= 2:
            (outcome,) = session.round([0])
            assert outcome.record is not None
            sources[outcome.record.drafter] += 1
            seen[outcome.tokens[0]] += 1
        session.close([0])
    expected = seen.total() / 4
    return sum((seen[token] - expected) ** 2 / expected for token in range(4)), sources


@pytest.mark.parametrize("brought", [0.0, 5.0], ids=["copy", "draw"])
def test_arbitration_keeps_the_law_where_drafts_stop_by_what_was_drawn(brought: float) -> None:
    statistic, sources = misfit(Hybrid, brought)
    assert list(sources) == ["small-lm" if brought else "prompt-lookup"]
    assert statistic < 21.1  # p = 1e-4


def test_a_choice_by_what_was_drawn_would_be_seen() -> None:
    statistic, sources = misfit(JudgedByItself, 0.0)
    assert len(sources) == 2, "otherwise nothing is chosen"
    assert statistic > 60


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["greedy-first", "sampled-first"])
def test_greedy_and_sampled_rows_are_arbitrated_in_one_batch(order: tuple[int, int]) -> None:
    laws = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1]]
    drafter = Hybrid([PromptLookup(), SmallLM(Bigram(laws), max_depth=4)], mode="arbitrate")
    session = Session(Bigram(laws), drafter, create_rule("auto"), Confidence(threshold=0.0, draft_length=6))
    samplings = {0: Sampling(), 1: Sampling(temperature=1.0, seed=5)}
    for row in order:
        session.open({row: PROMPT}, sampling=samplings[row], max_new_tokens=60)
    while not all(session.rows[row].done for row in order):
        session.round([row for row in order if not session.rows[row].done])
    plain = Session(Bigram(laws), None, create_rule("auto"), Confidence())
    plain.open({0: PROMPT}, max_new_tokens=60)
    while not plain.rows[0].done:
        plain.round([0])
    assert session.rows[0].output == plain.rows[0].output
