"""Exact values, bounds on irrational ones, and what is refused before it is computed."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from draftproof.claims.bounds import enclose
from draftproof.claims.evaluate import Undefined, decide, evaluate
from draftproof.claims.extract import extract_claims
from draftproof.claims.plain import plain, plain_number
from draftproof.claims.tree import (
    Apply,
    Binary,
    Claim,
    Expression,
    Function,
    Hypothesis,
    Negate,
    Number,
    Operator,
    Relation,
    Variable,
    variables,
)
from draftproof.trace import Span


def n(value: int | Fraction | str) -> Number:
    return Number(Fraction(value), str(value))


def claim(left: Expression, relation: Relation, right: Expression, **more: object) -> Claim:
    return Claim(relation, left, right, Span(start=0, end=1), "?", **more)  # type: ignore[arg-type]


def call(function: Function, *arguments: int | Fraction) -> Apply:
    return Apply(function, tuple(n(a) for a in arguments))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (call(Function.ABSOLUTE, -3), 3),
        (call(Function.FACTORIAL, 5), 120),
        (call(Function.BINOMIAL, 5, 2), 10),
        (call(Function.BINOMIAL, 2, 5), 0),
        (call(Function.SQUARE_ROOT, Fraction(9, 4)), Fraction(3, 2)),
        (call(Function.FLOOR, Fraction(-7, 2)), -4),
        (call(Function.CEILING, Fraction(-7, 2)), -3),
        (call(Function.GCD, 0, 0), 0),
        (call(Function.GCD, 12, 18), 6),
        (call(Function.LCM, 4, 6), 12),
        (call(Function.MODULO, -7, 3), 2),
        (Binary(Operator.POWER, n(2), n(-2)), Fraction(1, 4)),
        (Binary(Operator.POWER, n(-1), n(10**30)), 1),
        (Binary(Operator.POWER, n(-1), n(10**30 + 1)), -1),
        (Binary(Operator.POWER, n(0), n(10**9)), 0),
        (Negate(n(3)), -3),
    ],
)
def test_values(expression: Expression, value: int | Fraction) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (Binary(Operator.DIVIDE, n(1), n(0)), "division_by_zero"),
        (Binary(Operator.POWER, n(0), n(-1)), "division_by_zero"),
        (Binary(Operator.POWER, n(0), n(0)), "no_rational_value"),
        (Binary(Operator.POWER, n(2), n(Fraction(1, 2))), "no_rational_value"),
        (Binary(Operator.POWER, n(9), Binary(Operator.POWER, n(9), n(9))), "too_large"),
        (Binary(Operator.POWER, n(2), n(10**9)), "too_large"),
        (call(Function.FACTORIAL, 10**9), "too_large"),
        (call(Function.FACTORIAL, 1000), None),
        (call(Function.FACTORIAL, -1), "no_rational_value"),
        (call(Function.FACTORIAL, Fraction(1, 2)), "no_rational_value"),
        (call(Function.BINOMIAL, 10**9, 2), "too_large"),
        (call(Function.SQUARE_ROOT, 2), "no_rational_value"),
        (call(Function.SQUARE_ROOT, -1), "no_rational_value"),
        (call(Function.MODULO, 3, 0), "no_rational_value"),
        (call(Function.MODULO, 3, Fraction(1, 2)), "no_rational_value"),
        (call(Function.GCD, Fraction(1, 2), 3), "no_rational_value"),
        (Variable("x"), "free_variable"),
    ],
)
def test_what_has_no_value(expression: Expression, reason: str | None) -> None:
    if reason is None:
        assert evaluate(expression)
        return
    with pytest.raises(Undefined) as raised:
        evaluate(expression)
    assert raised.value.reason == reason


def test_a_sum_of_large_values_is_bounded() -> None:
    large = Number(Fraction(2) ** 19_999, "2^19999")
    with pytest.raises(Undefined, match="too_large"):
        evaluate(Binary(Operator.MULTIPLY, large, large))


@pytest.mark.parametrize(
    ("relation", "left", "right", "holds"),
    [
        (Relation.EQUAL, 2, 2, True),
        (Relation.EQUAL, 2, 3, False),
        (Relation.NOT_EQUAL, 2, 3, True),
        (Relation.LESS, 2, 2, False),
        (Relation.AT_MOST, 2, 2, True),
        (Relation.GREATER, 3, 2, True),
        (Relation.AT_LEAST, 1, 2, False),
    ],
)
def test_relations(relation: Relation, left: int, right: int, holds: bool) -> None:
    assert decide(claim(n(left), relation, n(right))).holds is holds


def test_about_needs_and_uses_its_tolerance() -> None:
    near = claim(n(Fraction(10, 3)), Relation.ABOUT, n("3.33"), tolerance=Fraction(1, 100))
    assert decide(near).holds is True
    with pytest.raises(ValueError, match="tolerance"):
        decide(claim(n(1), Relation.ABOUT, n(1)))


def test_hypotheses_give_values_and_contradictions_are_noticed() -> None:
    x = Variable("x")
    rests = claim(Binary(Operator.ADD, x, n(1)), Relation.EQUAL, n(6), hypotheses=(Hypothesis("x", n(5), 0),))
    assert decide(rests).holds is True
    both = claim(x, Relation.EQUAL, n(5), hypotheses=(Hypothesis("x", n(5), 0), Hypothesis("x", n(6), 1)))
    assert decide(both) == decide(both)
    assert decide(both).reason == "contradictory_hypotheses"
    undefined = claim(x, Relation.EQUAL, n(5), hypotheses=(Hypothesis("x", call(Function.SQUARE_ROOT, 2), 0),))
    assert decide(undefined).holds is None
    assert decide(claim(x, Relation.EQUAL, n(5))).reason == "free_variable"


def test_division_by_zero_makes_a_claim_false_only_when_nothing_else_is_unknown() -> None:
    zero = Binary(Operator.DIVIDE, n(5), n(0))
    assert decide(claim(zero, Relation.EQUAL, n(0))).reason == "division_by_zero"
    assert decide(claim(zero, Relation.EQUAL, n(0))).holds is False
    assert decide(claim(zero, Relation.EQUAL, call(Function.SQUARE_ROOT, 2))).holds is None


@pytest.mark.parametrize(
    ("relation", "right", "holds"),
    [
        (Relation.EQUAL, "1.5", False),
        (Relation.NOT_EQUAL, "1.5", True),
        (Relation.LESS, "1.5", True),
        (Relation.AT_MOST, "1.4", False),
        (Relation.GREATER, "1.4", True),
        (Relation.AT_LEAST, "1.5", False),
    ],
)
def test_irrational_sides_are_decided_by_bounds(relation: Relation, right: str, holds: bool) -> None:
    decision = decide(claim(call(Function.SQUARE_ROOT, 2), relation, n(right)))
    assert decision.holds is holds
    assert decision.reason == "by_bounds"


def test_equal_irrational_sides_are_never_called_equal_or_different() -> None:
    root = Binary(Operator.MULTIPLY, n(2), call(Function.SQUARE_ROOT, 2))
    assert decide(claim(root, Relation.EQUAL, call(Function.SQUARE_ROOT, 8))).holds is None
    assert decide(claim(root, Relation.LESS, call(Function.SQUARE_ROOT, 8))).holds is None


def test_bounds_hold_the_value_and_are_narrow() -> None:
    (read,) = extract_claims(r"\frac{(1 - \sqrt{5})^2 + 2^{-1/2}}{0 - 3^{1/3}} = 1").claims
    interval = enclose(read.left)
    value = ((1 - math.sqrt(5)) ** 2 + 2**-0.5) / -(3 ** (1 / 3))
    assert interval.low < interval.high < interval.low + Fraction(1, 2**150)
    assert abs(float(interval.low) - value) < 1e-12


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param(
            Binary(
                Operator.DIVIDE,
                n(1),
                Binary(Operator.SUBTRACT, call(Function.SQUARE_ROOT, 2), call(Function.SQUARE_ROOT, 2)),
            ),
            id="a-divisor-that-may-be-0",
        ),
        pytest.param(Binary(Operator.POWER, n(2), n(Fraction(1, 97))), id="a-high-root"),
        pytest.param(Binary(Operator.POWER, n(-2), n(Fraction(1, 2))), id="a-root-of-a-negative"),
        pytest.param(Apply(Function.FLOOR, (call(Function.SQUARE_ROOT, 2),)), id="a-function-of-an-irrational"),
        pytest.param(Binary(Operator.POWER, n(2), call(Function.SQUARE_ROOT, 2)), id="an-irrational-exponent"),
    ],
)
def test_what_has_no_bounds(expression: Expression) -> None:
    with pytest.raises(Undefined):
        enclose(expression)
    assert decide(claim(expression, Relation.EQUAL, n(1))).holds is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3", "3"),
        ("-1/2", "-0.5"),
        ("1/3", "1/3"),
        ("1/8", "0.125"),
        ("-7/100", "-0.07"),
        ("1/8192", "1/8192"),
        ("20/4", "5"),
    ],
)
def test_numbers_in_plain_notation(value: str, text: str) -> None:
    assert plain_number(Fraction(value)) == text


def test_variables_are_found_in_order() -> None:
    tree = Binary(Operator.ADD, Apply(Function.GCD, (Variable("a"), Negate(Variable("b")))), Variable("a"))
    assert list(variables(tree)) == ["a", "b", "a"]


_LITERALS = st.builds(
    lambda whole, places: Number(Fraction(whole, 10**places), plain_number(Fraction(whole, 10**places))),
    st.integers(0, 999),
    st.integers(0, 3),
)


def _trees(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    signs = st.sampled_from([Operator.ADD, Operator.SUBTRACT, Operator.MULTIPLY, Operator.DIVIDE])
    return st.builds(Binary, signs, children, children) | st.builds(Negate, children)


@given(st.recursive(_LITERALS, _trees, max_leaves=12))
@settings(max_examples=300, deadline=None)
def test_what_is_printed_is_read_back_with_the_same_value(tree: Expression) -> None:
    try:
        value = evaluate(tree)
    except Undefined:
        assume(False)
        return
    wrong = value + 1
    text = f"{plain(tree)} = {wrong.numerator}/{wrong.denominator}"
    extraction = extract_claims(text)
    found = [decide(c) for c in extraction.claims]
    assert [(d.left, d.holds) for d in found] == [(value, False)] or [u.reason for u in extraction.undecided]
    true = extract_claims(f"{plain(tree)} = {value.numerator}/{value.denominator} ")
    if isinstance(tree, Binary):
        assert [(d.left, d.holds) for d in map(decide, true.claims)] == [(value, True)]
