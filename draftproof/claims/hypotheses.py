"""Values that earlier steps gave to names, and the claims that rest on them.

After `A = ... = 71` and `B = ... = -17`, a later step that writes `A - B = 71 - 17` asserts something
that can be checked: under the hypotheses A = 71 and B = -17 the two sides differ. Only such plain
substitutions are read, sign for sign the left side with numbers for names: a name in any other
equation may be bound by a quantifier, a case or a fresh definition that no parser sees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.plain import plain
from draftproof.claims.tree import Apply, Binary, Claim, Expression, Hypothesis, Negate, Number, Variable, variables
from draftproof.claims.words import words

_CHANGE = words(
    "increase increases increased increasing decrease decreased decreasing double doubled doubling triple halve halved"
    " second third new now after another next case instead when if suppose point time"
)
"""A step with one of these may speak of other values of the same names."""

Bindings = tuple[tuple[str, Expression], ...]
"""Names and the closed values that one step gives them, in order."""


def is_closed(expression: Expression) -> bool:
    return next(variables(expression), None) is None


def is_substitution(template: Expression, instance: Expression) -> bool:
    """Whether `instance` is `template` with signed numbers in the places of its names."""
    return substituted(template, instance) is not None


def substituted(template: Expression, instance: Expression) -> list[tuple[str, Fraction]] | None:
    """Each name of `template` with the number that `instance` has in its place; None when they do not match."""
    match template, instance:
        case Variable(name), Number(value):
            return [(name, value)]
        case Variable(name), Negate(Number(value)):
            return [(name, -value)]
        case Number(value), Number(other):
            return [] if value == other else None
        case Negate(operand), Negate(other_operand):
            return substituted(operand, other_operand)
        case Binary(operator, left, right), Binary(other_operator, other_left, other_right):
            return _joined(operator is other_operator, [(left, other_left), (right, other_right)])
        case Apply(function, arguments), Apply(other_function, other_arguments):
            return _joined(function is other_function, list(zip(arguments, other_arguments, strict=False)))
        case _:
            return None


def _joined(same: bool, pairs: list[tuple[Expression, Expression]]) -> list[tuple[str, Fraction]] | None:
    found: list[tuple[str, Fraction]] = []
    for template, instance in pairs if same else []:
        part = substituted(template, instance)
        if part is None:
            return None
        found += part
    return found if same else None


def plain_hypothesis(hypothesis: Hypothesis) -> str:
    """A hypothesis for evidence and messages, with where it comes from."""
    return f"{hypothesis.variable} = {plain(hypothesis.value)} (step {hypothesis.step})"


def changes_values(text: str) -> bool:
    """Whether the step may give names new values in words that are not read."""
    return not _CHANGE.isdisjoint(re.findall(r"[a-z]+", text.lower()))


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
    """`claim` resting on the values of its names; None when a name has none, or several.

    When no name is replaced by its known value, the text has moved on to another case (`for n = 6`)
    and the claim rests on nothing that was said before.
    """
    hypotheses: dict[str, Hypothesis] = {}
    values: dict[str, Fraction] = {}
    for name in variables(claim.left):
        hypothesis = known.get(name)
        value = None if hypothesis is None else _value(hypothesis.value)
        if hypothesis is None or value is None:
            return None
        hypotheses[name], values[name] = hypothesis, value
    replaced = substituted(claim.left, claim.right) or []
    if not any(values[name] == value for name, value in replaced):
        return None
    return replace(claim, hypotheses=tuple(hypotheses.values()))


def _value(expression: Expression) -> Fraction | None:
    try:
        return evaluate(expression)
    except Undefined:
        return None
