"""Values that earlier steps gave to names, and the claims that rest on them.

After `A = ... = 71` and `B = ... = -17`, a later step that writes `A - B = 71 - 17` asserts something
that can be checked: under the hypotheses A = 71 and B = -17 the two sides differ. Only such plain
substitutions are read, sign for sign the left side with numbers for names: a name in any other
equation may be bound by a quantifier, a case or a fresh definition that no parser sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.tree import Apply, Binary, Claim, Expression, Hypothesis, Negate, Number, Variable, variables

Bindings = tuple[tuple[str, Expression], ...]
"""Names and the closed values that one step gives them, in order."""


def is_closed(expression: Expression) -> bool:
    return next(variables(expression), None) is None


def is_substitution(template: Expression, instance: Expression) -> bool:
    """Whether `instance` is `template` with signed numbers in the places of its names."""
    match template, instance:
        case Variable(), Number() | Negate(Number()):
            return True
        case Number(value), Number(other):
            return value == other
        case Negate(operand), Negate(other_operand):
            return is_substitution(operand, other_operand)
        case Binary(operator, left, right), Binary(other_operator, other_left, other_right):
            return (
                operator is other_operator and is_substitution(left, other_left) and is_substitution(right, other_right)
            )
        case Apply(function, arguments), Apply(other_function, other_arguments):
            return function is other_function and all(map(is_substitution, arguments, other_arguments))
        case _:
            return False


def known_values(steps: Sequence[Bindings]) -> dict[str, Hypothesis | None]:
    """The one value that the steps give each name; None for a name that they give several."""
    known: dict[str, Hypothesis | None] = {}
    for index, bindings in enumerate(steps):
        for name, expression in bindings:
            earlier = known.setdefault(name, Hypothesis(name, expression, index))
            if earlier is not None and _value(earlier.value) != _value(expression):
                known[name] = None
    return known


def under_hypotheses(claim: Claim, known: dict[str, Hypothesis | None]) -> Claim | None:
    """`claim` resting on the values of its names; None when a name has none, or several."""
    hypotheses: list[Hypothesis] = []
    for name in dict.fromkeys(variables(claim.left)):
        hypothesis = known.get(name)
        if hypothesis is None or _value(hypothesis.value) is None:
            return None
        hypotheses.append(hypothesis)
    return replace(claim, hypotheses=tuple(hypotheses))


def _value(expression: Expression) -> Fraction | None:
    try:
        return evaluate(expression)
    except Undefined:
        return None
