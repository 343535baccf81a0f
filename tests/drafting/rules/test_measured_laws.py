"""The rules with their real random streams: what they emit has the target's law, also given what was rejected.

The exact laws are proved in `test_exact_laws.py`; here streams and addresses are on trial, which enumeration skips.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from draftproof.drafting.distributions import draw_from_probs
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.rules import block, follow, multi_draft, recursive, token
from draftproof.drafting.rules.block import BlockRule
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.rules.token import TokenRule, residual
from tests.drafting.rules.broken_rules import (
    SharedNoise,
    draft_noise_met_again,
    raw_q_reported,
    scrambled_columns,
)
from tests.drafting.rules.enumeration import (
    Tree,
    continued,
    emitted_law,
    random_laws,
    sampled_chain,
    siblings_without_replacement,
    top_and_one_drawn,
)
from tests.drafting.rules.goodness import LEAST_P_VALUE, fits, p_value
from tests.drafting.rules.staging import at_least, play, staged

PARTS = [
    pytest.param("token", "reject", sampled_chain(2), id="token"),
    pytest.param("block", "reject", sampled_chain(2), id="block"),
    pytest.param("recursive", "reject_wor", siblings_without_replacement([3, 1]), id="recursive"),
    pytest.param("multi-draft", "reject_greedy", top_and_one_drawn([3, 1]), id="multi-draft"),
    pytest.param("match", "match", sampled_chain(2), id="match"),
]


DECIDE = {
    "token": token.decide_row,
    "block": block.decide_row,
    "recursive": recursive.decide_row,
    "multi-draft": multi_draft.decide_row,
    "match": follow.follow_draws,
}


def some_laws(vocab):
    """Laws of two tokens that depend on the first, close enough that acceptance is neither rare nor sure."""
    target = random_laws(vocab, 2, seed=21)
    other = random_laws(vocab, 2, seed=22)
    return target, lambda text: 0.5 * target(text) + 0.5 * other(text)


def rounds(name, law, drafting, target, draft, count, streams=KeyedRng):
    for begin in range(0, count, 500):
        rngs = [streams(seed) for seed in range(begin, min(begin + 500, count))]
        for rng, (decision, emitted) in zip(
            rngs, play(create_rule(name), drafting, law, target, draft, rngs), strict=True
        ):
            yield rng, decision, emitted


def measured(name, law, drafting, vocab, count):
    """Counts of the first two tokens of rounds [V, V], and the target's law of them."""
    target, draft = some_laws(vocab)
    pairs = np.zeros((vocab, vocab))
    for rng, _, emitted in rounds(name, law, drafting, target, draft, count):
        pairs[at_least(target, emitted, 2, rng)] += 1
    return pairs, continued(target, (), vocab, 2)


def emits_the_law(name, law, drafting, vocab, count):
    pairs, wanted = measured(name, law, drafting, vocab, count)
    assert fits(pairs.sum(axis=1), wanted.sum(axis=1))
    assert fits(pairs.ravel(), wanted.ravel())


@pytest.mark.parametrize(("name", "law", "drafting"), PARTS)
def test_single_tokens_and_pairs_have_the_law_of_the_target(name, law, drafting):
    emits_the_law(name, law, drafting, vocab=8, count=1000)


WIDE, WIDE_COUNT = 32, 2000


def in_groups(pairs):
    """[32, 32] -> [8 * 8]: four ids each. Of 1024 pairs, 2000 draws hit few often enough to tell anything."""
    return pairs.reshape(8, 4, 8, 4).sum(axis=(1, 3)).ravel()


@pytest.mark.parametrize(("name", "law", "drafting"), PARTS)
def test_a_wider_vocabulary(name, law, drafting):
    pairs, wanted = measured(name, law, drafting, WIDE, WIDE_COUNT)
    assert fits(pairs.sum(axis=1), wanted.sum(axis=1))
    assert fits(in_groups(pairs), in_groups(wanted))


@pytest.mark.parametrize(
    "drafting",
    [
        pytest.param(scrambled_columns(2), id="columns of other tokens"),
        pytest.param(raw_q_reported(2, lambda q: q**1.5 / (q**1.5).sum()), id="q of before the temperature"),
    ],
)
def test_a_wider_vocabulary_tells_a_q_that_is_not_true_by_as_many_draws(drafting):
    """The negative control: single tokens and groups of pairs, each by itself."""
    pairs, wanted = measured("token", "reject", drafting, WIDE, WIDE_COUNT)
    assert p_value(pairs.sum(axis=1), wanted.sum(axis=1)) < LEAST_P_VALUE / 1000
    assert p_value(in_groups(pairs), in_groups(wanted)) < LEAST_P_VALUE / 1000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("vocab", [8, 32])
@pytest.mark.parametrize(("name", "law", "drafting"), PARTS)
def test_two_hundred_thousand_rounds(name, law, drafting, vocab):
    emits_the_law(name, law, drafting, vocab, count=200_000)


LEFT_UNEVENLY = (
    torch.tensor([0.30, 0.40, 0.10, 0.10, 0.02, 0.02, 0.02, 0.04], dtype=torch.float64),
    torch.tensor([0.01, 0.25, 0.30, 0.30, 0.01, 0.01, 0.10, 0.02], dtype=torch.float64),
)
"""p and q whose residual holds a token that q knows well and one that it hardly knows: shared noise favours one."""


