"""When two stated answers are one: a normal form, so that answers can be counted.

Numbers count by their exact value: `1,200`, `$1200`, `1200.0`, `1200 apples` and `\\frac{2400}{2}` are one answer,
`0.33` and `1/3` are two, and so are `50%` and `50`. Everything else counts as text, less white space, case and what
only sets formulas. Ordinary units are not looked at: a problem asks for one.
"""

from __future__ import annotations

import re

from draftproof.claims.evaluate import Undefined, evaluate
from draftproof.claims.lexer import lex
from draftproof.claims.parser import parse
from draftproof.claims.plain import plain_number
from draftproof.claims.side import NotAnExpression
from draftproof.pipelines.stated_answer import stated_answer

MAX_CHARACTERS = 1_000
"""Longer answers are compared as text alone."""
_SETTING = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|left|right|displaystyle|dfrac|tfrac|!|,|;|:|\s)|[\s$*{}\\]|\\[()\[\]]"
)


def final_answer(text: str) -> str | None:
    """Normal form of the answer that a whole solution states; None where it states none that can be read."""
    stated = stated_answer(text)
    return None if stated is None else normal_answer(stated)


def normal_answer(stated: str) -> str | None:
    """The form that equal answers share; None for what says nothing, such as `$ $`."""
    return _number(stated) or _SETTING.sub("", stated).casefold().rstrip(".") or None


def _number(stated: str) -> str | None:
    """An exact value in plain digits, or as `n/d`; None for what is no number, or one that can be read two ways."""
    trimmed = stated.strip().strip("$").strip().removesuffix(".").replace("\\$", "").replace("\\%", "%")
    if not trimmed or len(trimmed) > MAX_CHARACTERS:
        return None
    tokens = lex(trimmed).tokens
    try:
        side = parse(tokens, 0, len(tokens))
        if side.stop != len(tokens) or side.readings:
            return None
        return plain_number(evaluate(side.expression))
    except (NotAnExpression, Undefined):
        return None
