"""Recursive rejection of siblings drawn without replacement: kernel against definition, the law, broken variants."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from draftproof.kernels import decide_siblings
from draftproof.kernels.decide_siblings import Rejected, decide_siblings_torch, tree_residual
from draftproof.kernels.decide_siblings_triton import decide_siblings_triton
from draftproof.kernels.decide_token import decide_token_torch
from draftproof.kernels.residual import positive_part
from tests.kernels.rounds import Chain, Round, assert_same, assert_well_formed, packed, random_chains, random_trees

INF = float("inf")


def decided(function, given: Round, **options):
    return function(given.logits, given.stats, given.drafted, given.q, **options)


def test_the_residual_computed_anew_is_the_one_carried_along():
    g = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 17, generator=g).double().softmax(-1)
    p_carried, q_carried = p, q
    rejected = Rejected(left=[torch.ones((), dtype=torch.float64)])
    for token in (3, 11, 5):
        left = (p_carried - q_carried).clamp(min=0)
        rejected.ids.append(token)
        rejected.masses.append(left.sum())
        rejected.left.append(rejected.left[-1] - q[token])
        p_carried = left / left.sum()
        q_carried = q_carried.index_fill(0, torch.tensor([token]), 0.0)
        q_carried = q_carried / q_carried.sum()
        r, rest = tree_residual(p, q, rejected)
        assert torch.allclose(r, p_carried, atol=1e-14)
        assert torch.allclose(rest, q_carried, atol=1e-14)


@pytest.mark.parametrize(
    ("vocab", "block", "noise"),
    [
        pytest.param(31, 16, 3.0, id="an odd vocabulary, most siblings rejected"),
        pytest.param(97, 64, 0.5, id="a block that does not divide the vocabulary, most accepted"),
    ],
)
def test_the_kernel_decides_as_the_definition_does(vocab, block, noise, device):
    trees = random_trees(vocab, seed=vocab, noise=noise)
    greedy = replace(trees[0], inv_temp=0.0, tokens=[1, int(trees[0].logits[0].argmax()), 2, 3, 4, 5])
    given = packed([*trees, greedy], top_k=vocab // 2)
    one = decided(decide_siblings_torch, given)
    assert_well_formed(one, vocab)
    assert one.path[-1, 0] == 1
    assert_same(one, decided(decide_siblings_triton, given.on(device), block=block))


def test_a_small_vocabulary_where_every_rejection_decides(device):
    """Three siblings of seven tokens: what a rejected one leaves of q is far from q."""
    g = torch.Generator().manual_seed(5)
    batch = []
    for _ in range(40):
        logits = 2.0 * torch.randn(4, 7, generator=g)
        q = (3.0 * torch.randn(1, 7, generator=g)).softmax(-1)
        siblings = torch.multinomial(q[0], 3, generator=g).tolist()
        batch.append(Chain(logits, q, siblings, parent=[-1] * 3, of=[0] * 3))
    given = packed(batch)
    one = decided(decide_siblings_torch, given)
    assert {-1, 0, 1, 2} == set(one.path[:, 0].tolist())
    assert_same(one, decided(decide_siblings_triton, given.on(device), block=16))


def test_a_chain_of_single_children_is_the_token_rule_but_for_its_lanes(device, monkeypatch):
    given = packed(random_chains([3, 3, 2, 1, 0], 31, seed=2))
    original = decide_siblings.coin
    import draftproof.kernels.decide_token as token_rule

    monkeypatch.setattr(token_rule, "coin", lambda seed, position, lane=0: original(seed, position))
    assert_same(decided(decide_siblings_torch, given), decided(decide_token_torch, given))
    assert_same(decided(decide_siblings_torch, given), decided(decide_siblings_triton, given.on(device), block=32))


def test_adversarial_siblings(device):
    g = torch.Generator().manual_seed(1)
    normal = torch.randn(4, 31, generator=g)
    law = normal.softmax(-1)
    parent = [-1, -1, -1]
    one_hot = torch.eye(31)
    spike = torch.full((31,), -INF)
    spike[5] = 1.0
    nan_row = normal.clone()
    nan_row[2] = torch.nan
    pair = torch.zeros(31)
    pair[[1, 2]] = 0.5
    cases = [
        Chain(normal, one_hot[[9]], [9, 8, 7], parent=parent, of=[0, 0, 0]),
        Chain(torch.stack([spike] * 4), law[:1], [1, 5, 2], parent=parent, of=[0, 0, 0]),
        Chain(normal, pair.unsqueeze(0), [1, 2, 3], parent=parent, of=[0, 0, 0]),
        Chain(normal, law[:1], [-1, 31, 2**40], parent=parent, of=[0, 0, 0]),
        Chain(normal, law[:1], [3, 3, 3], parent=parent, of=[0, 0, 0]),
        Chain(normal, law[:1], [1, 2, 3], parent=parent, of=[-(10**6)] * 3),
        Chain(nan_row, law[:2], [1, 2, 3], parent=[-1, 0, 1], of=[0, 1, 1]),
        Chain(normal, law[:1] * torch.nan, [1, 2, 3], parent=parent, of=[0, 0, 0]),
    ]
    given = packed(cases, seed=3)
    one = decided(decide_siblings_torch, given)
    assert_well_formed(one, 31)
    assert one.out[1, 0] == 5
    assert (one.num >= 1)[[0, 1, 2, 3, 4, 5, 7]].all()
    assert_same(one, decided(decide_siblings_triton, given.on(device), block=32))


LAW = torch.tensor([0.0, 1.5, 0.5, -1.0, 0.5, 0.0])
Q = torch.tensor([0.4, 0.05, 0.1, 0.3, 0.1, 0.05])
BOUND = 28.0


def chi_squared_of_the_first_token(draws: int) -> float:
    g = torch.Generator().manual_seed(4)
    batch = []
    for _ in range(draws):
        siblings = torch.multinomial(Q, 3, generator=g).tolist()
        batch.append(Chain(torch.stack([LAW] * 4), Q.unsqueeze(0), siblings, parent=[-1] * 3, of=[0] * 3))
    counts = decided(decide_siblings_torch, packed(batch)).out[:, 0].bincount(minlength=6).double()
    expected = LAW.double().softmax(-1) * draws
    return float(((counts - expected) ** 2 / expected).sum())


def test_the_law_is_that_of_the_target():
    assert chi_squared_of_the_first_token(1500) < BOUND


def test_siblings_tried_against_unchanged_laws_would_show(monkeypatch):
    monkeypatch.setattr(decide_siblings, "tree_residual", lambda p, q, rejected: (p, q))
    assert chi_squared_of_the_first_token(1500) > BOUND


def test_siblings_treated_as_drawn_with_replacement_would_show(monkeypatch):
    def with_replacement(p, q, rejected):
        for mass in rejected.masses:
            p = positive_part(p, q) / mass
        return p, q

    monkeypatch.setattr(decide_siblings, "tree_residual", with_replacement)
    assert chi_squared_of_the_first_token(1500) > BOUND
