"""Laws of rows against transformers and their definition; draws against the laws, however they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from draftproof.drafting.distributions import (
    arg_max,
    distribution,
    draw,
    draw_distinct,
    draw_from_probs,
    probabilities,
    probability,
    row_law,
)
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.sampling import Sampling
from draftproof.errors import NumericalError, UsageError
from tests.drafting.rules.goodness import fits

INFINITY = float("inf")


def rows(count=20, vocab=97, seed=0, spread=3.0):
    return spread * torch.randn(count, vocab, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param(Sampling(1.0), id="softmax"),
        pytest.param(Sampling(0.7), id="temperature"),
        pytest.param(Sampling(1.3, top_k=5), id="top-k"),
        pytest.param(Sampling(0.9, top_k=500), id="top-k wider than the vocabulary"),
        pytest.param(Sampling(0.8, top_p=0.9), id="top-p"),
        pytest.param(Sampling(2.0, top_p=0.999), id="top-p of nearly all"),
        pytest.param(Sampling(1.0, top_p=1e-6), id="top-p of one token"),
        pytest.param(Sampling(1.1, top_k=12, top_p=0.7), id="top-p within top-k"),
    ],
)
def test_laws_are_those_of_transformers_without_ties(sampling):
    """The order is theirs too: temperature, top-k, top-p of what top-k left."""
    processors = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        processors.append(TopPLogitsWarper(sampling.top_p))
    logits = rows()
    theirs = torch.softmax(processors(torch.zeros(len(logits), 1, dtype=torch.int64), logits.clone()), dim=-1)
    assert torch.allclose(probabilities(logits, sampling), theirs, atol=1e-6)


def test_top_k_and_top_p_in_the_other_order_would_be_another_law():
    logits = rows()
    sampling = Sampling(1.1, top_k=12, top_p=0.7)
    swapped = LogitsProcessorList([TemperatureLogitsWarper(1.1), TopPLogitsWarper(0.7), TopKLogitsWarper(12)])
    theirs = torch.softmax(swapped(torch.zeros(len(logits), 1, dtype=torch.int64), logits.clone()), dim=-1)
    assert not torch.allclose(probabilities(logits, sampling), theirs, atol=1e-3)


def test_ties_are_kept_at_the_cut_of_top_k_and_top_p():
    logits = torch.tensor([3.0, 1.0, 1.0, 1.0, -5.0])
    assert (probabilities(logits, Sampling(1.0, top_k=2)) > 0).tolist() == [True, True, True, True, False]
    assert (probabilities(logits, Sampling(1.0, top_p=0.75)) > 0).tolist() == [True, True, True, True, False]
    theirs = TopPLogitsWarper(0.75)(torch.zeros(1, 1, dtype=torch.int64), logits.reshape(1, -1))
    assert int(theirs.isfinite().sum()) == 2  # which of the three equals stays is the whim of a sort
    equal = torch.zeros(7)
    assert torch.allclose(probabilities(equal, Sampling(1.0, top_k=1)), torch.full((7,), 1 / 7))


def test_top_p_keeps_the_shortest_prefix_that_holds_the_mass():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    kept = {top_p: int((probabilities(p.log(), Sampling(1.0, top_p=top_p), torch.float64) > 0).sum()) for top_p in
            (0.01, 0.49, 0.51, 0.79, 0.81, 0.96)}  # fmt: skip
    assert kept == {0.01: 1, 0.49: 1, 0.51: 2, 0.79: 2, 0.81: 3, 0.96: 4}


def test_top_p_beyond_the_head_of_a_wide_flat_row():
    """More tokens than are looked at first hold the mass."""
    logits = rows(2, vocab=5003, spread=0.1)
    law = probabilities(logits, Sampling(1.0, top_p=0.9))
    assert ((law > 0).sum(-1) > 4000).all()
    full = torch.softmax(logits, -1)
    for row, kept in zip(full, law > 0, strict=True):
        assert float(row[kept].sum()) >= 0.9 - 1e-5
        assert float(row[kept].sum() - row[kept].min()) < 0.9


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(1.0, top_k=9), Sampling(1.2, top_k=30, top_p=0.8)])
def test_three_numbers_hold_the_law_of_a_row(sampling):
    for logits in rows(5):
        law = row_law(logits, sampling)
        exact = probabilities(logits, sampling, torch.float64)
        assert torch.allclose(distribution(logits, law).double(), exact, atol=2e-6)
        assert float(distribution(logits, law).sum()) == pytest.approx(1.0, abs=1e-5)
        for token in (0, int(logits.argmax()), int(logits.argmin())):
            assert probability(logits, law, token) == pytest.approx(float(exact[token]), abs=2e-6)
        half = row_law(logits.to(torch.bfloat16), sampling)
        assert torch.equal(
            distribution(logits.to(torch.bfloat16), half),
            distribution(logits.to(torch.bfloat16).float(), row_law(logits.to(torch.bfloat16).float(), sampling)),
        )


def test_banned_tokens_have_no_mass():
    logits = torch.full((6,), -INFINITY)
    logits[4] = -2.0
    law = row_law(logits, Sampling(1.0, top_k=3, top_p=0.5))
    assert distribution(logits, law).tolist() == [0, 0, 0, 0, 1, 0]
    assert draw(logits, law, KeyedRng(1), Purpose.TARGET, 0) == 4
    assert probability(logits, law, 0) == 0.0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([1.0, float("nan")], "holds NaN"),
        ([1.0, INFINITY], r"holds \+inf"),
        ([-INFINITY, -INFINITY], "has no finite value"),
    ],
)
def test_rows_that_are_no_numbers_are_named(bad, says):
    for broken in (
        lambda row: row_law(row, Sampling(1.0), "Row 3:"),
        lambda row: probabilities(row, Sampling(1.0), where="Row 3:"),
        lambda row: probabilities(row, Sampling(), where="Row 3:"),
        lambda row: arg_max(row, "Row 3:"),
    ):
        with pytest.raises(NumericalError, match=f"Row 3: {says}"):
            broken(torch.tensor(bad))


def test_a_temperature_that_overflows_is_an_error_and_not_a_guess():
    with pytest.raises(NumericalError, match="temperature is too close to 0"):
        row_law(torch.tensor([1000.0, 1.0]), Sampling(1e-37))


def test_greedy_is_the_arg_max_with_ties_to_the_lowest_id():
    logits = torch.tensor([1.0, 7.0, 7.0, -INFINITY])
    assert arg_max(logits) == 1
    assert probabilities(logits, Sampling()).tolist() == [0, 1, 0, 0]
    with pytest.raises(UsageError, match="Temperature 0"):
        row_law(logits, Sampling())


def test_draws_have_the_law_of_the_row():
    logits, sampling = rows(1, vocab=16, seed=4, spread=1.5)[0], Sampling(0.9, top_k=12)
    law = row_law(logits, sampling)
    counts = np.bincount([draw(logits, law, KeyedRng(5), Purpose.TARGET, i) for i in range(4000)], minlength=16)
    assert fits(counts, probabilities(logits, sampling, torch.float64).numpy())
    assert not fits(counts, probabilities(logits, Sampling(1.2, top_k=12), torch.float64).numpy())


def test_a_draw_is_the_same_by_a_dense_or_a_sparse_race():
    """Which numbers are made depends on how many tokens are left; which token wins must not."""
    rng = KeyedRng(9)
    for position, logits in enumerate(rows(20, vocab=3001, spread=2.0)):
        p = torch.softmax(logits, -1)
        dense = draw_from_probs(p, rng, Purpose.TARGET, position)
        ids = torch.arange(3001)
        assert dense == draw_from_probs(p, rng, Purpose.TARGET, position, ids=ids)
        few = p.clone()
        few[p < p.topk(40).values[-1]] = 0.0
        noise = rng.exponentials(Purpose.TARGET, position, ids)
        assert draw_from_probs(few, rng, Purpose.TARGET, position) == int((noise / few).argmin())
        assert dense == int((noise / p).argmin())


def test_noise_belongs_to_the_token_and_not_to_the_column():
    ids = torch.tensor([3, 17, 40, 41])
    weights = torch.tensor([0.1, 0.4, 0.3, 0.2])
    full = torch.zeros(97)
    full[ids] = weights
    for position in range(50):
        trimmed = draw_from_probs(weights, KeyedRng(2), Purpose.DRAFT, position, ids=ids)
        assert trimmed == draw_from_probs(full, KeyedRng(2), Purpose.DRAFT, position)


def test_drawing_several_is_drawing_from_what_is_left():
    """P(first i, then j) = p_i p_j / (1 - p_i)."""
    p = torch.tensor([0.5, 0.25, 0.15, 0.1])
    counts = np.zeros((4, 4))
    for position in range(4000):
        first, second = draw_distinct(p, 2, KeyedRng(3), Purpose.DRAFT, position)
        counts[first, second] += 1
    exact = p.double().numpy()
    law = exact[:, None] * exact[None, :] / (1 - exact[:, None])
    np.fill_diagonal(law, 0.0)
    assert fits(counts.ravel(), law.ravel())


def test_no_more_are_drawn_than_have_mass():
    p = torch.tensor([0.0, 0.6, 0.0, 0.4])
    assert sorted(draw_distinct(p, 4, KeyedRng(3), Purpose.DRAFT, 0)) == [1, 3]
    assert draw_distinct(p, 1, KeyedRng(3), Purpose.DRAFT, 0)[0] in (1, 3)


@pytest.mark.parametrize("weights", [torch.zeros(3), torch.tensor([float("nan"), 0.0]), torch.zeros(0)])
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_to_draw_from_is_an_error(weights, count):
    with pytest.raises(NumericalError, match="nothing to draw from"):
        draw_distinct(weights, count, KeyedRng(1), Purpose.DRAFT, 0)


def test_rare_tokens_keep_their_share():
    """A thousand tokens of 1e-9 each against one of the rest are drawn with 1e-6, not never: half of the mass here."""
    p = torch.full((1001,), 1e-9)
    p[0] = 1e-6
    hits = sum(draw_from_probs(p, KeyedRng(4), Purpose.TARGET, position) > 0 for position in range(800))
    assert abs(hits - 400) < 4 * 200**0.5
