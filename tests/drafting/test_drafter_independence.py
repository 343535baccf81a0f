"""Swapping the drafter does not show in sampled text: whole texts through real sessions, compared two by two.

The rules' laws are proved elsewhere, row by row. Here all that lies between a draft and a text is on trial: caches,
trees, several rounds, streams of random numbers. Nothing is known of the law but samples (`two_sample`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.drafters.early_exit import EarlyExit
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.rule import Decision, Rule, RuleSpec, Verification
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.rules.drafted_row import DraftedRow
from draftproof.drafting.rules.follow import decide_rows
from draftproof.drafting.rules.token import residual
from draftproof.drafting.sampling import Sampling
from tests.drafting.rules.broken_rules import correction_from_p
from tests.drafting.two_sample import LEAST_P_VALUE, p_value

PROMPTS = ([5, 17, 44, 8, 9, 23], [71, 3, 3, 60])
TOKENS = 4
COUNT = 160
SAMPLED = Sampling(temperature=1.0, top_k=3)
"""Few enough continuations that a hundred texts tell one law of them from another."""
TREE = {"max_depth": 2, "width": 3, "beam": 2}


def near(model: PreTrainedModel, seed: int, noise: float = 0.15) -> PreTrainedModel:
    """The model with noise on its weights: a draft model that is right often, and wrong often."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for weight in other.parameters():
        if weight.dim() == 2:
            weight.data += noise * weight.std() * torch.randn(weight.shape, generator=generator)
    return other


def small(seed: int, **options: object) -> Callable[[PreTrainedModel], Drafter]:
    return lambda model: SmallLM(LeanLlama.from_transformers(near(model, seed)), **options)  # type: ignore[arg-type]


def colder(model: PreTrainedModel) -> Drafter:
    """The target's own weights at half its temperature: what leaks of its law into the text makes it monotonous."""
    return SmallLM(LeanLlama.from_transformers(model), temperature=0.5)


@dataclass(frozen=True)
class Lax:
    """A rule of the tests: decides rows of the law `reject` by a function."""

    decide_row: Callable[[DraftedRow], Decision]

    @property
    def spec(self) -> RuleSpec:
        return RuleSpec("token", lossless=False, laws=frozenset({"match", "reject"}))

    def decide(self, verification: Verification) -> Sequence[Decision]:
        return decide_rows(verification, self.spec, self.decide_row)


def accepts_too_gladly(row: DraftedRow) -> Decision:
    """The token rule, but for u < 5 p/q instead of u < p/q."""
    for node in range(len(row.tokens)):
        if not row.chance(node, node) * row.q_of(node) < 5.0 * row.p_of(node):
            return Decision(tuple(range(node)), row.draw_left(residual(row.p(node - 1), row.q(node)), node - 1))
    return Decision(tuple(range(len(row.tokens))), row.draw_below(len(row.tokens) - 1))


@dataclass(frozen=True)
class Way:
    """A way to write a text."""

    seed: int
    """Of the first text; those of all ways differ, as their texts have to be independent."""
    rule: str | Rule = "auto"
    drafter: Callable[[PreTrainedModel], Drafter] | None = None


WAYS = {
    "plain": Way(0),
    "token": Way(1, "token", small(1)),
    "token, colder": Way(2, "token", colder),
    "block": Way(3, "block", small(1)),
    "block, early exit": Way(4, "block", lambda model: EarlyExit(1)),
    "recursive": Way(5, "recursive", small(2, **TREE)),
    "multi-draft": Way(6, "multi-draft", small(1, **TREE, siblings="best")),
    "match": Way(7, "match", small(1, law="match", max_depth=2, width=2)),
}
LOSSY = {
    "typical acceptance": Way(8, "typical", small(1)),
    "five times as much accepted": Way(9, Lax(accepts_too_gladly), small(1)),
    "the correction drawn from p": Way(10, Lax(correction_from_p), small(1)),
}

Sample = tuple[tuple[tuple[int, ...], ...], ...]


