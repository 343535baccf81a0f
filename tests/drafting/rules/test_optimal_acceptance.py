"""The bound on acceptance against a linear programme and every set; the rules' acceptance as said, and below it."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from draftproof.drafting.rules import multi_draft, recursive, token
from draftproof.drafting.rules.optimal_acceptance import acceptance, optimal_acceptance
from draftproof.errors import UsageError
from tests.drafting.rules.enumeration import (
    BranchingRow,
    every_run,
    sampled_chain,
    siblings_without_replacement,
    top_and_one_drawn,
)


def two_laws(vocab, seed, sharpness=1.5):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.softmax(sharpness * torch.randn(vocab, generator=generator, dtype=torch.float64), -1) for _ in range(2)
    )


def tuples_of_drafts(q, k, replacement):
    """Every tuple of k drafts with its probability."""
    q = q.tolist()
    if replacement:
        return {drafts: float(np.prod([q[x] for x in drafts])) for drafts in product(range(len(q)), repeat=k)}
    laws = {}
    for drafts in permutations(range(len(q)), k):
        left, probability = 1.0, 1.0
        for x in drafts:
            probability *= q[x] / left
            left -= q[x]
        laws[drafts] = probability
    return laws


def by_linear_programme(p, q, k, replacement):
    """The best coupling of a token of law p with the drafts: maximise P(the token is one of them)."""
    drafts = tuples_of_drafts(q, k, replacement)
    vocab, count = len(p), len(drafts)
    gain = np.array([[-1.0 if y in each else 0.0 for each in drafts] for y in range(vocab)]).ravel()
    token_sums = np.kron(np.eye(vocab), np.ones(count))
    draft_sums = np.tile(np.eye(count), vocab)
    result = linprog(
        gain,
        A_eq=np.vstack([token_sums, draft_sums]),
        b_eq=np.concatenate([p.numpy(), list(drafts.values())]),
        method="highs",
    )
    return -result.fun


def by_all_sets(p, q, k, replacement):
    drafts = tuples_of_drafts(q, k, replacement)
    values = []
    for size in range(len(p) + 1):
        for inside in combinations(range(len(p)), size):
            all_inside = sum(weight for each, weight in drafts.items() if set(each) <= set(inside))
            values.append(1.0 + float(p[list(inside)].sum()) - all_inside)
    return min(values)


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_scan_finds_the_best_coupling(seed, k, replacement):
    p, q = two_laws(5, seed)
    found = optimal_acceptance(p, q, k, replacement)
    assert found == pytest.approx(by_all_sets(p, q, k, replacement), abs=1e-9)
    assert found == pytest.approx(by_linear_programme(p, q, k, replacement), abs=1e-7)


def test_one_draft_accepts_the_overlap_at_best():
    p, q = two_laws(50, 4)
    assert optimal_acceptance(p, q, 1) == pytest.approx(float(torch.minimum(p, q).sum()), abs=1e-12)


def test_extremes():
    p, q = two_laws(6, 5)
    assert optimal_acceptance(p, q, 0) == 0.0
    assert optimal_acceptance(p, p, 1) == pytest.approx(1.0, abs=1e-12)
    assert optimal_acceptance(p, q, 6) == pytest.approx(1.0, abs=1e-9), "all tokens are drafted"
    apart = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert optimal_acceptance(apart, torch.tensor([0.5, 0.5, 0.0]), 2) == pytest.approx(0.0, abs=1e-12)
    narrow = torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert optimal_acceptance(third, narrow, 5) == pytest.approx(2 / 3, abs=1e-9), "fewer tokens than drafts"


def test_a_long_tail_keeps_the_integral_exact():
    """Masses from 1 down to 1e-12: k = 2 has a closed form, sum over x in H of q_x (q(H) - q_x) / (1 - q_x)."""
    q = torch.tensor([10.0**-i for i in range(13)], dtype=torch.float64)
    q = q / q.sum()
    p = q.flip(0)
    order = torch.argsort(p / q)
    values = [1.0]
    for n in range(1, len(q) + 1):
        inside = order[:n]
        mass = float(q[inside].sum())
        pairs = sum(float(x) * (mass - float(x)) / (1.0 - float(x)) for x in q[inside])
        values.append(1.0 + float(p[inside].sum()) - pairs)
    assert optimal_acceptance(p, q, 2) == pytest.approx(min(values), abs=1e-9)


def first_level(decide, drafting, p, q):
    """P(some drafted sibling is accepted), by enumeration of the rule's code."""

    def run(branches):
        tree = drafting(lambda text: q, branches)
        return (min(1, len(decide(BranchingRow(tree, lambda text: p, branches)).path)),)

    return sum(weight * result[0] for weight, result in every_run(run))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_a_rule_accepts_is_what_is_said_of_it_and_never_more_than_the_optimum(seed, k):
    p, q = two_laws(5, seed + 10)
    best = optimal_acceptance(p, q, k)
    by_siblings = first_level(recursive.decide_row, siblings_without_replacement([k]), p, q)
    assert acceptance(p, q, k, "recursive") == pytest.approx(by_siblings, abs=1e-12)
    assert by_siblings <= best + 1e-9
    by_greedy_drafts = first_level(multi_draft.decide_row, top_and_one_drawn([k]), p, q)
    assert acceptance(p, q, k, "multi-draft") == pytest.approx(by_greedy_drafts, abs=1e-12)
    assert acceptance(p, q, k, "match") == pytest.approx(float(p[q.topk(k).indices].sum()), abs=1e-12)
    if k == 1:
        by_token = first_level(token.decide_row, sampled_chain(1), p, q)
        assert acceptance(p, q, 1, "token") == pytest.approx(by_token, abs=1e-12)
        assert by_token == pytest.approx(best, abs=1e-9)


def test_more_drafts_never_hurt_and_replacement_never_helps_here():
    for seed in range(5):
        p, q = two_laws(8, seed + 30)
        without = [optimal_acceptance(p, q, k) for k in range(5)]
        assert all(more >= less - 1e-12 for less, more in pairwise(without))
        assert all(optimal_acceptance(p, q, k, replacement=True) <= without[k] + 1e-9 for k in range(5))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p, q: optimal_acceptance(p, q[:-1], 2), "rows of one length"),
        (lambda p, q: optimal_acceptance(p, q, -1), "k is -1"),
        (lambda p, q: optimal_acceptance(p, 2 * q, 1), "q is no distribution"),
        (lambda p, q: acceptance(p, q, 2, "token"), "one draft for a position"),
        (lambda p, q: acceptance(p, q, 2, "typical"), "There are: match, token"),
        (lambda p, q: acceptance(p.repeat(400) / 400, q.repeat(400) / 400, 3, "recursive"), "too many"),
    ],
)
def test_misuse_says_what_was_expected(call, says):
    with pytest.raises(UsageError, match=says):
        call(*two_laws(6, 1))
