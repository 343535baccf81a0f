"""Division with remainder: `1529 ÷ 6 = 254 with a remainder of 5` asserts 1529 = 6 * 254 + 5."""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.claims.lexer import Kind, Token
from draftproof.claims.tree import Binary, Expression, Number, Operator, Relation

_FILLERS = frozenset(("with", "a", "and", "of", "is", "leaving", "has", "gives"))
_REMAINDER = frozenset(("remainder", "r"))


def remainder_after(piece: Sequence[Token], stop: int) -> tuple[Number, int] | None:
    """The remainder stated after a quotient that ends at `stop`, and where its number ends."""
    at = stop
    while at < len(piece) and piece[at].kind is Kind.WORD and piece[at].text in _FILLERS:
        at += 1
    if at >= len(piece) or piece[at].kind not in (Kind.WORD, Kind.NAME) or piece[at].text.lower() not in _REMAINDER:
        return None
    at += 1
    while at < len(piece) and (
        (piece[at].kind is Kind.WORD and piece[at].text in _FILLERS) or piece[at].kind is Kind.CURRENCY
    ):
        at += 1
    if at >= len(piece) or piece[at].value is None or piece[at].decimals:
        return None
    return _number(piece[at]), at + 1


def _number(token: Token) -> Number:
    assert token.value is not None
    return Number(token.value, token.text)


def division_sides(
    division: Expression, quotient: Expression, remainder: Number
) -> tuple[Expression, Relation, Expression] | None:
    """`dividend = divisor * quotient + remainder`; None when the left side is no plain division.

    A remainder that is not below the divisor is wrong by itself: then `remainder < divisor` is the claim.
    """
    if not isinstance(division, Binary) or division.operator is not Operator.DIVIDE:
        return None
    if not isinstance(quotient, Number) or quotient.decimals:
        return None
    if isinstance(division.right, Number) and remainder.value >= division.right.value > 0:
        return remainder, Relation.LESS, division.right
    product = Binary(Operator.MULTIPLY, division.right, quotient)
    return division.left, Relation.EQUAL, Binary(Operator.ADD, product, remainder)
