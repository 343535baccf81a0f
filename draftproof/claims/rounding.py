"""Rounded decimals: how far the two sides of an equation may differ, from the digits shown.

`10/3 = 3.33` is how people write a rounded quotient, with `=` as often as with `≈`. It is read as
|10/3 - 3.33| ≤ 0.01 (a truncated last digit) or, when the shown number is the larger one, ≤ 0.005.
A value that the digits shown could have expressed exactly gets no tolerance: 0.1 + 0.2 = 0.4 is wrong.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from draftproof.claims.bounds import enclose
from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.tree import Claim, Expression, Negate, Number, Relation

MOST_ROUNDED = Fraction(1, 2)
"""A unit that is more than this share of the value says nothing about it: `1 + 1 ≈ 1000`."""

FLOAT_DIGITS = 15
"""A literal with this many significant digits was printed by a program that computes in binary."""


def with_tolerance(claim: Claim) -> Claim:
    """`claim` as an ABOUT claim where its digits imply rounding, else unchanged."""
    if claim.relation is not Relation.EQUAL:
        return claim
    for shown, other in ((claim.right, claim.left), (claim.left, claim.right)):
        literal = _literal(shown)
        if literal is None:
            continue
        tolerance = _tolerance(literal, shown, other, loose=claim.written == "≈")
        if tolerance is not None:
            return replace(claim, relation=Relation.ABOUT, tolerance=tolerance)
    return claim


def _literal(expression: Expression) -> Number | None:
    if isinstance(expression, Negate):
        expression = expression.operand
    return expression if isinstance(expression, Number) else None


def _tolerance(literal: Number, shown: Expression, other: Expression, *, loose: bool) -> Fraction | None:
    try:
        written, bounds = evaluate(shown), enclose(other)
    except Undefined:
        return None
    exact = (bounds.low + bounds.high) / 2
    if exact == written:
        return None
    unit = Fraction(1, 10**literal.decimals)
    if literal.decimals and len(literal.text.replace(".", "").lstrip("0")) >= FLOAT_DIGITS:
        return max(unit, abs(written) / 10**13)
    if loose:
        unit *= _trailing_zeros(literal)
    if not (loose or literal.decimals) or (exact / unit).denominator == 1 or unit > abs(exact) * MOST_ROUNDED:
        return None
    return unit if abs(written) < abs(exact) else unit / 2


def _trailing_zeros(literal: Number) -> int:
    """10^k for an integer written with k zeros at its end: `≈ 1200` shows hundreds."""
    if literal.decimals or not literal.value:
        return 1
    digits = str(abs(literal.value.numerator))
    return int(10 ** (len(digits) - len(digits.rstrip("0"))))
