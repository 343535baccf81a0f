"""Claims as Lean statements, printed from the expression tree.

The text printed here is the whole interface to Lean: it is what the kernel is given, what the evidence
shows and what `export` writes, and no character of the judged text ever reaches it (names become
numbers). Before a claim is printed, the size of every value in it is bounded without computing any:
`9^9^9^9` is refused here, because a kernel that was asked would try.
"""

from __future__ import annotations

from collections.abc import Mapping
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
"""Bound on the bits of any numerator or denominator that a claim may reach (about 6,000 digits), and on exponents."""
MAX_LITERAL_BITS = 14_000
"""Python refuses to write integers of more than 4,300 digits."""
MAX_NODES = 2_000
MAX_DEPTH = 200
MAX_FACTORIAL = 1_500
"""Factorials recurse, in the kernel, as deep as their argument."""

_OPERATORS = {
    Operator.ADD: "add",
    Operator.SUBTRACT: "sub",
    Operator.MULTIPLY: "mul",
    Operator.DIVIDE: "div",
    Operator.POWER: "pow",
}
_FUNCTIONS = {
    Function.ABSOLUTE: "abs",
    Function.FACTORIAL: "factorial",
    Function.BINOMIAL: "binomial",
    Function.SQUARE_ROOT: "sqrt",
    Function.FLOOR: "floor",
    Function.CEILING: "ceil",
    Function.GCD: "gcd",
    Function.LCM: "lcm",
    Function.MODULO: "mod",
}
_RELATIONS = {
    Relation.EQUAL: "eq",
    Relation.NOT_EQUAL: "ne",
    Relation.LESS: "lt",
    Relation.AT_MOST: "le",
    Relation.GREATER: "gt",
    Relation.AT_LEAST: "ge",
}


class Unformalised(Exception):
    """The claim cannot be stated in our library; `reason` is machine-readable."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim in Lean, in two parts, because contradictory hypotheses are a statement of their own."""

    hypotheses: str
    """`nothing` or `(given 0 (num 48) nothing)`."""
    sides: str
    """`(div (var 0) (num 2)) eq (num 24)`."""

    @property
    def text(self) -> str:
        """The proposition that the claim holds."""
        return f"Holds {self.hypotheses} {self.sides}"

    @property
    def negation(self) -> str:
        return f"Not (Holds {self.hypotheses} {self.sides})"

    @property
    def contradiction(self) -> str:
        """The proposition that no assignment meets the hypotheses."""
        return f"Contradictory {self.hypotheses}"


def formalise(claim: Claim) -> Statement:
    """The statement of a claim. Raises Unformalised for what is too large or cannot be said."""
    names: dict[str, int] = {}
    sizes: dict[str, _Size] = {}
    hypotheses: list[str] = []
    printer = _Printer({}, {})
    for hypothesis in claim.hypotheses:
        text, size = printer.term(hypothesis.value)
        index = names.setdefault(hypothesis.variable, len(names))
        sizes[hypothesis.variable] = size.union(sizes.get(hypothesis.variable, size))
        hypotheses.append(f"(given {index} {text} ")
    printer = _Printer(names, sizes, printer.nodes)
    left, left_size = printer.term(claim.left)
    right, right_size = printer.term(claim.right)
    left_size.plus(right_size).check()  # comparing multiplies crosswise, and a tolerance subtracts
    return Statement("".join(hypotheses) + "nothing" + ")" * len(hypotheses), f"{left} {_relation(claim)} {right}")


def _relation(claim: Claim) -> str:
    if claim.relation is not Relation.ABOUT:
        return _RELATIONS[claim.relation]
    tolerance = claim.tolerance
    if tolerance is None or tolerance < 0:
        raise Unformalised("no_tolerance")
    _writable(tolerance)
    return f"(about {tolerance.numerator} {tolerance.denominator})"


