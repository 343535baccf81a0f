"""What is printed for a claim, and what is refused before Lean sees it."""

from __future__ import annotations

from fractions import Fraction

import pytest

from draftproof.claims.tree import Binary, Number, Operator, Relation, Variable
from draftproof.provers.statement import MAX_FACTORIAL, Unformalised, formalise


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("48 / 2 = 24", "Holds nothing (div (num 48) (num 2)) eq (num 24)"),
        ("5 - 7 != -2", "Holds nothing (sub (num 5) (num 7)) ne (neg (num 2))"),
        ("0.15 * 240 <= 36", "Holds nothing (mul (ratio 3 20) (num 240)) le (num 36)"),
        ("2 ** 10 < 1025", "Holds nothing (pow (num 2) (num 10)) lt (num 1025)"),
        ("factorial(5) > 119", "Holds nothing (factorial (num 5)) gt (num 119)"),
        ("binomial(5, 2) >= 10", "Holds nothing (binomial (num 5) (num 2)) ge (num 10)"),
        ("abs(-3) = sqrt(9)", "Holds nothing (abs (neg (num 3))) eq (sqrt (num 9))"),
        ("floor(7 / 2) = ceil(5 / 2)", "Holds nothing (floor (div (num 7) (num 2))) eq (ceil (div (num 5) (num 2)))"),
        (
            "gcd(12, 18) + lcm(4, 6) = mod(18, 19)",
            "Holds nothing (add (gcd (num 12) (num 18)) (lcm (num 4) (num 6))) eq (mod (num 18) (num 19))",
        ),
    ],
)
def test_every_construct_has_its_own_word(claim, text, printed):
    assert formalise(claim(text)).text == printed


def test_names_become_numbers_so_that_no_text_reaches_lean(claim):
    statement = formalise(claim("total / axiom_ = sorry", "total = 48", "axiom_ = 2", "sorry = 24"))
    assert statement.hypotheses == "(given 0 (num 48) (given 1 (num 2) (given 2 (num 24) nothing)))"
    assert statement.sides == "(div (var 0) (var 1)) eq (var 2)"
    assert statement.contradiction == f"Contradictory {statement.hypotheses}"
    assert statement.negation == f"Not ({statement.text})"


def test_a_number_is_printed_from_its_value_and_never_from_its_text(claim):
    hostile = Number(Fraction(48), "48) (num 2)) eq (num 24) := proved sorry --")
    given = claim("1 = 1")
    printed = formalise(type(given)(given.relation, hostile, hostile, given.span, given.text))
    assert printed.text == "Holds nothing (num 48) eq (num 48)"


def test_negative_literals_are_negations(claim):
    given = claim("1 = 1")
    printed = formalise(type(given)(given.relation, Number(Fraction(-7, 2), "-3.5"), given.right, given.span, ""))
    assert printed.sides == "(neg (ratio 7 2)) eq (num 1)"


def test_a_tolerance_is_part_of_the_relation(claim):
    assert formalise(claim("10 / 3 ~ 3.33", tolerance=Fraction(1, 100))).sides == (
        "(div (num 10) (num 3)) (about 1 100) (ratio 333 100)"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9 ** 9 ** 9 ** 9 = 1", "too_large"),
        ("2 ** 20001 = 1", "too_large"),
        ("2 ** -20001 = 1", "too_large"),
        ("1 ** 99999999 = 1", "too_large"),
        ("(2 ** 10000) * (2 ** 10000) * 4 = 1", "too_large"),
        ("2 ** 10001 < 3 ** 10001", "too_large"),
        ("factorial(1501) = 1", "too_large"),
        ("factorial(factorial(9)) = 1", "too_large"),
        ("binomial(10 ** 30, 2) = 1", "too_large"),
        ("factorial(0.5) * x = 1", "free_variable"),
        ("x + 1 = 3", "free_variable"),
        ("2 ~ 3", "no_tolerance"),
        (" + ".join(["1"] * 300) + " = 300", "too_large"),
    ],
)
def test_what_is_refused(claim, text, reason):
    with pytest.raises(Unformalised) as refusal:
        formalise(claim(text))
    assert refusal.value.reason == reason


@pytest.mark.parametrize("value", [Fraction(10**4300), Fraction(1, 10**4300), Fraction(-(10**4300))])
def test_a_literal_that_python_will_not_write_is_refused(claim, value):
    given = claim("1 = 1")
    with pytest.raises(Unformalised, match="too_large"):
        formalise(type(given)(given.relation, Number(value, "1"), given.right, given.span, ""))


def test_too_many_nodes_are_refused(claim):
    wide = Number(Fraction(0), "0")
    for _ in range(11):
        wide = Binary(Operator.ADD, wide, wide)
    given = claim("1 = 1")
    with pytest.raises(Unformalised, match="too_large"):
        formalise(type(given)(Relation.EQUAL, wide, wide, given.span, ""))


@pytest.mark.parametrize("tolerance", [Fraction(-1), Fraction(1, 2**20_001)])
def test_a_tolerance_that_is_none_is_refused(claim, tolerance):
    with pytest.raises(Unformalised):
        formalise(claim("2 ~ 3", tolerance=tolerance))


def test_a_hypothesis_must_be_closed(claim):
    with pytest.raises(Unformalised, match="free_variable"):
        formalise(claim("x = 3", "x = y"))


@pytest.mark.parametrize("text", ["(1 + 2) ** (3 + 4) = 2187", "factorial(3 + 4) = 5040", "factorial(-5) = 1"])
def test_what_is_small_is_not_refused(claim, text):
    assert formalise(claim(text)).text


def test_the_size_of_a_name_is_its_values(claim):
    assert formalise(claim("x ** 2 = 4", "x = 2", "x = 2")).text
    with pytest.raises(Unformalised, match="too_large"):
        formalise(claim("2 ** x = 4", "x = 10 ** 6"))
    with pytest.raises(Unformalised, match="too_large"):
        formalise(claim("factorial(x) = 1", "x = 10 ** 30"))


def test_the_bound_on_factorials_is_its_own(claim):
    assert formalise(claim(f"factorial({MAX_FACTORIAL}) > 1")).text


def test_a_variable_alone_is_no_statement(claim):
    given = claim("1 = 1")
    with pytest.raises(Unformalised, match="free_variable"):
        formalise(type(given)(Relation.EQUAL, Variable("x"), Variable("x"), given.span, ""))
