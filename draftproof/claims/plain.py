"""Expression trees as plain text, the notation that evidence and messages are written in."""

from __future__ import annotations

from fractions import Fraction

from draftproof.claims.tree import Apply, Binary, Claim, Expression, Negate, Number, Operator, Variable

_PRECEDENCE = {
    Operator.ADD: 1,
    Operator.SUBTRACT: 1,
    Operator.MULTIPLY: 2,
    Operator.DIVIDE: 2,
    Operator.POWER: 4,
}
_NEGATION = 3


def plain(expression: Expression) -> str:
    """`expression` with the fewest parentheses that keep its meaning under the usual precedences."""
    return _plain(expression)[0]


def plain_claim(claim: Claim) -> str:
    """The claim as an equation or inequality, with its tolerance where it has one."""
    sides = f"{plain(claim.left)} {claim.relation} {plain(claim.right)}"
    return sides if claim.tolerance is None else f"{sides} (within {plain_number(claim.tolerance)})"


def plain_number(value: Fraction) -> str:
    """An integer as digits, a terminating decimal of up to 12 places as a decimal, else `n/d`."""
    if value.denominator == 1:
        return str(value.numerator)
    places = 0
    remainder = value.denominator
    while remainder % 10 == 0:
        remainder //= 10
        places += 1
    twos = fives = 0
    while remainder % 2 == 0:
        remainder //= 2
        twos += 1
    while remainder % 5 == 0:
        remainder //= 5
        fives += 1
    places += max(twos, fives)
    if remainder != 1 or places > 12:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _plain(node: Expression) -> tuple[str, int]:
    """Text of a node and how tightly it binds; 5 needs no parentheses anywhere."""
    match node:
        case Number(_, text):
            return text, 0 if "/" in text else 5
        case Variable(name):
            return name, 5
        case Apply(function, arguments):
            return f"{function.value}({', '.join(plain(a) for a in arguments)})", 5
        case Negate(operand):
            text, binds = _plain(operand)
            return f"-{text}" if binds > _NEGATION else f"-({text})", _NEGATION
        case Binary(operator, left, right):
            level = _PRECEDENCE[operator]
            left_text, left_binds = _plain(left)
            right_text, right_binds = _plain(right)
            if left_binds < level or (operator is Operator.POWER and left_binds == level):
                left_text = f"({left_text})"
            if right_binds <= level and not (operator is Operator.ADD and right_binds == level):
                right_text = f"({right_text})"
            glue = operator.value if operator is Operator.POWER else f" {operator.value} "
            return f"{left_text}{glue}{right_text}", level
