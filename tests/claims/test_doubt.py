"""Each reason for which a false equation is not held against a step, and its negative control."""

from __future__ import annotations

import pytest

from draftproof.claims.evaluate import decide
from draftproof.claims.extract import extract_claims


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("2 1/2 + 1 = 4", "mixed_number", id="mixed-number"),
        pytest.param("6/2(1 + 2) = 1", "implicit_product_after_division", id="implicit-product"),
        pytest.param("-2^2 = 4", "signed_power", id="signed-power"),
        pytest.param("So there are 5 + 3 = 8!", "factorial_or_exclamation", id="exclamation"),
        pytest.param("50 + 20% = 60", "percent_added_to_number", id="percent-added"),
        pytest.param("28 / 1/5 = 140", "division_chain", id="division-chain"),
        pytest.param("1.5 hours + 30 minutes = 2 hours", "mixed_units", id="mixed-units"),
        pytest.param("$2.50 - $2.24 = 26 cents more", "mixed_units", id="dollars-and-cents"),
        pytest.param("3 feet * 2 = 72 inches", "mixed_units", id="result-in-another-unit"),
        pytest.param("1.2 x 100 = 120,000", "scale", id="thousands"),
        pytest.param("3/3 - 2/3 = 1/3 of $150", "share_of_something", id="share-of"),
        pytest.param("48 = 100% + 20%", "percent_for_number", id="percents-for-a-number"),
        pytest.param("3600/6000 * 100 = 59.9%", "percent_for_number", id="hundredths"),
        pytest.param("5 + 3 = 8 * 2 = 16", "running_total", id="running-total"),
        pytest.param("0.33 * 300 = 100", "rounded_inputs", id="rounded-inputs"),
        pytest.param("145 / 488 ≈ 0.2969", "loose_approximation", id="loose-approximation"),
        pytest.param("200 / 0.4536 = 441 pounds", "rounded_to_integer", id="nearest-integer"),
        pytest.param("Rate for 20 frogs = 1800/9", "label_not_value", id="a-name-that-ends-in-a-number"),
        pytest.param("the units digit of 16^17 is 6", "argument_of_a_word", id="digit-of"),
        pytest.param("They were 14, 400 / 80 = 180", "split_number", id="split-number"),
        pytest.param("the sum of 3 and 4 + 2 = 9", "joined_to_words_before", id="and-before"),
        pytest.param("on day 1 * 2 = 20", "joined_to_words_before", id="ordinal-before"),
        pytest.param("5 + 3 = 7 more than that", "joined_to_words_after", id="more-after"),
        pytest.param("25 - 1 = 3 weeks 3 days", "second_number_after", id="weeks-and-days"),
        pytest.param("25 - 1 = 3 boxes 3 bags", "second_number_after", id="second-number"),
        pytest.param("2 + 8 = 4, which is false", "denied", id="denied"),
        pytest.param("If we try 2 + 8 = 2 * 2", "on_trial", id="on-trial"),
        pytest.param("Is 2 + 8 = 4?", "asked_not_asserted", id="asked"),
        pytest.param("Working modulo 7, 5 + 3 = 1", "other_arithmetic", id="modulo"),
        pytest.param("Rounding down, 7 / 2 = 3", "rounded_in_words", id="rounding-in-words"),
        pytest.param("The integer part is 7 / 2 = 3", "rounded_in_words", id="truncating-in-words"),
        pytest.param("5 + 3 = 7 (since 2 boxes broke)", "bracket_after", id="bracket-after"),
    ],
)
def test_a_doubtful_equation_is_undecided(text: str, reason: str) -> None:
    extraction = extract_claims(text)
    assert not [claim for claim in extraction.claims if decide(claim).holds is False]
    assert reason in [item.reason for item in extraction.undecided]


def test_the_problem_may_set_another_arithmetic() -> None:
    assert extract_claims("5 + 3 = 11", (), "Compute in base 7.").undecided[0].reason == "other_arithmetic"
    assert decide(extract_claims("5 + 3 = 11", (), "Compute.").claims[0]).holds is False


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2 1/2 * 2 = 5", id="mixed-number"),
        pytest.param("60/100 * 100 = 60", id="hundredths"),
        pytest.param("If we try 5 + 3 = 8", id="on-trial"),
        pytest.param("Working modulo 7, 5 + 3 = 8", id="modulo"),
        pytest.param("the sum of 3 and 4 + 2 = 6", id="joined"),
        pytest.param("5 + 3 = 8, not 9", id="denied"),
    ],
)
def test_a_true_equation_is_never_doubted(text: str) -> None:
    (claim,) = extract_claims(text).claims
    assert decide(claim).holds is True


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(-9 + 1 + -1) = (-9 + -1)", id="a-wrong-simplification-is-no-running-total"),
        pytest.param("(9 + 27 - 2) = (34 - 2) = 32", id="bracketed-simplification"),
        pytest.param("$4.20 + $9.45 + $1.35 = $14.99", id="prices-are-not-rounded"),
        pytest.param("(-0.5)(-2.5) = 1.5", id="halves-are-not-rounded"),
        pytest.param("11 / 5 = 2", id="far-from-the-nearest-integer"),
        pytest.param("192 * 100 = $1920", id="a-factor-of-ten"),
        pytest.param("For c = 12: 12^3 + 3 = 1732", id="a-calculation-in-a-case"),
        pytest.param("To check, 256 + 128 = 383", id="a-calculation-in-a-check"),
        pytest.param("7 / 2 = 3", id="integer-division"),
        pytest.param("A part is 21 / 3 = 8", id="nothing-to-truncate"),
        pytest.param("<<10/4=3>>3 is not the end", id="annotations-assert"),
        pytest.param("5 + 3 = 7 eggs left", id="plain"),
        pytest.param(r"\sqrt{24 \cdot 14 \cdot 7 \cdot 3} = \sqrt{6336}", id="roots-apart"),
        pytest.param("2^{2/3} = 2^{1/6}", id="rational-powers-apart"),
    ],
)
def test_a_plainly_wrong_equation_is_held_against_the_step(text: str) -> None:
    assert any(decide(claim).holds is False for claim in extract_claims(text).claims)


def test_rounded_inputs_are_moved_wherever_they_stand() -> None:
    text = "-0.33 * |0.5 - 300.5| = -100"
    assert [item.reason for item in extract_claims(text).undecided] == ["rounded_inputs"]


def test_more_rounded_inputs_than_can_be_tried_are_not_tried() -> None:
    text = " + ".join(f"1.{n}1 * 2" for n in range(1, 8)) + " = 9"
    assert any(decide(claim).holds is False for claim in extract_claims(text).claims)
