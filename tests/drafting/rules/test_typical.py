"""Typical acceptance does what its paper says, and is not lossless: the checks of the lossless rules fail it."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.rules.typical import TypicalRule, floor
from tests.drafting.rules.enumeration import Tree, continued, distance, random_laws
from tests.drafting.rules.staging import log_of, play, staged


def law(*row):
    return torch.tensor(row, dtype=torch.float64)


def test_the_floor_falls_with_entropy_and_is_capped():
    certain, even = law(1.0, 0.0, 0.0, 0.0), torch.full((4,), 0.25, dtype=torch.float64)
    assert floor(certain, epsilon=0.09, delta=0.3) == pytest.approx(0.09)
    assert floor(even, epsilon=0.09, delta=0.3) == pytest.approx(0.3 / 4)
    assert floor(even, epsilon=0.3, delta=0.09) == pytest.approx(0.09 * math.exp(-math.log(4)))


def test_the_longest_accepted_path_is_kept_and_of_equals_the_most_probable():
    rows = {
        (): law(0.45, 0.35, 0.195, 0.005),
        (0,): law(0.97, 0.01, 0.01, 0.01),
        (1,): law(0.5, 0.49, 0.005, 0.005),
        (2,): law(0.1, 0.2, 0.3, 0.4),
    }

    def target(text):
        return rows.get(text, law(0.7, 0.1, 0.1, 0.1))

    def path(tokens, parents):
        tree = Tree(tokens, parents, [])
        return TypicalRule().decide(staged([tree], log_of(target), "match"))[0].path

    assert path([0, 1, 2, 1], [-1, -1, -1, 0]) == (0,), "of single tokens the most probable"
    assert path([0, 1, 1], [-1, -1, 1]) == (1, 2), "two tokens are more than one"
    assert path([3, 0], [-1, 0]) == (), "nothing below a token that is not likely enough"
    assert path([0, 1, 0, 1, 0], [-1, -1, 1, 1, 0]) == (0, 4), "0.45 x 0.97 beats 0.35 x 0.5"


def test_the_law_of_the_target_is_not_kept():
    target = random_laws(4, 2, 1)

    def likeliest(draft, choices):
        return Tree([int(draft(()).argmax())], [-1], [draft(())])

    rngs = [KeyedRng(seed) for seed in range(300)]
    counts = Counter(emitted[0] for _, emitted in play(TypicalRule(), likeliest, "match", target, target, rngs))
    frequencies = torch.tensor([counts[token] / 300 for token in range(4)]).numpy()
    assert distance(frequencies, continued(target, (), 4, 1)) > 0.2