class Writer:
    """Texts of each way, written once."""

    def __init__(self, model: PreTrainedModel, count: int, tokens: int) -> None:
        self.model, self.count, self.tokens = model, count, tokens
        self.accepted: dict[int, float] = {}
        """Share of drafted tokens that were, by way."""
        self._written: dict[int, Sample] = {}

    def __call__(self, way: Way) -> Sample:
        if way.seed not in self._written:
            self._written[way.seed] = self._write(way)
        return self._written[way.seed]

    def _write(self, way: Way) -> Sample:
        target = LeanLlama.from_transformers(self.model)
        drafter = None if way.drafter is None else way.drafter(self.model)
        rule = create_rule(way.rule) if isinstance(way.rule, str) else way.rule
        decoder = SpeculativeDecoder(target, drafter, rule=rule, policy=Fixed(4))
        prompts = [prompt for prompt in PROMPTS for _ in range(self.count)]
        made = decoder.generate(
            prompts,
            max_new_tokens=self.tokens,
            sampling=[replace(SAMPLED, seed=1_000_000 * way.seed + number) for number in range(len(prompts))],
            stop_ids=frozenset(),
            max_batch=96,
        )
        drafted, accepted = (sum(getattr(each.totals, of) for each in made) for of in ("drafted", "accepted"))
        self.accepted[way.seed] = accepted / max(1, drafted)
        texts = [each.tokens for each in made]
        return tuple(tuple(texts[at : at + self.count]) for at in range(0, len(texts), self.count))


@pytest.fixture(scope="module")
def written(tiny_llama: PreTrainedModel) -> Writer:
    return Writer(tiny_llama, COUNT, TOKENS)


@pytest.mark.parametrize("name", [name for name in WAYS if name != "plain"])
def test_text_through_a_drafter_is_not_told_from_plain_text(written: Writer, name: str) -> None:
    assert p_value(written(WAYS["plain"]), written(WAYS[name])) > LEAST_P_VALUE
    assert 0.02 < written.accepted[WAYS[name].seed] < 0.95, "too little is accepted, or rejected, to be seen"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("token", "token, colder", id="draft models"),
        pytest.param("block", "block, early exit", id="a draft model and an early exit"),
        pytest.param("recursive", "multi-draft", id="trees"),
    ],
)
def test_texts_through_two_drafters_are_not_told_apart(written: Writer, one: str, other: str) -> None:
    assert p_value(written(WAYS[one]), written(WAYS[other])) > LEAST_P_VALUE


@pytest.mark.parametrize("name", LOSSY)
def test_text_of_a_rule_that_is_not_lossless_is_told_from_plain_text(written: Writer, name: str) -> None:
    """The negative control, by as many texts."""
    assert p_value(written(WAYS["plain"]), written(LOSSY[name])) < LEAST_P_VALUE


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_longer_texts_of_each_way(tiny_llama: PreTrainedModel) -> None:
    written = Writer(tiny_llama, 1000, 16)
    found = {name: p_value(written(WAYS["plain"]), written(way)) for name, way in WAYS.items() if name != "plain"}
    assert min(found.values()) > LEAST_P_VALUE, found


def some_texts(law: np.ndarray, seed: int) -> list[list[list[int]]]:
    """50 texts of four tokens for each of two prompts, which follow two laws."""
    chance = np.random.default_rng(seed)
    return [chance.choice(len(law), size=(50, 4), p=np.roll(law, prompt)).tolist() for prompt in range(2)]


def test_the_test_itself_has_uniform_p_values_and_sees_a_fifth_of_the_mass_move() -> None:
    law = np.array([0.4, 0.3, 0.2, 0.1])
    same = np.array([p_value(some_texts(law, 2 * seed), some_texts(law, 2 * seed + 1)) for seed in range(40)])
    assert 0.35 < same.mean() < 0.65
    assert (same < 0.1).sum() <= 9
    moved = law + np.array([-0.2, 0.0, 0.0, 0.2])
    assert max(p_value(some_texts(law, 2 * seed), some_texts(moved, 2 * seed + 1)) for seed in range(5)) < LEAST_P_VALUE
