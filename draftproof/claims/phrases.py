"""Arithmetic said in words, turned into the signs it stands for: `half of 48`, `3 times 4`, `15 percent of 20`.

Only phrases whose operands stand right beside them are turned; any other use of these words stays
a word, and words next to numbers make the parser careful.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from draftproof.claims.lexer import Kind, Token
from draftproof.claims.words import (
    COUNT_WORDS,
    EQUALS_WORDS,
    FRACTION_WORDS,
    MULTIPLE_WORDS,
    PHRASES,
    PRODUCT_WORDS,
    SUM_WORDS,
)

_SIGNS = {"+": Kind.PLUS, "-": Kind.MINUS, "*": Kind.TIMES, "/": Kind.DIVIDE}
_OPERAND_BEFORE = (Kind.NUMBER, Kind.CLOSE, Kind.PERCENT)
_OPERAND_AFTER = (Kind.NUMBER, Kind.CURRENCY, Kind.OPEN, Kind.FRACTION)


def in_signs(tokens: Sequence[Token]) -> list[Token]:
    """`tokens` with phrases replaced by number and sign tokens that keep their spans."""
    result: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind is not Kind.WORD:
            result.append(token)
            at += 1
            continue
        taken = _phrase(tokens, at, result)
        if not taken:
            result.append(token)
        at += taken or 1
    return result


def _phrase(tokens: Sequence[Token], at: int, result: list[Token]) -> int:
    """Append what the phrase at `at` stands for; return how many tokens it took, 0 when it is none."""
    word = tokens[at].text
    before = result[-1] if result else None
    after_operand = before is not None and before.kind in _OPERAND_BEFORE

    def operand_at(index: int) -> bool:
        return index < len(tokens) and tokens[index].kind in _OPERAND_AFTER

    def word_at(index: int) -> str:
        return tokens[index].text if index < len(tokens) and tokens[index].kind is Kind.WORD else ""

    if word == "percent" and before is not None and before.kind is Kind.NUMBER:
        result.append(_sign(Kind.PERCENT, "%", tokens[at]))
        return 1
    if after_operand and operand_at(at + 1) and (sign := SUM_WORDS.get(word) or PRODUCT_WORDS.get(word)):
        result.append(_sign(_SIGNS[sign], sign, tokens[at]))
        return 1
    if after_operand and operand_at(at + 2) and (sign := PHRASES.get((word, word_at(at + 1)), "")):
        result.append(_sign(_SIGNS[sign], sign, tokens[at]))
        return 2
    if word == "of" and operand_at(at + 1) and _is_share(result):
        result.append(_sign(Kind.TIMES, "of", tokens[at]))
        return 1
    if word in FRACTION_WORDS and word_at(at + 1) == "of" and operand_at(at + 2):
        return _fraction_of(tokens, at, result)
    if word in MULTIPLE_WORDS and operand_at(at + 1) and not after_operand:
        result.append(_number(Fraction(MULTIPLE_WORDS[word]), tokens[at]))
        result.append(_sign(Kind.TIMES, "*", tokens[at]))
        return 1
    if word in EQUALS_WORDS:
        said = (word, word_at(at + 1), word_at(at + 2))
        length = 3 if said == ("is", "equal", "to") else 2 if said[:2] == ("equal", "to") else 1
        if (word != "equal" or length == 2) and operand_at(at + length):
            result.append(_sign(Kind.RELATION, "=", tokens[at]))
            return length
    return 0


def _fraction_of(tokens: Sequence[Token], at: int, result: list[Token]) -> int:
    """`half of`, `one third of`, `two thirds of`: a factor, its numerator taken from the word before."""
    factor = FRACTION_WORDS[tokens[at].text]
    start = tokens[at]
    if result and result[-1].kind is Kind.WORD:
        if (count := COUNT_WORDS.get(result[-1].text)) is not None:
            start = result.pop()
            factor *= count
        elif result[-1].text in ("a", "an"):
            start = result.pop()
    elif result and result[-1].kind is Kind.NUMBER:
        return 0  # `2 thirds of`: digits before a fraction word are left alone
    span = start._replace(end=tokens[at].end)
    result.append(_number(factor, span))
    result.append(_sign(Kind.TIMES, "*", tokens[at + 1]))
    return 2


def _is_share(result: Sequence[Token]) -> bool:
    """Whether what was just read is a percentage or a plain fraction, so that `of` multiplies."""
    if result and result[-1].kind is Kind.PERCENT:
        return True
    kinds = [token.kind for token in result[-3:]]
    if kinds == [Kind.NUMBER, Kind.DIVIDE, Kind.NUMBER]:
        return True
    return len(result) >= 7 and [t.kind for t in result[-7:]] == [
        Kind.FRACTION, Kind.OPEN, Kind.NUMBER, Kind.CLOSE, Kind.OPEN, Kind.NUMBER, Kind.CLOSE,
    ]  # fmt: skip


def _sign(kind: Kind, text: str, at: Token) -> Token:
    return Token(kind, text, at.start, at.end)


def _number(value: Fraction, at: Token) -> Token:
    return Token(Kind.NUMBER, str(value), at.start, at.end, value)
