"""Labels read off a first token: only those that were offered, and none that unseen tokens could turn."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.language_model import FirstToken
from draftproof.verifiers.verdict_tokens import DIGITS, SPELLINGS, Labels, Rating, YesOrNo


def first(*top: tuple[str, float]) -> FirstToken:
    return FirstToken(0.0, len(top), top)


def test_spellings_of_a_label_are_added_up_and_others_left_out() -> None:
    labels = Labels.of(first((" B", 0.3), ("B", 0.2), ("**B", 0.1), ("b", 0.1), ("A solution", 0.1), ("C", 0.1)), "AB")
    assert labels.shares == {"A": 0.0, "B": pytest.approx(0.6)}
    words = Labels.of(first((" Yes", 0.4), ("YES", 0.1), ("yes.", 0.1), ("No", 0.2)), ("yes", "no"))
    assert words.shares == {"yes": pytest.approx(0.5), "no": 0.2}


@pytest.mark.parametrize(
    ("top", "winner"),
    [
        pytest.param([("A", 0.6), ("B", 0.4)], "A", id="all is told"),
        pytest.param([("A", 0.5), ("B", 0.5)], None, id="a tie"),
        pytest.param([("A", 0.3), ("x", 0.3)], None, id="the rest could be the other one"),
        pytest.param([("A", 0.5), ("x", 0.3), ("y", 0.01)], "A", id="unseen tokens are less than the last"),
        pytest.param([("x", 0.9), ("y", 0.1)], None, id="no label"),
        pytest.param([("A", 0.00001), ("x", 0.99999)], None, id="no answer"),
        pytest.param([("A", float("nan")), ("B", 0.1)], None, id="no number"),
        pytest.param([("A", float("inf"))], None, id="no probability"),
        pytest.param([("A", -0.1), ("B", 0.1)], None, id="less than nothing"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_the_most_probable_label_is_one_that_nothing_could_turn(
    top: list[tuple[str, float]], winner: str | None
) -> None:
    assert Labels.of(first(*top), "AB").winner() == winner


def test_digits_are_read_from_both_ends() -> None:
    rating = Rating.of(first(("8", 0.6), ("2", 0.4)))
    assert (rating.most_probable(0.5), rating.reversed.most_probable(0.5)) == (8 / 9, 1 / 9)
    assert rating.mean(0.5) == pytest.approx((8 * 0.6 + 2 * 0.4) / 9)
    assert rating.reversed.mean(0.5) == pytest.approx(1 - (8 * 0.6 + 2 * 0.4) / 9)


def test_digits_on_one_side_of_the_threshold_need_not_be_told_apart() -> None:
    rating = Rating.of(first(("9", 0.5), ("8", 0.5)))
    assert rating.most_probable(0.5) is not None
    assert rating.most_probable(8.5 / 9) is None
    assert Rating.of(first(("7", 1.0))).most_probable(7 / 9) == 7 / 9


def test_unseen_digits_can_turn_a_mean() -> None:
    assert Rating.of(first(("6", 0.3), ("x", 0.2))).mean(0.5) is None
    assert Rating.of(first(("9", 0.6), ("x", 0.2))).mean(0.5) == pytest.approx(1.0)
    assert Rating.of(first(("x", 1.0))).mean(0.5) is None


CHANCES = st.lists(st.floats(1e-6, 1.0), min_size=4, max_size=24)


@given(CHANCES, st.integers(1, 23), st.sampled_from([0.0, 0.3, 0.5, 7 / 9, 1.0]), st.randoms(use_true_random=False))
def test_whatever_is_told_the_whole_truth_agrees(chances: list[float], told: int, threshold: float, draw) -> None:  # type: ignore[no-untyped-def]
    """The verdict from the most probable tokens is that from all tokens, or none."""
    spelled = [*DIGITS, *(f" {digit}" for digit in DIGITS), "yes", "no", " yes", " Yes"]
    draw.shuffle(spelled)
    total = sum(chances)
    everything = sorted(zip(spelled, (each / total for each in chances), strict=False), key=lambda one: -one[1])
    assert all(one[1] >= other[1] for one, other in pairwise(everything))
    assert SPELLINGS >= 3
    part, whole = first(*everything[:told]), first(*everything)
    readings = (
        (Rating.of(part).most_probable(threshold), Rating.of(whole).digits.winner(), "digit"),
        (Rating.of(part).mean(threshold), None, "mean"),
        (YesOrNo.of(part).share_of_yes(threshold), None, "word"),
    )
    for found, best, kind in readings:
        if found is None:
            continue
        if kind == "digit" and best is not None:
            assert (found >= threshold) == (int(best) / 9 >= threshold)
        if kind == "mean":
            digits = Rating.of(whole).digits
            mean = sum(int(digit) / 9 * share for digit, share in digits.shares.items()) / digits.mass
            assert (found >= threshold) == (mean >= threshold) or abs(mean - threshold) < 1e-9
        if kind == "word":
            word = YesOrNo.of(whole)
            share = word.yes / (word.yes + word.no)
            assert (found >= threshold) == (share >= threshold) or abs(share - threshold) < 1e-9
