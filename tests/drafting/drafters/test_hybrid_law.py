"""Arbitration keeps the target's law: a draft that was drawn is never dropped because of what was drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from draftproof.drafting.drafters.hybrid import TRIAL_ROUNDS, Hybrid
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.policies.confidence import Confidence
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.session import Session
from tests.drafting.bigram import Bigram

PROMPT = [3, 3, 2, 2, 1, 0, 3, 2, 1]
"""Repeats itself, so that the copying drafter has something to promise."""


class JudgedByItself(Hybrid):
    """The mistake: a drawn draft is judged by its own promise, which grows with the length that it was drawn to."""

    def _worth(self, promise, record, row, drawn):  # type: ignore[no-untyped-def]
        return super()._worth(promise, record, row, drawn=False)


class AskedByItself(Hybrid):
    """The same mistake by a second door: it only decides whether the next child is asked."""

    def _worth_asking(self, child, record, best):  # type: ignore[no-untyped-def]
        promised = [each.expected for each in self._newest]
        return super()._worth_asking(child, record, promised or best)

    def _worth(self, promise, record, row, drawn):  # type: ignore[no-untyped-def]
        self._newest = [promise] if drawn else []
        return super()._worth(promise, record, row, drawn)

    _newest: list = []  # type: ignore[type-arg]  # noqa: RUF012


LIKELY = [[0.25] * 4, [0.01, 0.97, 0.01, 0.01], [0.49, 0.49, 0.01, 0.01], [0.49, 0.49, 0.01, 0.01]]
"""After 2 and 3 comes 0 or 1; after 1 the model is sure, after 0 not: a draft's length tells what was drawn."""

ORDERS = {
    "copy first": lambda: [PromptLookup(), SmallLM(Bigram(LIKELY), max_depth=4)],
    "draw first": lambda: [
        SmallLM(Bigram(LIKELY), max_depth=4),
        SmallLM(Bigram([[0.1, 0.1, 0.1, 0.7]] * 4), max_depth=4, law="match"),
    ],
    "both draw": lambda: [
        SmallLM(Bigram(LIKELY), max_depth=4),
        SmallLM(Bigram([[0.1, 0.1, 0.1, 0.7]] * 4), max_depth=4),
    ],
}


def misfit(kind: type[Hybrid], order: str, brought: tuple[float, float]) -> tuple[float, Counter[str]]:
    """Pearson's statistic (3 degrees of freedom) of the first token of a round, and who drafted.

    `brought`: tokens that each child had right per round, by its record.
    """
    target = Bigram([[0.25] * 4] * 4)
    seen: Counter[int] = Counter()
    sources: Counter[str] = Counter()
    for seed in range(2500):
        drafter = kind(ORDERS[order](), mode="arbitrate")
        for record, kept in zip(drafter._records, brought, strict=True):
            record.mean_kept, record.rounds = kept, TRIAL_ROUNDS
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


@pytest.mark.parametrize(
    ("order", "brought", "drafted"),
    [
        ("copy first", (0.0, 0.0), "prompt-lookup"),
        ("copy first", (0.0, 5.0), "small-lm"),
        ("draw first", (0.5, 0.85), "small-lm-2"),
        ("draw first", (2.0, 1.0), "small-lm"),
        ("both draw", (0.5, 0.85), "small-lm-2"),
    ],
)
def test_arbitration_keeps_the_law_where_drafts_stop_by_what_was_drawn(
    order: str, brought: tuple[float, float], drafted: str
) -> None:
    statistic, sources = misfit(Hybrid, order, brought)
    assert list(sources) == [drafted]
    assert statistic < 21.1  # p = 1e-4


@pytest.mark.parametrize(
    ("kind", "order", "brought"),
    [
        (JudgedByItself, "copy first", (0.0, 5.0)),
        (JudgedByItself, "draw first", (0.5, 0.85)),
        (AskedByItself, "draw first", (0.5, 0.85)),
        (AskedByItself, "both draw", (0.5, 0.85)),
    ],
)
def test_a_choice_by_what_was_drawn_would_be_seen(kind: type[Hybrid], order: str, brought: tuple[float, float]) -> None:
    statistic, sources = misfit(kind, order, brought)
    assert len(sources) == 2, "otherwise nothing is chosen"
    assert statistic > 35  # p = 1e-7


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