@dataclass(frozen=True, slots=True)
class _Size:
    """The value's numerator is at most 2^top in absolute value, its denominator at most 2^bottom."""

    top: int
    bottom: int
    exact: int | None = None
    """The value itself, where it is a literal integer: exponents and factorials need no guess then."""

    def times(self, other: _Size) -> _Size:
        return _Size(self.top + other.top, self.bottom + other.bottom)

    def plus(self, other: _Size) -> _Size:
        return _Size(max(self.top + other.bottom, other.top + self.bottom) + 1, self.bottom + other.bottom)

    def inverse(self) -> _Size:
        return _Size(self.bottom, self.top)

    def union(self, other: _Size) -> _Size:
        exact = self.exact if self.exact == other.exact else None
        return _Size(max(self.top, other.top), max(self.bottom, other.bottom), exact)

    def magnitude(self) -> int:
        """A bound on the absolute value of the integer that this is, if it is one."""
        if self.exact is not None:
            return abs(self.exact)
        return 2**self.top if self.top <= 64 else 2**64

    def check(self) -> _Size:
        if max(self.top, self.bottom) > MAX_BITS:
            raise Unformalised("too_large")
        return self


class _Printer:
    """Prints terms and bounds their values, in one walk."""

    def __init__(self, names: Mapping[str, int], sizes: Mapping[str, _Size], nodes: int = 0) -> None:
        self._names = names
        self._sizes = sizes
        self.nodes = nodes

    def term(self, node: Expression, depth: int = 0) -> tuple[str, _Size]:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise Unformalised("too_large")
        match node:
            case Number(value):
                return _literal(value)
            case Variable(name):
                if name not in self._names:
                    raise Unformalised("free_variable")
                return f"(var {self._names[name]})", self._sizes[name]
            case Negate(operand):
                text, size = self.term(operand, depth + 1)
                return f"(neg {text})", _Size(size.top, size.bottom, None if size.exact is None else -size.exact)
            case Binary(operator, left, right):
                left_text, left_size = self.term(left, depth + 1)
                right_text, right_size = self.term(right, depth + 1)
                size = _combined(operator, left_size, right_size).check()
                return f"({_OPERATORS[operator]} {left_text} {right_text})", size
            case Apply(function, arguments):
                parts = [self.term(argument, depth + 1) for argument in arguments]
                size = _applied(function, [size for _, size in parts]).check()
                return f"({_FUNCTIONS[function]} {' '.join(text for text, _ in parts)})", size


def _literal(value: Fraction) -> tuple[str, _Size]:
    _writable(value)
    top, bottom = abs(value.numerator), value.denominator
    size = _Size(_log2(top), _log2(bottom), value.numerator if bottom == 1 else None)
    text = f"(num {top})" if bottom == 1 else f"(ratio {top} {bottom})"
    return (f"(neg {text})" if value < 0 else text), size


def _writable(value: Fraction) -> None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_LITERAL_BITS:
        raise Unformalised("too_large")


def _log2(value: int) -> int:
    """The least exponent whose power of two is not below `value`."""
    return max(value - 1, 0).bit_length()


def _combined(operator: Operator, left: _Size, right: _Size) -> _Size:
    match operator:
        case Operator.ADD | Operator.SUBTRACT:
            return left.plus(right)
        case Operator.MULTIPLY:
            return left.times(right)
        case Operator.DIVIDE:
            return left.times(right.inverse())
        case Operator.POWER:
            exponent = right.magnitude()
            if exponent > MAX_BITS:
                raise Unformalised("too_large")
            power = _Size(left.top * exponent, left.bottom * exponent)
            negative_too = right.exact is None or right.exact < 0
            return power.union(power.inverse()) if negative_too else power


def _applied(function: Function, arguments: list[_Size]) -> _Size:
    first = arguments[0]
    match function:
        case Function.ABSOLUTE | Function.SQUARE_ROOT:
            return first
        case Function.FLOOR | Function.CEILING:
            return _Size(first.top + 1, 0)
        case Function.FACTORIAL:
            return _factorial(first.magnitude())
        case Function.BINOMIAL:
            return _factorial(first.magnitude())
        case Function.GCD | Function.LCM | Function.MODULO:
            return _Size(first.top + arguments[1].top, 0)


def _factorial(argument: int) -> _Size:
    if argument > MAX_FACTORIAL:
        raise Unformalised("too_large")
    return _Size(argument * argument.bit_length(), 0)
