"""Exact values of expression trees, and whether a claim holds.

All arithmetic is on `fractions.Fraction`. The size of a result is bounded before it is computed, so
that `9^9^9^9` costs a comparison and not the memory of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from draftproof.claims.tree import (
    Apply,
    Binary,
    Claim,
    Expression,
    Function,
    Negate,
    Number,
    Operator,
    Relation,
    Variable,
)

MAX_BITS = 20_000
"""Numerators and denominators above this many bits are not computed (about 6,000 digits)."""


class Undefined(Exception):
    """The expression has no value; `reason` is machine-readable."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


DIVISION_BY_ZERO = "division_by_zero"
TOO_LARGE = "too_large"
UNSUPPORTED_VALUE = "no_rational_value"
FREE_VARIABLE = "free_variable"
BY_BOUNDS = "by_bounds"
CONTRADICTORY_HYPOTHESES = "contradictory_hypotheses"


def evaluate(expression: Expression, values: Mapping[str, Fraction] | None = None) -> Fraction:
    """The exact value of `expression`, its variables taken from `values`. Raises Undefined."""
    match expression:
        case Number(value):
            return value
        case Variable(name):
            if values is None or name not in values:
                raise Undefined(FREE_VARIABLE)
            return values[name]
        case Negate(operand):
            return -evaluate(operand, values)
        case Binary(operator, left, right):
            return _bounded(_BINARY[operator](*_both(left, right, values)))
        case Apply(function, arguments):
            return _bounded(_FUNCTIONS[function](*(evaluate(a, values) for a in arguments)))


def _both(left: Expression, right: Expression, values: Mapping[str, Fraction] | None) -> tuple[Fraction, Fraction]:
    """Values of two operands. A division by zero in either outweighs any other reason for having none."""
    try:
        first = evaluate(left, values)
    except Undefined as undefined:
        if undefined.reason != DIVISION_BY_ZERO:
            _raise_division_by_zero(right, values)
        raise
    return first, evaluate(right, values)


