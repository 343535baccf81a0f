"""What a step asserts, as data: expression trees over the rationals, and claims that relate two of them.

The parser builds these, the evaluator computes them, the Lean printer writes them down; none of the
three ever sees the others' input. Numbers are exact from the start: `3.50` is 7/2, `15%` is 3/20.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from draftproof.trace import Span


class Operator(StrEnum):
    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    POWER = "^"
    """The exponent must have an integer value for the power to have one."""


class Function(StrEnum):
    """Functions whose value at a rational is a rational, or nothing."""

    ABSOLUTE = "abs"
    FACTORIAL = "factorial"
    """Of a natural number."""
    BINOMIAL = "binomial"
    """`binomial(n, k)` of natural numbers; 0 when k > n."""
    SQUARE_ROOT = "sqrt"
    """Has a value only when the argument is the square of a rational; the root is the one >= 0."""
    FLOOR = "floor"
    CEILING = "ceil"
    GCD = "gcd"
    """Of two integers; gcd(0, 0) = 0."""
    LCM = "lcm"
    MODULO = "mod"
    """`mod(a, b)` of integers, b > 0, with the remainder in [0, b)."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal. `text` is how it was written, `decimals` the digits shown after the point."""

    value: Fraction
    text: str
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Variable:
    """A name that stands for a number; it has a value only under a hypothesis."""

    name: str


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Apply:
    function: Function
    arguments: tuple[Expression, ...]


Expression = Number | Variable | Negate | Binary | Apply


class Relation(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "≠"
    LESS = "<"
    AT_MOST = "≤"
    GREATER = ">"
    AT_LEAST = "≥"
    ABOUT = "≈"
    """|left - right| ≤ the claim's tolerance."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`variable = value`, computed by an earlier step, or earlier in this one."""

    variable: str
    value: Expression
    """Closed: holds no variable."""
    step: int
    """0-based index of the step that states it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`left relation right`, as it stands in a text.

    `tolerance` is set exactly when `relation` is ABOUT. An equation written with `=` whose one side
    is a rounded decimal arrives here as ABOUT, with half a unit of the last digit shown or more;
    `written` keeps the sign that the text used.
    """

    relation: Relation
    left: Expression
    right: Expression
    span: Span
    """Into the step's text."""
    text: str
    """The step's text at `span`, verbatim."""
    written: str = "="
    tolerance: Fraction | None = None
    hypotheses: tuple[Hypothesis, ...] = ()


def variables(expression: Expression) -> Iterator[str]:
    """Names in `expression`, left to right, repeats included. Iterative: trees may be deep."""
    pending = [expression]
    while pending:
        node = pending.pop()
        match node:
            case Variable(name):
                yield name
            case Negate(operand):
                pending.append(operand)
            case Binary(_, left, right):
                pending += (right, left)
            case Apply(_, arguments):
                pending.extend(reversed(arguments))
            case Number():
                pass
