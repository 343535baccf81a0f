"""Rational bounds on expressions with square roots and rational powers, for values that are not rational.

`6√2 = 8` has no exact rational value to compare, but 6√2 lies between two rationals that both exceed
8. Intervals are closed, with rational ends, and every operation rounds outwards: when the intervals
of two sides do not meet, the sides differ, and that is as certain as exact arithmetic. Intervals
that meet prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from draftproof.claims.evaluate import TOO_LARGE, UNSUPPORTED_VALUE, Undefined, evaluate
from draftproof.claims.tree import Apply, Binary, Expression, Function, Negate, Operator

BITS = 200
"""Roots are enclosed to this many binary places."""

MAX_ROOT = 12


@dataclass(frozen=True, slots=True)
class Interval:
    low: Fraction
    high: Fraction

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Interval) -> Interval:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends))

    def inverse(self) -> Interval:
        """Raises Undefined when the interval holds 0: it may stand for a division by zero."""
        if self.low <= 0 <= self.high:
            raise Undefined(UNSUPPORTED_VALUE)
        return Interval(1 / self.high, 1 / self.low)


def enclose(expression: Expression, values: Mapping[str, Fraction] | None = None) -> Interval:
    """An interval that holds the value of `expression`. Raises Undefined where none is known."""
    try:
        exact = evaluate(expression, values)
        return Interval(exact, exact)
    except Undefined as undefined:
        if undefined.reason != UNSUPPORTED_VALUE:
            raise
    match expression:
        case Negate(operand):
            return -enclose(operand, values)
        case Binary(Operator.ADD, left, right):
            return _rounded(enclose(left, values) + enclose(right, values))
        case Binary(Operator.SUBTRACT, left, right):
            return _rounded(enclose(left, values) + -enclose(right, values))
        case Binary(Operator.MULTIPLY, left, right):
            return _rounded(enclose(left, values) * enclose(right, values))
        case Binary(Operator.DIVIDE, left, right):
            return _rounded(enclose(left, values) * enclose(right, values).inverse())
        case Binary(Operator.POWER, base, exponent):
            return _power(enclose(base, values), evaluate(exponent, values))
        case Apply(Function.SQUARE_ROOT, (argument,)):
            return _root(enclose(argument, values), 2)
        case _:
            raise Undefined(UNSUPPORTED_VALUE)


def _power(base: Interval, exponent: Fraction) -> Interval:
    """A rational power of a positive interval, or a small natural power of any."""
    if exponent.denominator > MAX_ROOT or abs(exponent.numerator) > 64:
        raise Undefined(TOO_LARGE)
    if exponent == 0 and base.low <= 0 <= base.high:
        raise Undefined(UNSUPPORTED_VALUE)  # perhaps 0 to the power 0
    if exponent.denominator != 1:
        base = _root(base, exponent.denominator)
    result = Interval(Fraction(1), Fraction(1))
    for _ in range(abs(exponent.numerator)):
        result = _rounded(result * base)
    return result.inverse() if exponent < 0 else result


def _root(value: Interval, degree: int) -> Interval:
    """The real root of an interval that is not below 0."""
    if value.low < 0:
        raise Undefined(UNSUPPORTED_VALUE)
    scale = 2**BITS
    low = _integer_root(math.floor(value.low * scale**degree), degree)
    high = _integer_root(math.ceil(value.high * scale**degree), degree) + 1
    return Interval(Fraction(low, scale), Fraction(high, scale))


def _integer_root(value: int, degree: int) -> int:
    """The largest integer whose `degree`-th power is at most `value`."""
    if degree == 2:
        return math.isqrt(value)
    if value == 0:
        return 0
    guess = 1 << -(-value.bit_length() // degree)  # not below the root, so Newton descends to it
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def _rounded(interval: Interval) -> Interval:
    """Ends with at most 2·BITS binary places, moved outwards: numerators must not grow with every step."""
    scale = 2 ** (2 * BITS)
    return Interval(
        Fraction(math.floor(interval.low * scale), scale), Fraction(math.ceil(interval.high * scale), scale)
    )
