"""Uses of signs and words under which an equation between numerals means something else.

`another_meaning` looks for those that make what was read unreliable whether it came out true or
false; `special_use` for those that explain why a false equation may be right as it was meant.
"""

from __future__ import annotations

import re
from fractions import Fraction

from draftproof.claims.evaluate import DIVISION_BY_ZERO, Undefined, decide, evaluate
from draftproof.claims.lexer import Kind
from draftproof.claims.place import Place, words_of
from draftproof.claims.side import Reading, Side
from draftproof.claims.tree import Binary, Claim, Expression, Number, Operator, Relation
from draftproof.claims.words import words

_TAKES_ARGUMENT = words(
    "square root squares cube average mean median digit digits reciprocal inverse remainder absolute factorial log"
    " logarithm sine cosine tangent floor ceiling negative opposite units"
)
"""`the average of 3 + 5 = 4`: the word before `of` is applied to what follows."""

_CHANGES_RESULT = (("and", "a", "half"), ("to", "the", "power"), ("times", "as"), ("less", "than"), ("more", "than"))

_REST = re.compile(r"\b(?:left|leaving|leftover|over|rem|full|complete|completely|extra|remain\w*|whole|entire|r\d*)\b")
_NOTED_ZERO = words("undefined indeterminate vertical infinite infinity defined asymptote exist exists impossible")
_DEFINES = words("define defined defines definition operation operator denote denotes denoted means represents")
_OPERATION = re.compile(
    r"(?<![A-Za-z\\])[a-zA-Z]\s*(?:\*|\\cdot|\\times|\\div|\\star|\\circ|\\oplus|·|×|÷|\^|\+|-|/|@|#|\$)\s*[a-zA-Z]\s*\$?\s*="
)
_CLOCK = re.compile(r"o'?\s?clock|12-hour|clock face|\bhour hand\b|\d\s?[ap]\.?m\b", re.IGNORECASE)
_FINITE = re.compile(r"\\mathbb\{?\s*[ZF]|\bGF\(|\b[ZF]_\{?\d|characteristic \d")
_ANGLE = re.compile(r"°|\\circ|degree")
_LIST_MARK = re.compile(r"(?:^|\n)\s*[-–]\s*$")
_EQUATION_NAMES = words("equation equations eq eqs")


def another_meaning(left: Side, right: Side, place: Place) -> str | None:
    """Why neither truth nor falsehood of what was read can be relied on."""
    if Reading.PERCENT_SUM in left.readings | right.readings:
        return Reading.PERCENT_SUM.value
    if place.annotated:
        return None
    before = place.before(4)
    if "of" in before[-2:] and not _TAKES_ARGUMENT.isdisjoint(before):
        return "argument_of_a_word"
    after = tuple(place.after(4))
    if any(after[: len(phrase)] == phrase for phrase in _CHANGES_RESULT):
        return "joined_to_words_after"
    return None


def special_use(claim: Claim, place: Place) -> str | None:
    """Why the false `claim` may be right as it was meant."""
    sentence = place.text[max(0, place.begin - 200) : place.end + 80].lower()
    found = words_of(sentence)
    setting = place.setting
    decision = decide(claim)
    if decision.reason == DIVISION_BY_ZERO and (
        claim.relation is Relation.NOT_EQUAL
        or (decision.left is None and decision.right is None)
        or not _NOTED_ZERO.isdisjoint(found)
    ):
        return "division_by_zero_noted"
    if not _DEFINES.isdisjoint(setting.words) and setting.matches(_OPERATION):
        return "other_arithmetic"
    if setting.matches(_FINITE) or setting.matches(_CLOCK):
        return "other_arithmetic"
    if _LIST_MARK.search(place.text[max(0, place.begin - 12) : place.begin]):
        return "list_mark_or_sign"
    if not _EQUATION_NAMES.isdisjoint(found) and _all_in_brackets(place):
        return "equation_numbers"
    if any(token.text == "[" for token in place.piece[place.first : place.right]):
        return "integer_part"
    if _is_range(claim):
        return "range"
    if _leaves_rest(claim, place):
        return "rest_in_words"
    if setting.matches(_ANGLE) and _full_turn(claim):
        return "full_turn"
    return None


def _all_in_brackets(place: Place) -> bool:
    """Whether the left side is made of small bracketed numbers alone: `(1) - (2)`."""
    tokens = [t for t in place.piece[place.first : place.right] if t.kind is not Kind.RELATION]
    numbers = [i for i, token in enumerate(tokens) if token.kind is Kind.NUMBER]
    return bool(numbers) and all(
        0 < i < len(tokens) - 1
        and tokens[i - 1].kind is Kind.OPEN
        and tokens[i + 1].kind is Kind.CLOSE
        and len(tokens[i].text) <= 2
        for i in numbers
    )


def _is_range(claim: Claim) -> bool:
    """`pages 10-20 = 11 pages`: from one number to a larger one, and how many that is."""
    left = claim.left
    if not isinstance(left, Binary) or left.operator is not Operator.SUBTRACT:
        return False
    if not isinstance(left.left, Number) or not isinstance(left.right, Number) or not isinstance(claim.right, Number):
        return False
    length = left.right.value - left.left.value
    return length > 0 and claim.right.value in (length - 1, length, length + 1)


def _leaves_rest(claim: Claim, place: Place) -> bool:
    """`25 / 4 = 6, with 1 left over`: a quotient of integers without its rest, which words bring in."""
    quotient, shown = _division(claim.left), claim.right
    if quotient is None or not isinstance(shown, Number) or abs(quotient - shown.value) >= 1:
        return False
    shown_at = place.piece[place.right].start
    return _REST.search(place.text[shown_at : place.end + 60].lower()) is not None


def _division(expression: Expression) -> Fraction | None:
    if not isinstance(expression, Binary) or expression.operator is not Operator.DIVIDE:
        return None
    try:
        return evaluate(expression)
    except Undefined:
        return None


def _full_turn(claim: Claim) -> bool:
    """Angles that differ by whole turns."""
    try:
        difference = evaluate(claim.left) - evaluate(claim.right)
    except Undefined:
        return False
    return difference != 0 and difference % 360 == 0
