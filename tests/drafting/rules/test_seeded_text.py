"""Under the rule match, text is a function of logits and seed: no draft moves a single token of it."""

from __future__ import annotations

import random

import pytest
import torch

from draftproof.drafting.distributions import arg_max, draw, row_law
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import GREEDY, Sampling
from tests.drafting.rules.enumeration import Tree
from tests.drafting.rules.staging import staged

VOCAB = 11
LENGTH = 40
SAMPLINGS = [
    pytest.param(Sampling(1.0, seed=1), id="plain"),
    pytest.param(Sampling(0.8, top_k=4, top_p=0.9, seed=2), id="processed"),
    pytest.param(GREEDY, id="greedy"),
]


def logits_after(text):
    """A model that remembers two tokens."""
    key = 31 * (text[-1] if text else 0) + (text[-2] if len(text) > 1 else 0)
    return 2.0 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(key))


def plain(sampling):
    """Token by token, no rule in sight."""
    text = ()
    rng = KeyedRng(sampling.seed)
    while len(text) < LENGTH:
        row = logits_after(text)
        if sampling.greedy:
            text = (*text, arg_max(row))
        else:
            text = (*text, draw(row, row_law(row, sampling), rng, Purpose.TARGET, len(text)))
    return text


def some_tree(rng, rest):
    """A random tree, at times with a good part of the text that will come (`rest`)."""
    tree = Tree()
    node, planted = -1, rng.random() < 0.7
    for token in rest[: rng.randrange(5)] if planted else ():
        node = tree.add(token, node, torch.zeros(0))
    taken = {(parent, token) for parent, token in zip(tree.parents, tree.tokens, strict=True)}
    for _ in range(rng.randrange(6)):
        parent, token = rng.randrange(-1, len(tree.tokens)), rng.randrange(VOCAB)
        if (parent, token) not in taken:
            taken.add((parent, token))
            tree.add(token, parent, torch.zeros(0))
    return tree


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("name", ["match", "auto", "token", "block", "recursive", "multi-draft"])
def test_any_proposal_gives_the_text_of_plain_decoding(name, sampling):
    """Every rule falls back on `match` for proposals without a q. Rows of a batch move independently."""
    expected = plain(sampling)
    rule = create_rule(name)
    rng = random.Random(f"{name}{sampling}")
    texts = [()] * 3
    accepted = 0
    while any(len(text) < LENGTH for text in texts):
        for index, text in enumerate(texts):
            tree = some_tree(rng, expected[len(text) :])
            verification = staged(
                [tree],
                lambda path, text=text: logits_after((*text, *path)),
                "match",
                [KeyedRng(sampling.seed)],
                sampling,
                position=len(text),
            )
            decision = rule.decide(verification)[0]
            accepted += len(decision.path)
            texts[index] = (*text, *(tree.tokens[node] for node in decision.path), decision.token)
    assert all(text[:LENGTH] == expected for text in texts)
    assert accepted > LENGTH / 4


def test_a_draft_with_a_q_may_be_matched_too():
    sampling = Sampling(1.0, seed=3)
    expected = plain(sampling)
    q = torch.full((VOCAB,), 1 / VOCAB)
    tree = Tree(list(expected[:3]), [-1, 0, 1], [q] * 3)
    verification = staged([tree], logits_after, "reject", [KeyedRng(3)], sampling, position=0)
    decision = create_rule("match").decide(verification)[0]
    assert (decision.path, decision.token) == ((0, 1, 2), expected[3])


def test_another_seed_gives_another_text():
    assert plain(Sampling(1.0, seed=1)) != plain(Sampling(1.0, seed=2))
