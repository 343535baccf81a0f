"""Rewritings of an expression in one variable, refuted by a value at which they differ.

In `f(t) = (t - 2)(t + 1) = t^2 - 3t - 2` the last two sides are asserted to be equal for every t. One
value at which they differ shows that they are not; agreement at any number of values is never
taken for a proof. Only chains are read (an equation of two sides may be meant for some t alone),
and only plain rational expressions in one letter.
"""

from __future__ import annotations

from fractions import Fraction

from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.tree import Apply, Binary, Expression, Hypothesis, Negate, Number, Operator, Variable, variables

_VALUES = (2, 3, 5, 7, -4, 11)
_CONSTANTS = frozenset("ieπ")
"""Letters that usually stand for a number and not for any number."""


def counterexample(left: Expression, right: Expression) -> Hypothesis | None:
    """A value of the one variable of both sides at which they differ; None when none of a few is."""
    names = {*variables(left)}
    if len(names) != 1 or names != {*variables(right)}:
        return None
    (name,) = names
    if len(name) != 1 or not name.isascii() or name in _CONSTANTS or not (_is_rational(left) and _is_rational(right)):
        return None
    for value in _VALUES:
        at = {name: Fraction(value)}
        try:
            if evaluate(left, at) != evaluate(right, at):
                return Hypothesis(name, Number(Fraction(value), str(value)), None)
        except Undefined:
            continue  # a pole: the sides are compared elsewhere
    return None


def _is_rational(expression: Expression) -> bool:
    """Whether only the four operations and powers with literal exponents occur."""
    match expression:
        case Number(_, _, decimals):
            return not decimals  # a rounded coefficient would make a false difference
        case Variable():
            return True
        case Negate(operand):
            return _is_rational(operand)
        case Binary(Operator.POWER, base, exponent):
            return _is_rational(base) and isinstance(exponent, Number) and exponent.value.denominator == 1
        case Binary(_, left, right):
            return _is_rational(left) and _is_rational(right)
        case Apply():
            return False
