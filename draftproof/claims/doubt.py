"""Reasons not to hold a false equation against a step.

The parser reads what is written; people also write `=` for "is about", for a running total, between
sides in different units, in a question, or in a case that they go on to refute. Each test here looks
for the marks of one such use. A false equation with none of them is a wrong equation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from draftproof.claims.bounds import enclose
from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.lexer import Kind, Token
from draftproof.claims.place import Place, words_of
from draftproof.claims.side import Side
from draftproof.claims.special_uses import special_use
from draftproof.claims.tree import Apply, Binary, Claim, Expression, Negate, Number, Operator, Relation
from draftproof.claims.words import (
    DENIES,
    ORDINAL_NOUNS,
    OTHER_ARITHMETIC,
    ROUNDS,
    SUPPOSES,
    TRUNCATES,
    WEIGHS,
    unit_size,
    words,
)

_OTHER_MARKS = re.compile(r"\\pmod|\\bmod|\\mod|\\equiv|≡|\\oplus|\d_\{?\d")
_CUT_NUMBER = re.compile(r"\b\d{1,3},\s\d{3}(?:\D|$)")
_SENTENCE_END = re.compile(r"[.?!]")
_UNEQUAL = re.compile(r"≠|\\neq?\b|!=")
_AFTERTHOUGHT = 140
"""Characters after an equation within which it may still be denied ("which is impossible")."""


def doubt(claim: Claim, left: Side, right: Side, place: Place) -> str | None:
    """Why the false `claim` may not be wrong, machine-readable; None when it is plainly wrong."""
    readings = left.readings | right.readings
    if readings:
        return min(readings).value
    if (use := special_use(claim, place)) is not None:
        return use
    if _mixed_sizes(left, right, place):
        return "mixed_units"
    if _differs_by_scale(claim):
        return "scale"
    if any(token.kind is Kind.TIMES and token.text == "of" for token in place.piece[place.right : place.stop]):
        return "share_of_something"
    if _percent_for_number(claim, left, right):
        return "percent_for_number"
    if _running_total(claim, place):
        return "running_total"
    if _rounded_inputs(claim):
        return "rounded_inputs"
    if claim.written == "≈" and _close(claim):
        return "loose_approximation"
    if _rounded_to_integer(claim):
        return "rounded_to_integer"
    if place.annotated:
        return None
    if _split_thousands(place):
        return "split_number"
    return _label(left, place) or _beside(place) or _in_words(claim, place)


def _mixed_sizes(left: Side, right: Side, place: Place) -> bool:
    """Two sizes of one dimension (hours and minutes), or a result in units that no operand has."""
    results = set(right.units)
    for token in place.piece[place.stop : place.stop + 2]:
        if token.kind is Kind.WORD and (unit := unit_size(token.text)) is not None:
            results.add(unit)
    sizes: dict[str, set[str]] = {}
    for dimension, size in left.units | results:
        sizes.setdefault(dimension, set()).add(size)
    return any(len(found) > 1 for found in sizes.values()) or bool(left.units and results and not results & left.units)


def _differs_by_scale(claim: Claim) -> bool:
    """A factor of a hundred or a thousand: cents for dollars, percent for shares, `5 thousand` written as 5."""
    try:
        left, right = abs(evaluate(claim.left)), abs(evaluate(claim.right))
    except Undefined:
        return False
    return bool(left and right) and max(left, right) / min(left, right) in (100, 1_000, 1_000_000, 1_000_000_000)


def _percent_for_number(claim: Claim, left: Side, right: Side) -> bool:
    """`60/100 * 100 = 60%`: the side without the sign already counts in hundredths."""
    shares = [[n.text.endswith("%") for n in _numbers(side)] for side in (claim.left, claim.right)]
    if any(all(one) and one and not any(other) for one, other in (shares, reversed(shares))):
        return True
    if left.is_percent == right.is_percent:
        return False
    try:
        a, b = evaluate(claim.left), evaluate(claim.right)
    except Undefined:
        return False
    plain, share = (b, a) if left.is_percent else (a, b)
    return abs(plain - share * 100) * 200 <= abs(plain)


def _running_total(claim: Claim, place: Place) -> bool:
    """`5 + 3 = 8 * 2 = 16`: the next side goes on from the value of this one.

    Not so when the next side is bracketed, or ends in the operand this side ends in: then it is a
    simplification of this side, and a wrong one.
    """
    left, right = claim.left, claim.right
    if not isinstance(right, Binary) or place.piece[place.right].kind is Kind.OPEN:
        return False
    first: Expression = right
    while isinstance(first, Binary):
        first = first.left
    try:
        if (
            isinstance(left, Binary)
            and left.operator is right.operator
            and evaluate(left.right) == evaluate(right.right)
        ):
            return False
        return isinstance(first, Number | Negate) and abs(evaluate(first) - evaluate(left)) <= _unit(first)
    except Undefined:
        return False


def _close(claim: Claim) -> bool:
    """Whether the sides differ by less than one part in two hundred."""
    try:
        left, right = evaluate(claim.left), evaluate(claim.right)
    except Undefined:
        return False
    return abs(left - right) * 200 <= max(abs(left), abs(right))


def _rounded_to_integer(claim: Claim) -> bool:
    """`200 / 0.4536 = 441`: a quotient given as the nearest integer, within one percent."""
    right = claim.right
    if not isinstance(right, Number) or right.decimals:
        return False
    try:
        exact = enclose(claim.left).low
    except Undefined:
        return False
    if exact.denominator == 1:
        return False
    difference = abs(exact - right.value)
    return difference <= Fraction(1, 2) and difference * 100 <= abs(exact)


def _label(left: Side, place: Place) -> str | None:
    """`Rate for 20 frogs = 1800/9`: a name that ends in a number, not a value."""
    before = place.piece[place.first - 1] if place.first else None
    if before is None or before.kind is not Kind.WORD:
        return "label_not_value" if isinstance(left.expression, Number) and left.named_units else None
    if isinstance(left.expression, Number) or (place.relation_in_words and before.text not in _INTRODUCES):
        return "label_not_value"
    return None


def _split_thousands(place: Place) -> bool:
    """`14, 400 / 80`: a number cut by a space after its comma."""
    begin = place.piece[place.first].start
    return _CUT_NUMBER.search(place.text[max(0, begin - 6) : begin + 4]) is not None


_INTRODUCES = words("so then that since because thus hence have therefore know")


def _unit(node: Expression) -> Fraction:
    decimals = node.decimals if isinstance(node, Number) else 0
    return Fraction(1, 10**decimals) if decimals else Fraction(0)


def _rounded_inputs(claim: Claim) -> bool:
    """Whether decimals on either side, if they were rounded, can bring the sides together."""
    if claim.relation not in (Relation.EQUAL, Relation.ABOUT):
        return False
    literals = [n for n in itertools.chain(_numbers(claim.left), _numbers(claim.right)) if n.decimals]
    inputs = [n for n in literals if n is not claim.right and n is not claim.left and _may_be_rounded(n)]
    if not inputs or len(inputs) > 5 or (claim.written != "≈" and _only_sums(claim.left)):
        return False
    slack = claim.tolerance or Fraction(0)
    shown = [n for n in (claim.left, claim.right) if isinstance(n, Number)]
    slack = max([slack, *(Fraction(1, 10**n.decimals) for n in shown if n.decimals)])
    differences = []
    for signs in itertools.product((-1, 1), repeat=len(inputs)):
        moved = {id(n): n.value + Fraction(s, 2 * 10**n.decimals) for n, s in zip(inputs, signs, strict=True)}
        try:
            differences.append(evaluate(_moved(claim.left, moved)) - evaluate(_moved(claim.right, moved)))
        except Undefined:
            return True
    return min(differences) <= slack and max(differences) >= -slack


def _only_sums(expression: Expression) -> bool:
    """Sums of decimals are exact: nobody rounds them."""
    match expression:
        case Binary(operator, left, right):
            return operator in (Operator.ADD, Operator.SUBTRACT) and _only_sums(left) and _only_sums(right)
        case Negate(operand):
            return _only_sums(operand)
        case Number():
            return True
        case _:
            return False


def _may_be_rounded(number: Number) -> bool:
    """A last digit of 0 or 5 is how exact prices and halves are written."""
    return int(number.value * 10**number.decimals) % 5 != 0


def _numbers(expression: Expression) -> Iterator[Number]:
    match expression:
        case Number():
            yield expression
        case Negate(operand):
            yield from _numbers(operand)
        case Binary(_, left, right):
            yield from _numbers(left)
            yield from _numbers(right)
        case Apply(_, arguments):
            for argument in arguments:
                yield from _numbers(argument)


def _moved(expression: Expression, values: dict[int, Fraction]) -> Expression:
    match expression:
        case Number(_, text, decimals):
            return Number(values[id(expression)], text, decimals) if id(expression) in values else expression
        case Negate(operand):
            return Negate(_moved(operand, values))
        case Binary(operator, left, right):
            return Binary(operator, _moved(left, values), _moved(right, values))
        case Apply(function, arguments):
            return Apply(function, tuple(_moved(a, values) for a in arguments))
        case _:
            return expression


_JOINS_LEFT = words("and by between than over per with from to times minus plus or in each every for")
_JOINS_RIGHT = words("remainder r with more less fewer times percent and mod over out plus minus short")


def _beside(place: Place) -> str | None:
    """Words and numbers right next to the equation that may belong to it."""
    before = place.piece[place.first - 1] if place.first else None
    if before is not None and before.kind is Kind.WORD and before.text in _JOINS_LEFT | ORDINAL_NOUNS:
        joins_equations = before.text == "and" and _relates(place.piece[: place.first - 1])
        if not joins_equations:
            return "joined_to_words_before"
    after = place.piece[place.stop : place.stop + 5]
    if after and after[0].kind is Kind.WORD:
        if after[0].text == "and" and _relates(place.piece[place.stop + 1 :]):
            return None  # another equation follows
        if after[0].text in _JOINS_RIGHT or (len(after) > 1 and after[1].text in ("remainder", "r")):
            return "joined_to_words_after"
        for token in after[1:]:
            if token.kind is Kind.NUMBER:
                return "second_number_after"
            if token.kind is not Kind.WORD:
                break
    elif after and after[0].kind is Kind.OPEN:
        return "bracket_after"
    return None


def _relates(tokens: Sequence[Token]) -> bool:
    return any(token.kind is Kind.RELATION for token in tokens)


def _in_words(claim: Claim, place: Place) -> str | None:
    """Words of the sentence, or of the step, that weigh or deny the equation."""
    text = place.text
    begin, end = claim.span.start, claim.span.end
    start = max(text.rfind(stop, 0, begin) for stop in (". ", "\n", "? ", "! ")) + 1
    sentence = text[max(start, begin - 400) : min(len(text), end + _AFTERTHOUGHT)].lower()
    found = words_of(sentence)
    if found & DENIES or (claim.relation is not Relation.NOT_EQUAL and _UNEQUAL.search(text, begin, end + 60)):
        return "denied"
    weighing = SUPPOSES if _is_calculation(claim) else WEIGHS
    if weighing & words_of(text[max(start, begin - 400) : begin]):
        return "on_trial"
    following = _SENTENCE_END.search(text, end)
    if following is not None and following[0] == "?":
        return "asked_not_asserted"
    if OTHER_ARITHMETIC & (place.setting.words - words_of(claim.text)) or place.setting.matches(_OTHER_MARKS):
        return "other_arithmetic"
    quotient = _divides(claim.left) and isinstance(claim.right, Number)
    if found & ROUNDS and (quotient or _close(claim)):
        return "rounded_in_words"
    if found & TRUNCATES and (quotient or _close(claim)) and not _is_whole(claim.left):
        return "rounded_in_words"
    return None


def _is_whole(expression: Expression) -> bool:
    try:
        return evaluate(expression).denominator == 1
    except Undefined:
        return False


def _is_calculation(claim: Claim) -> bool:
    """Whether the right side is a result or a simplification of the left one, rather than a side of an equation."""
    left, right = claim.left, claim.right
    if isinstance(right, Number) or (isinstance(right, Negate) and isinstance(right.operand, Number)):
        return not isinstance(left, Number)
    if not isinstance(left, Binary) or not isinstance(right, Binary) or left.operator is not right.operator:
        return False
    try:
        return evaluate(left.right) == evaluate(right.right) or evaluate(left.left) == evaluate(right.left)
    except Undefined:
        return False


def _divides(expression: Expression) -> bool:
    match expression:
        case Binary(operator, left, right):
            return operator is Operator.DIVIDE or _divides(left) or _divides(right)
        case Negate(operand):
            return _divides(operand)
        case Number(value):
            return value.denominator != 1
        case _:
            return False