def corrections(name, count, streams=KeyedRng):
    """Counts of the tokens that replace a rejected first one."""
    target, draft = (lambda text: LEFT_UNEVENLY[0]), (lambda text: LEFT_UNEVENLY[1])
    counts = np.zeros(8)
    for _, decision, emitted in rounds(name, "reject", sampled_chain(2), target, draft, count, streams):
        if not decision.path:
            counts[emitted[0]] += 1
    return counts


@pytest.mark.parametrize("name", ["token", "block"])
def test_corrections_after_a_first_rejection_have_the_law_of_the_residual(name):
    assert fits(corrections(name, 1500), residual(*LEFT_UNEVENLY).numpy())


def test_noise_shared_by_draft_and_residual_is_found_where_it_shows_first():
    """The same check of corrections, with residual draws that meet the draft's numbers, must fail."""
    assert p_value(corrections("token", 3000, SharedNoise), residual(*LEFT_UNEVENLY).numpy()) < LEAST_P_VALUE / 1000


@pytest.mark.parametrize(("name", "law", "drafting"), PARTS)
def test_as_many_tokens_are_accepted_as_the_laws_allow(name, law, drafting):
    """Within three standard errors of what enumeration says."""
    vocab, count = 4, 500
    target, draft = some_laws(vocab)
    mean = emitted_law(DECIDE[name], drafting, target, draft, vocab, 2)[1]
    accepted = np.array([len(d.path) for _, d, _ in rounds(name, law, drafting, target, draft, count)])
    assert abs(accepted.mean() - mean) < 3 * accepted.std() / math.sqrt(count)


def test_the_token_rule_accepts_the_overlap_of_the_two_laws():
    target, draft = some_laws(8)
    overlap = float(torch.minimum(target(()), draft(())).sum())
    first = np.array([bool(d.path) for _, d, _ in rounds("token", "reject", sampled_chain(1), target, draft, 1000)])
    assert abs(first.mean() - overlap) < 3 * math.sqrt(overlap * (1 - overlap) / len(first))


# Rounds that follow each other: numbers of later positions were looked at before

P, Q = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)


def texts_of_rounds(rule, drawn, count, length=3, drafted=2):
    """Counts [2, 2, 2] of texts made by rounds of the rule; `drawn(rng, position)` drafts."""
    counts = np.zeros((2,) * length)
    texts = [() for _ in range(count)]
    while open_rows := [seed for seed, text in enumerate(texts) if len(text) < length]:
        by_position = {len(texts[seed]) for seed in open_rows}
        for position in by_position:
            rows = [seed for seed in open_rows if len(texts[seed]) == position]
            rngs = [KeyedRng(seed) for seed in rows]
            trees = [
                Tree(drawn([Q] * drafted, rng, position), list(range(-1, drafted - 1)), [Q] * drafted) for rng in rngs
            ]
            verification = staged(trees, lambda text: P.log(), "reject", rngs, position=position)
            for seed, tree, decision in zip(rows, trees, rule.decide(verification), strict=True):
                texts[seed] = (*texts[seed], *(tree.tokens[node] for node in decision.path), decision.token)
    for text in texts:
        counts[text[:length]] += 1
    return counts.ravel()


def fresh_in_every_round(laws, rng, position):
    return draft_noise_met_again(laws, rng.of_round(position), position)


@pytest.mark.parametrize("rule", [TokenRule(), BlockRule()], ids=lambda rule: rule.spec.name)
def test_texts_of_several_rounds_have_the_law_of_the_target(rule):
    wanted = continued(lambda text: P, (), 2, 3).ravel()
    assert fits(texts_of_rounds(rule, fresh_in_every_round, 1500), wanted)


def test_block_verification_with_draft_noise_that_is_met_again_is_found():
    wanted = continued(lambda text: P, (), 2, 3).ravel()
    assert p_value(texts_of_rounds(BlockRule(), draft_noise_met_again, 1500), wanted) < LEAST_P_VALUE / 1000


def test_no_number_decides_twice_whatever_the_rounds():
    """Two rounds that begin at different positions ask for no address in common."""
    asked = []

    class Watched(KeyedRng):
        def uniform(self, purpose, position, lane=0):
            asked.append((purpose, position, lane))
            return 0.999999

    for position in range(10, 14):
        tree = Tree([0, 0, 0], [-1, 0, 1], [Q] * 3)
        BlockRule().decide(staged([tree], lambda text: P.log(), "reject", [Watched(1)], position=position))
    assert len(asked) == 4 * 3
    assert len(set(asked)) == len(asked)


def test_streams_of_rounds_differ_and_are_reproducible():
    rng = KeyedRng(7)
    assert rng.of_round(3) == rng.of_round(3)
    assert len({rng.of_round(position).seed for position in range(1000)}) == 1000
    assert rng.of_round(3).uniform(Purpose.DRAFT, 3) != rng.uniform(Purpose.DRAFT, 3)
    assert draw_from_probs(torch.tensor([0.0, 1.0]), rng, Purpose.DRAFT, 0) == 1
