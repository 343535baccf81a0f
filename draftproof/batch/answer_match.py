"""Whether the answer that a text states is the reference answer.

Numbers are compared by value, exactly: `1,200`, `$1200`, `1200.0` and `\\frac{2400}{2}` are one answer, `0.33` and
`1/3` are not. What neither side can be read as a number is compared as text, less white space, case and what only sets
formulas. An answer that cannot be compared is wrong, never right.
"""

from __future__ import annotations

import re
from fractions import Fraction

from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.lexer import lex
from draftproof.claims.parser import parse
from draftproof.claims.side import NotAnExpression

MAX_CHARACTERS = 1_000
"""Longer answers are compared as text alone."""
_SET = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|left|right|displaystyle|dfrac|tfrac|!|,|;|:|\s)|[\s$*{}\\]|\\[()\[\]]"
)


def same_answer(given: str | None, reference: str | None) -> bool | None:
    """None where there is no reference answer; False where nothing was given."""
    if reference is None:
        return None
    if given is None:
        return False
    left, right = number(given), number(reference)
    if left is not None and right is not None:
        return left == right
    one, other = _bare(given), _bare(reference)
    return one == other and one != ""


def number(text: str) -> Fraction | None:
    """The exact value of an answer that is a number, perhaps with a unit; None for everything else."""
    trimmed = text.strip().strip("$").strip().removesuffix(".").replace("\\$", "").replace("\\%", "%")
    if not trimmed or len(trimmed) > MAX_CHARACTERS:
        return None
    tokens = lex(trimmed).tokens
    try:
        side = parse(tokens, 0, len(tokens))
        if side.stop != len(tokens) or side.readings:
            return None
        return evaluate(side.expression)
    except (NotAnExpression, Undefined):
        return None


def _bare(text: str) -> str:
    return _SET.sub("", text).casefold().rstrip(".")
