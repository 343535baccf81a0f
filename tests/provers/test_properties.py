"""Lean and Python's exact fractions give every expression the same value."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftproof.claims.evaluate import Undefined, evaluate
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
)
from draftproof.provers.environment import LeanClaim, Status
from draftproof.provers.statement import Unformalised, formalise
from draftproof.trace import Span

pytestmark = pytest.mark.lean

UNARY = (Function.ABSOLUTE, Function.FACTORIAL, Function.SQUARE_ROOT, Function.FLOOR, Function.CEILING)
TWO = (Function.BINOMIAL, Function.GCD, Function.LCM, Function.MODULO)
PLAIN = Claim(Relation.EQUAL, Number(Fraction(0), "0"), Number(Fraction(0), "0"), Span(start=0, end=1), "")

numbers = st.one_of(
    st.integers(-12, 30).map(Fraction),
    st.fractions(-20, 20, max_denominator=12),
    st.integers(-(10**20), 10**20).map(Fraction),
).map(lambda value: Number(value, str(value)))
leaves = numbers | st.sampled_from([Variable("x"), Variable("y")])
VALUES = {"x": Fraction(-7, 2), "y": Fraction(6)}


def compound(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        inner.map(Negate),
        st.builds(Binary, st.sampled_from([*Operator][:4]), inner, inner),
        st.builds(lambda a, n: Binary(Operator.POWER, a, Number(Fraction(n), str(n))), inner, st.integers(-4, 6)),
        st.builds(lambda f, a: Apply(f, (a,)), st.sampled_from(UNARY), inner),
        st.builds(lambda f, a, b: Apply(f, (a, b)), st.sampled_from(TWO), inner, inner),
        # squares, so that roots have values; small naturals, so that factorials have
        inner.map(lambda a: Apply(Function.SQUARE_ROOT, (Binary(Operator.MULTIPLY, a, a),))),
        st.integers(0, 40).map(lambda n: Apply(Function.FACTORIAL, (Number(Fraction(n), str(n)),))),
    )


trees = st.recursive(leaves, compound, max_leaves=9)
HYPOTHESES = tuple(Hypothesis(name, Number(value, str(value)), 0) for name, value in VALUES.items())


def statements(claims):
    """The claims that can be stated, as Lean claims, each with what Python makes of its left side."""
    for claim in claims:
        try:
            yield claim, LeanClaim(formalise(claim))
        except Unformalised as refusal:
            assert refusal.reason == "too_large"  # noqa: PT017


@settings(max_examples=8, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.lists(trees, min_size=12, max_size=40))
def test_every_expression_has_the_value_that_python_gives_it(environment, expressions):
    claims = []
    expected = []
    for tree in expressions:
        stated = replace(PLAIN, left=tree, hypotheses=HYPOTHESES)
        try:
            value = evaluate(tree, VALUES)
        except Undefined as undefined:
            if undefined.reason == "too_large":  # the two draw that line in different places
                continue
            claims += [stated, replace(stated, relation=Relation.NOT_EQUAL)]
            expected += [undefined.reason] * 2
            continue
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > 3_000:
            continue
        for offset, holds in ((0, True), (1, False), (Fraction(1, 10**6), False)):
            other = value + offset
            claims.append(replace(stated, right=Number(other, "")))
            expected.append(holds)
    wanted = dict(zip(map(id, claims), expected, strict=True))
    stated_claims = list(statements(claims))
    results = environment.check([lean for _, lean in stated_claims])
    for (claim, lean), result in zip(stated_claims, results, strict=True):
        want = wanted[id(claim)]
        if want is True:
            assert result.status is Status.PROVED, lean.statement.text
        elif want is False:
            assert result.status is Status.REFUTED, lean.statement.text
        elif want == "division_by_zero":
            assert (result.status, result.reason) == (Status.REFUTED, "division_by_zero"), lean.statement.text
        else:
            # undecided for Python; a division by zero elsewhere in the same tree may still refute it
            assert result.status is Status.UNKNOWN or result.reason == "division_by_zero", lean.statement.text


@settings(max_examples=5, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from([*Relation])), min_size=20, max_size=60))
def test_every_relation_is_pythons(environment, triples):
    tolerance = Fraction(1, 2)
    claims = [
        replace(
            PLAIN,
            left=left,
            right=right,
            relation=relation,
            tolerance=tolerance if relation is Relation.ABOUT else None,
        )
        for left, right, relation in triples
    ]
    results = environment.check([LeanClaim(formalise(claim)) for claim in claims])
    for claim, result in zip(claims, results, strict=True):
        a, b = claim.left.value, claim.right.value
        holds = {
            Relation.EQUAL: a == b,
            Relation.NOT_EQUAL: a != b,
            Relation.LESS: a < b,
            Relation.AT_MOST: a <= b,
            Relation.GREATER: a > b,
            Relation.AT_LEAST: a >= b,
            Relation.ABOUT: abs(a - b) <= tolerance,
        }[claim.relation]
        assert result.status is (Status.PROVED if holds else Status.REFUTED)
