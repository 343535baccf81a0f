"""Every lossless rule emits the target's law exactly, and mistakes made elsewhere do not: by enumeration in float64."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from draftproof.drafting.rules import block, follow, match, multi_draft, recursive, token
from tests.drafting.rules import broken_rules as broken
from tests.drafting.rules.enumeration import (
    BranchingRow,
    Tree,
    continued,
    distance,
    emitted_law,
    every_run,
    fixed_tree,
    random_laws,
    sampled_chain,
    siblings_without_replacement,
    top_and_one_drawn,
)

EXACT = 1e-12
VISIBLE = 1e-3
"""Least distance that counts as caught: a thousand million times the tolerance."""


def one_hot_first(vocab, depth, seed):
    """Laws whose every second row is certain of one token."""
    laws = random_laws(vocab, depth, seed)

    def law(text):
        row = laws(text)
        return torch.eye(vocab, dtype=torch.float64)[int(row.argmax())] if sum(text) % 2 else row

    return law


def with_holes(vocab, depth, seed):
    """Laws that give their least probable token no mass at all."""
    laws = random_laws(vocab, depth, seed)

    def law(text):
        row = laws(text).clone()
        row[row.argmin()] = 0.0
        return row / row.sum()

    return law


def far_from_target(decide, drafting, vocab, length, target, draft):
    law, _ = emitted_law(decide, drafting, target, draft, vocab, length)
    assert law.sum() == pytest.approx(1.0, abs=1e-9)
    return distance(law, continued(target, (), vocab, length))


CHAIN_RULES = [pytest.param(token.decide_row, id="token"), pytest.param(block.decide_row, id="block")]
WORLDS = [
    pytest.param(random_laws, random_laws, id="all tokens possible"),
    pytest.param(with_holes, with_holes, id="supports that differ"),
    pytest.param(one_hot_first, random_laws, id="a target that is sometimes certain"),
    pytest.param(random_laws, one_hot_first, id="a drafter that is sometimes certain"),
]


@pytest.mark.parametrize("decide", CHAIN_RULES)
@pytest.mark.parametrize(("target_laws", "draft_laws"), WORLDS)
@pytest.mark.parametrize(("vocab", "length"), [(2, 3), (3, 2), (4, 2)])
def test_chains_with_a_q_emit_the_law_of_the_target(decide, target_laws, draft_laws, vocab, length):
    target, draft = target_laws(vocab, length + 1, 1), draft_laws(vocab, length, 2)
    assert far_from_target(decide, sampled_chain(length), vocab, length + 1, target, draft) < EXACT


@pytest.mark.parametrize("decide", CHAIN_RULES)
def test_three_drafted_tokens_of_three_emit_the_law_of_the_target(decide):
    assert far_from_target(decide, sampled_chain(3), 3, 4, random_laws(3, 4, 3), random_laws(3, 3, 4)) < EXACT


@pytest.mark.parametrize("decide", CHAIN_RULES)
def test_equal_laws_accept_every_token(decide):
    laws = random_laws(3, 3, 5)
    law, accepted = emitted_law(decide, sampled_chain(2), laws, laws, 3, 3)
    assert accepted == pytest.approx(2.0, abs=1e-12)
    assert distance(law, continued(laws, (), 3, 3)) < EXACT


@pytest.mark.parametrize(("target_laws", "draft_laws"), WORLDS)
@pytest.mark.parametrize(("vocab", "widths"), [(4, [3]), (4, [4]), (3, [2, 2]), (3, [1, 2]), (2, [2, 1, 1])])
def test_siblings_without_replacement_emit_the_law_of_the_target(target_laws, draft_laws, vocab, widths):
    depth = len(widths)
    target, draft = target_laws(vocab, depth + 1, 6), draft_laws(vocab, depth, 7)
    far = far_from_target(recursive.decide_row, siblings_without_replacement(widths), vocab, depth + 1, target, draft)
    assert far < EXACT


@pytest.mark.parametrize(("target_laws", "draft_laws"), WORLDS)
@pytest.mark.parametrize(("vocab", "widths"), [(4, [3]), (4, [1, 2]), (3, [2, 2]), (3, [3, 1])])
def test_greedy_drafts_emit_the_law_of_the_target(target_laws, draft_laws, vocab, widths):
    depth = len(widths)
    target, draft = target_laws(vocab, depth + 1, 8), draft_laws(vocab, depth, 9)
    far = far_from_target(multi_draft.decide_row, top_and_one_drawn(widths), vocab, depth + 1, target, draft)
    assert far < EXACT


@pytest.mark.parametrize(
    ("tokens", "parents"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([2, 0, 1], [-1, 0, 1], id="a chain"),
        pytest.param([0, 2, 1, 0, 2], [-1, -1, 0, 1, 1], id="a tree"),
    ],
)
def test_the_target_s_own_draws_emit_its_law_whatever_is_drafted(tokens, parents):
    far = far_from_target(
        follow.follow_draws, fixed_tree(tokens, parents), 3, 4, random_laws(3, 4, 10), random_laws(3, 4, 11)
    )
    assert far < EXACT
    assert match.MatchRule().spec.lossless


def test_drafting_may_end_after_an_improbable_token():
    drafting = broken.improbable_tokens_kept(2, least=0.3)
    for decide in (token.decide_row, block.decide_row):
        assert far_from_target(decide, drafting, 3, 3, random_laws(3, 3, 1), random_laws(3, 2, 2)) < EXACT


def sharpened(q):
    """Temperature 1/2 and top-2."""
    law = torch.where(q >= q.topk(2).values[-1], q**2, 0.0)
    return law / law.sum()


MISTAKES = [
    pytest.param(token.decide_row, broken.arg_max_with_soft_q(2), id="arg-max drafts with a soft q"),
    pytest.param(block.decide_row, broken.arg_max_with_soft_q(2), id="arg-max drafts with a soft q, block"),
    pytest.param(
        broken.siblings_against_the_first_laws, siblings_without_replacement([2, 1]), id="siblings, p' not updated"
    ),
    pytest.param(broken.siblings_still_in_q, siblings_without_replacement([3, 1]), id="siblings, q' not updated"),
    pytest.param(broken.block_of_the_leading_run, sampled_chain(2), id="block that takes the leading run"),
    pytest.param(broken.block_with_the_token_residual, sampled_chain(2), id="block with the token rule's residual"),
    pytest.param(token.decide_row, broken.improbable_tokens_dropped(2, 0.3), id="improbable drafts dropped"),
    pytest.param(block.decide_row, broken.improbable_tokens_dropped(2, 0.3), id="improbable drafts dropped, block"),
    pytest.param(broken.correction_from_p, sampled_chain(2), id="correction drawn from p"),
    pytest.param(token.decide_row, broken.raw_q_reported(2, sharpened), id="raw q reported"),
    pytest.param(token.decide_row, broken.scrambled_columns(2), id="scrambled columns of q"),
    pytest.param(broken.last_sibling_against_all_of_q, top_and_one_drawn([2, 1]), id="greedy drafts against all of q"),
    pytest.param(token.decide_row, siblings_without_replacement([2, 1]), id="a tree to a rule for chains"),
    pytest.param(recursive.decide_row, top_and_one_drawn([2, 1]), id="greedy drafts to the rule for drawn ones"),
]


@pytest.mark.parametrize(("decide", "drafting"), MISTAKES)
def test_a_mistake_misses_the_law_of_the_target(decide, drafting):
    worst = max(
        far_from_target(decide, drafting, 3, 3, random_laws(3, 3, seed), random_laws(3, 3, seed + 50))
        for seed in range(3)
    )
    assert worst > VISIBLE


P, Q = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)


def law_of_rounds(decide, *, drafted_again, length=3, drafted=2):
    """The law [2, 2, 2] of texts made by rounds; `drafted_again` gives a position the same draft in every round."""

    def run(branches):
        text, known = [], {}
        while len(text) < length:
            tree = Tree()
            first = len(text) if drafted_again else len(known)
            for node, place in enumerate(range(first, first + drafted)):
                if place not in known:
                    known[place] = branches.choose(Q.tolist())
                tree.add(known[place], node - 1, Q)
            decision = decide(BranchingRow(tree, lambda text: P, branches))
            text += [*(tree.tokens[node] for node in decision.path), decision.token]
        return tuple(text[:length])

    law = np.zeros((2,) * length)
    for weight, text in every_run(run):
        law[text] += weight
    return law


def test_rounds_that_draft_from_the_same_numbers_bias_block_verification():
    wanted = continued(lambda text: P, (), 2, 3)
    assert distance(law_of_rounds(block.decide_row, drafted_again=False), wanted) < EXACT
    assert distance(law_of_rounds(token.decide_row, drafted_again=True), wanted) < EXACT
    biased = law_of_rounds(block.decide_row, drafted_again=True)
    assert distance(biased, wanted) == pytest.approx(7 / 108, abs=EXACT)


def mean_accepted(decide, drafting, target, draft, vocab, length):
    return emitted_law(decide, drafting, target, draft, vocab, length)[1]


def test_block_verification_accepts_what_its_paper_says_and_token_verification_less():
    """Sun et al., section 2: p = (1/3, 2/3), q = (2/3, 1/3), two drafted tokens: 11/9 against 10/9."""
    target, draft = (lambda text: P), (lambda text: Q)
    accepted = partial(mean_accepted, drafting=sampled_chain(2), target=target, draft=draft, vocab=2, length=3)
    assert accepted(block.decide_row) == pytest.approx(11 / 9, abs=1e-12)
    assert accepted(token.decide_row) == pytest.approx(10 / 9, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_block_verification_never_accepts_less_than_token_verification(seed):
    target, draft = random_laws(3, 3, seed), random_laws(3, 2, seed + 100)
    accepted = partial(mean_accepted, drafting=sampled_chain(2), target=target, draft=draft, vocab=3, length=3)
    by_block, by_token = accepted(block.decide_row), accepted(token.decide_row)
    assert by_block >= by_token - 1e-12
    first = accepted(block.decide_row, drafting=sampled_chain(1))
    assert first == pytest.approx(accepted(token.decide_row, drafting=sampled_chain(1)), abs=1e-12)