def _raise_division_by_zero(expression: Expression, values: Mapping[str, Fraction] | None) -> None:
    """Raises Undefined when `expression` divides by zero, and for no other reason."""
    try:
        evaluate(expression, values)
    except Undefined as undefined:
        if undefined.reason == DIVISION_BY_ZERO:
            raise


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a claim holds. `holds` is None when exact arithmetic cannot say; `reason` says why."""

    holds: bool | None
    left: Fraction | None = None
    right: Fraction | None = None
    """Exact values of the sides; with reason `by_bounds`, rationals within 2^-190 of them."""
    reason: str = ""


def decide(claim: Claim) -> Decision:
    """Decide a claim under its hypotheses.

    Sides without a rational value are compared by rational bounds, which can show that they differ.
    A division by zero makes the claim false with reason `division_by_zero`: an equation whose side
    has no value does not hold. Any other side without a rational value leaves it undecided.
    """
    values: dict[str, Fraction] = {}
    sides: list[Fraction | None] = []
    reasons: list[str] = []
    try:
        for hypothesis in claim.hypotheses:
            value = evaluate(hypothesis.value)
            if values.setdefault(hypothesis.variable, value) != value:
                return Decision(None, reason=CONTRADICTORY_HYPOTHESES)
    except Undefined as undefined:
        return Decision(None, reason=undefined.reason)
    for side in (claim.left, claim.right):
        try:
            sides.append(evaluate(side, values))
        except Undefined as undefined:
            sides.append(None)
            reasons.append(undefined.reason)
    left, right = sides
    if left is not None and right is not None:
        return Decision(_related(claim, left, right), left, right)
    undecided = [reason for reason in reasons if reason != DIVISION_BY_ZERO]
    if not undecided:
        return Decision(False, left, right, DIVISION_BY_ZERO)
    if set(reasons) == {UNSUPPORTED_VALUE}:
        return _decide_by_bounds(claim, values)
    return Decision(None, left, right, undecided[0])


def _decide_by_bounds(claim: Claim, values: Mapping[str, Fraction]) -> Decision:
    """Decide a claim whose sides are irrational, where rational bounds suffice."""
    from draftproof.claims.bounds import enclose  # it builds on this module

    try:
        left, right = enclose(claim.left, values), enclose(claim.right, values)
    except Undefined as undefined:
        return Decision(None, reason=undefined.reason)
    middle = ((left.low + left.high) / 2, (right.low + right.high) / 2)
    gap = max(left.low - right.high, right.low - left.high)  # positive when the intervals do not meet
    spread = max(left.high - right.low, right.high - left.low)
    below, above = left.high < right.low, left.low > right.high
    tolerance = claim.tolerance or Fraction(0)
    certain: dict[Relation, bool | None] = {
        Relation.EQUAL: False if gap > 0 else None,
        Relation.NOT_EQUAL: True if gap > 0 else None,
        Relation.LESS: True if below else False if above else None,
        Relation.AT_MOST: True if below else False if above else None,
        Relation.GREATER: True if above else False if below else None,
        Relation.AT_LEAST: True if above else False if below else None,
        Relation.ABOUT: True if spread <= tolerance else False if gap > tolerance else None,
    }
    holds = certain[claim.relation]
    return Decision(holds, *middle, reason=BY_BOUNDS if holds is not None else UNSUPPORTED_VALUE)


def _related(claim: Claim, left: Fraction, right: Fraction) -> bool:
    match claim.relation:
        case Relation.EQUAL:
            return left == right
        case Relation.NOT_EQUAL:
            return left != right
        case Relation.LESS:
            return left < right
        case Relation.AT_MOST:
            return left <= right
        case Relation.GREATER:
            return left > right
        case Relation.AT_LEAST:
            return left >= right
        case Relation.ABOUT:
            if claim.tolerance is None:
                raise ValueError("a claim with ≈ needs a tolerance")
            return abs(left - right) <= claim.tolerance


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Undefined(TOO_LARGE)
    return value


def _divide(left: Fraction, right: Fraction) -> Fraction:
    if right == 0:
        raise Undefined(DIVISION_BY_ZERO)
    return left / right


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise Undefined(UNSUPPORTED_VALUE)
    if base == 0 and exponent < 0:
        raise Undefined(DIVISION_BY_ZERO)
    if base == 0 and exponent == 0:
        raise Undefined(UNSUPPORTED_VALUE)  # conventions differ
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base != 0 and bits * abs(exponent) > MAX_BITS:
        raise Undefined(TOO_LARGE)
    if abs(base) == 1:
        return base if exponent % 2 else Fraction(1)
    return base ** int(exponent)


def _natural(value: Fraction, most: int) -> int:
    if value.denominator != 1 or value < 0:
        raise Undefined(UNSUPPORTED_VALUE)
    if value > most:
        raise Undefined(TOO_LARGE)
    return int(value)


def _integer(value: Fraction) -> int:
    if value.denominator != 1:
        raise Undefined(UNSUPPORTED_VALUE)
    return int(value)


def _factorial(value: Fraction) -> Fraction:
    return Fraction(math.factorial(_natural(value, 1_000)))


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    return Fraction(math.comb(_natural(n, 1_000), _natural(k, 1_000)))


def _square_root(value: Fraction) -> Fraction:
    if value < 0:
        raise Undefined(UNSUPPORTED_VALUE)
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if top * top != value.numerator or bottom * bottom != value.denominator:
        raise Undefined(UNSUPPORTED_VALUE)
    return Fraction(top, bottom)


def _modulo(left: Fraction, right: Fraction) -> Fraction:
    divisor = _integer(right)
    if divisor <= 0:
        raise Undefined(UNSUPPORTED_VALUE)
    return Fraction(_integer(left) % divisor)


_BINARY: Mapping[Operator, Callable[[Fraction, Fraction], Fraction]] = {
    Operator.ADD: lambda left, right: left + right,
    Operator.SUBTRACT: lambda left, right: left - right,
    Operator.MULTIPLY: lambda left, right: left * right,
    Operator.DIVIDE: _divide,
    Operator.POWER: _power,
}

_FUNCTIONS: Mapping[Function, Callable[..., Fraction]] = {
    Function.ABSOLUTE: abs,
    Function.FACTORIAL: _factorial,
    Function.BINOMIAL: _binomial,
    Function.SQUARE_ROOT: _square_root,
    Function.FLOOR: lambda value: Fraction(math.floor(value)),
    Function.CEILING: lambda value: Fraction(math.ceil(value)),
    Function.GCD: lambda left, right: Fraction(math.gcd(_integer(left), _integer(right))),
    Function.LCM: lambda left, right: Fraction(math.lcm(_integer(left), _integer(right))),
    Function.MODULO: _modulo,
}
