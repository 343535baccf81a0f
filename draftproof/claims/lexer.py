"""Cuts a step's text into tokens: numbers, signs, words and whatever it does not understand.

One pass of one regular expression without nested repetition, so the time is linear in the text.
LaTeX, Unicode and plain ASCII spellings of a sign become the same token. Marks that change no
value (currency signs, `\\left`, inline-math delimiters, bold markers) are dropped; everything
that is not understood stays in the stream as OPAQUE, so that no equation is ever read across it.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from fractions import Fraction
from typing import NamedTuple

from draftproof.claims.words import GLUED_UNITS, words


class Kind(Enum):
    NUMBER = auto()
    NAME = auto()
    """A variable: one letter, or letters in mathematics that are not text."""
    WORD = auto()
    PLUS = auto()
    MINUS = auto()
    TIMES = auto()
    DIVIDE = auto()
    POWER = auto()
    OPEN = auto()
    CLOSE = auto()
    BAR = auto()
    RELATION = auto()
    """`text` is one of = ≠ < ≤ > ≥ ≈."""
    PERCENT = auto()
    DEGREE = auto()
    FACTORIAL = auto()
    FRACTION = auto()
    ROOT = auto()
    BINOMIAL = auto()
    CURRENCY = auto()
    COMMA = auto()
    LINE = auto()
    """A line's end, or LaTeX's `\\\\`: ends an equation unless the next line goes on with a relation."""
    STOP = auto()
    OPAQUE = auto()


class Token(NamedTuple):
    kind: Kind
    text: str
    start: int
    end: int
    value: Fraction | None = None
    """Of a NUMBER."""
    decimals: int = 0


class Lexed(NamedTuple):
    tokens: list[Token]
    annotations: list[list[Token]]
    """Tokens of each calculator annotation `<<48/2=24>>`, apart from the text that it stands in."""


MAX_DIGITS = 300
"""A longer literal is OPAQUE: nobody reasons with it, and its square would cost."""

_TOKEN = re.compile(
    r"""
      (?P<annotation><<[^<>\n]{1,300}>>)
    | (?P<space>[ \t\r\f\v\u00a0\u2009\u202f~]+)
    | (?P<newline>\n)
    | (?P<degree>\^\s?\{\s?\\circ\s?\}|\^\s?\\circ|\\degree|°)
    | (?P<environment>\\(?:begin|end)\{[A-Za-z]+\*?\})
    | (?P<command>\\(?:[A-Za-z]+\*?|.|\n))
    | (?P<number>\d+(?:(?:[.,:]|\{,\}|\\,)\d+)*(?:[eE][+-]?\d+(?![\w.]))?|\.\d+)
    | (?P<superscript>[²³])
    | (?P<vulgar>[¼½¾⅓⅔⅛])
    | (?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*)
    | (?P<arrow>=>|->|⇒|→|∴|⟹)
    | (?P<relation>:=|==|<=|>=|!=|=<(?!<)|[=≠≈≤≥<>≃≅])
    | (?P<ellipsis>\.\.\.+|…|⋯)
    | (?P<power>\*\*|\^)
    | (?P<sign>[-+−–*×·⋅∗∙÷/∕])
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<currency>\$\$|[$€£])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_RECURRING = re.compile(r"\.\d*(?:\\overline|\\bar\b|\\dot\b|\(\d)")
_MATHEMATICAL = re.compile(r"[\\^_=+<>|]|[A-Za-z]\(|\d[A-Za-z]")
MAX_INLINE_MATH = 400

_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PLAIN = re.compile(r"(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3})?")

_RELATIONS = {":=": "=", "==": "=", "<=": "≤", "=<": "≤", ">=": "≥", "!=": "≠", "≃": "≈", "≅": "≈"}
_SIGNS = {"+": Kind.PLUS, "-": Kind.MINUS, "−": Kind.MINUS, "–": Kind.MINUS, "÷": Kind.DIVIDE} | {
    "/": Kind.DIVIDE,
    "∕": Kind.DIVIDE,
}
_VULGAR = {"¼": (1, 4), "½": (1, 2), "¾": (3, 4), "⅓": (1, 3), "⅔": (2, 3), "⅛": (1, 8)}

_COMMANDS: dict[str, tuple[Kind, str]] = {
    "times": (Kind.TIMES, "*"),
    "cdot": (Kind.TIMES, "*"),
    "ast": (Kind.TIMES, "*"),
    "div": (Kind.DIVIDE, "/"),
    "frac": (Kind.FRACTION, "frac"),
    "dfrac": (Kind.FRACTION, "frac"),
    "tfrac": (Kind.FRACTION, "frac"),
    "cfrac": (Kind.FRACTION, "frac"),
    "sqrt": (Kind.ROOT, "sqrt"),
    "binom": (Kind.BINOMIAL, "binom"),
    "dbinom": (Kind.BINOMIAL, "binom"),
    "tbinom": (Kind.BINOMIAL, "binom"),
    "lfloor": (Kind.OPEN, "⌊"),
    "rfloor": (Kind.CLOSE, "⌋"),
    "lceil": (Kind.OPEN, "⌈"),
    "rceil": (Kind.CLOSE, "⌉"),
    "lvert": (Kind.BAR, "|"),
    "rvert": (Kind.BAR, "|"),
    "le": (Kind.RELATION, "≤"),
    "leq": (Kind.RELATION, "≤"),
    "leqslant": (Kind.RELATION, "≤"),
    "ge": (Kind.RELATION, "≥"),
    "geq": (Kind.RELATION, "≥"),
    "geqslant": (Kind.RELATION, "≥"),
    "lt": (Kind.RELATION, "<"),
    "gt": (Kind.RELATION, ">"),
    "ne": (Kind.RELATION, "≠"),
    "neq": (Kind.RELATION, "≠"),
    "approx": (Kind.RELATION, "≈"),
    "%": (Kind.PERCENT, "%"),
    "$": (Kind.CURRENCY, "$"),
    "\\": (Kind.LINE, "\\\\"),
    "\n": (Kind.LINE, "\n"),
    "newline": (Kind.LINE, "\\\\"),
} | dict.fromkeys(
    ("quad", "qquad", "implies", "Rightarrow", "Longrightarrow", "rightarrow", "to", "iff", "Leftrightarrow",
     "therefore", "because", "[", "]", "begin", "end", "hline", "land", "lor", "mid", "tag"),
    (Kind.STOP, ""),
)  # fmt: skip
_IGNORED = frozenset([",", ";", ":", "!", " ", "(", ")", "&"]) | words(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits nolimits thinspace"
)
_TEXT = frozenset(["text", "textbf", "textit", "textrm", "mathrm", "mbox", "mathbf", "hbox", "textnormal"])
_GROUPING = frozenset(["boxed", "fbox", "displaylines", "cancel", "bcancel", "xcancel", "underline", "color"])

_MATH_OPEN = frozenset(["\\(", "\\["])
_MATH_CLOSE = frozenset(["\\)", "\\]"])


def lex(text: str) -> Lexed:
    """Tokens of `text` in order, with spans into it."""
    lexer = _Lexer(text)
    for match in _TOKEN.finditer(text):
        lexer.take(match)
    return Lexed(lexer.tokens, lexer.annotations)


class _Lexer:
    """The state of one pass: what is inside mathematics, and which braces belong to `\\text{...}`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.annotations: list[list[Token]] = []
        self._math = False
        self._braces: list[bool] = []
        """For each open brace, whether it wraps text and is dropped with its partner."""
        self._text_depth = 0
        self._inline_end = -1
        self._wrapper_pending: bool | None = None

    def take(self, match: re.Match[str]) -> None:
        group = match.lastgroup or "other"
        if group in ("space", "ellipsis"):
            if group == "ellipsis":
                self._emit(Kind.OPAQUE, match)
            return
        pending, self._wrapper_pending = self._wrapper_pending, None
        getattr(self, f"_{group}")(match, pending)

    def _emit(self, kind: Kind, match: re.Match[str], text: str | None = None) -> None:
        self.tokens.append(Token(kind, match[0] if text is None else text, match.start(), match.end()))

    def _annotation(self, match: re.Match[str], _: bool | None) -> None:
        inner = match[0][2:-2]
        shift = match.start() + 2
        self.annotations.append([t._replace(start=t.start + shift, end=t.end + shift) for t in lex(inner).tokens])

    def _newline(self, match: re.Match[str], _: bool | None) -> None:
        blank = match.end() < len(self.text) and self.text[match.end()] == "\n"
        self._emit(Kind.STOP if blank else Kind.LINE, match)
        if blank:
            self._math = False

    def _degree(self, match: re.Match[str], _: bool | None) -> None:
        self._emit(Kind.DEGREE, match, "°")

    def _environment(self, match: re.Match[str], _: bool | None) -> None:
        self._math = match[0].startswith("\\begin")
        self._emit(Kind.STOP, match)

    def _command(self, match: re.Match[str], _: bool | None) -> None:
        name = match[0][1:].rstrip("*")
        if match[0] in _MATH_OPEN:
            self._math = True
        elif match[0] in _MATH_CLOSE:
            self._math = False
        if name in _TEXT or name in _GROUPING:
            self._wrapper_pending = name in _TEXT
        elif name in _COMMANDS:
            kind, sign = _COMMANDS[name]
            self._emit(kind, match, sign)
        elif name not in _IGNORED:
            self._emit(Kind.OPAQUE, match)

    def _number(self, match: re.Match[str], _: bool | None) -> None:
        written = match[0].replace("{,}", ",").replace("\\,", ",")
        digits = written.replace(",", "")
        recurring = _RECURRING.match(self.text, match.end()) is not None
        padded = len(digits) > 1 and digits[0] == "0" and digits.isdigit()  # `0900`: a time, a code
        if (
            not (recurring or padded)
            and len(digits) <= MAX_DIGITS
            and (_PLAIN.fullmatch(written) or _THOUSANDS.fullmatch(written))
        ):
            decimals = len(digits.partition(".")[2]) if "e" not in digits.lower() else 0
            self.tokens.append(Token(Kind.NUMBER, digits, match.start(), match.end(), Fraction(digits), decimals))
        else:
            self._emit(Kind.OPAQUE, match)

    def _word(self, match: re.Match[str], _: bool | None) -> None:
        word = match[0]
        glued_left = match.start() > 0 and self.text[match.start() - 1].isdigit()
        glued_right = match.end() < len(self.text) and (
            self.text[match.end()].isdigit() or self.text[match.end()] == "_"
        )
        if glued_left and word.lower() in GLUED_UNITS and not glued_right:
            self._emit(Kind.WORD, match, word.lower())
        elif len(word) == 1 and word in "xX" and self._between_numbers(match):
            self._emit(Kind.TIMES, match, "*")
        elif self._text_depth and self.text.startswith(("}(", "}\\left("), match.end()):
            self._emit(Kind.OPAQUE, match)  # `\\mathrm{Var}(...)`: a function
        elif self._is_name(match, glued_left or glued_right):
            self._emit(Kind.NAME, match)
        else:
            self._emit(Kind.WORD, match, word.lower().replace("’", "'"))

    def _between_numbers(self, match: re.Match[str]) -> bool:
        """Whether a letter x stands between two numerals as a multiplication sign."""
        before, after = self.text[max(0, match.start() - 2) : match.start()], self.text[match.end() : match.end() + 3]
        if before[-1:] == " ":
            spaced = (before[:1].isalnum() or before[:1] in (")", "%")) and after[:1] == " "
            following = after[1:].lstrip("$(.")[:1] or after[1:2]
            last = self.tokens[-1].kind if self.tokens else None
            return spaced and (following.isdigit() or after[1:2] in ("$", "(")) and last in (
                Kind.NUMBER, Kind.CLOSE, Kind.PERCENT, Kind.WORD,
            )  # fmt: skip
        hexadecimal = before in ("0", " 0")
        return before[-1:].isdigit() and after[:1].isdigit() and not self._math and not hexadecimal

    def _is_name(self, match: re.Match[str], glued: bool) -> bool:
        word = match[0]
        glued_to_bracket = self.text[max(0, match.start() - 1) : match.start()] in ("}", ")") and not self._text_depth
        if glued or (glued_to_bracket and word.lower() not in GLUED_UNITS):
            return True
        if self._math and not self._text_depth:
            return word.lower() not in GLUED_UNITS
        if len(word) > 1:
            return False
        article = word in "aAI" and self.text[match.end() : match.end() + 2].strip().isalpha()
        return not article

    def _arrow(self, match: re.Match[str], _: bool | None) -> None:
        self._emit(Kind.STOP, match)

    def _relation(self, match: re.Match[str], _: bool | None) -> None:
        if match[0] == "!=" and match.start() and self.text[match.start() - 1].isalnum():
            self._emit(Kind.OPAQUE, match)  # `2!=2`: a factorial or an inequality
            return
        self._emit(Kind.RELATION, match, _RELATIONS.get(match[0], match[0]))

    def _power(self, match: re.Match[str], _: bool | None) -> None:
        if match[0] == "**":
            before, after = (
                self.text[max(0, match.start() - 1) : match.start()],
                self.text[match.end() : match.end() + 1],
            )
            if not ((before.isalnum() or before == ")") and (after.isdigit() or after in ("(", "-"))):
                return  # bold text
        self._emit(Kind.POWER, match, "^")

    def _sign(self, match: re.Match[str], _: bool | None) -> None:
        sign = match[0]
        if sign in "-–" and self._between_inline_math(match):
            self._emit(Kind.STOP, match)
            return
        if sign in "-–*•" and self._opens_line(match) and self.text[match.end() : match.end() + 1].isspace():
            self._emit(Kind.STOP, match)  # a list item
            return
        self._emit(_SIGNS.get(sign, Kind.TIMES), match)

    def _between_inline_math(self, match: re.Match[str]) -> bool:
        """Whether a dash stands in prose between `\\)` and `\\(`: a list, not a difference."""
        return self.text[max(0, match.start() - 3) : match.start()] == "\\) " and self.text.startswith(
            " \\(", match.end()
        )

    def _opens_line(self, match: re.Match[str]) -> bool:
        line = self.text.rfind("\n", 0, match.start()) + 1
        return match.start() - line <= 16 and not self.text[line : match.start()].strip()

    def _superscript(self, match: re.Match[str], _: bool | None) -> None:
        self._emit(Kind.POWER, match, "^")
        value = 2 if match[0] == "²" else 3
        self.tokens.append(Token(Kind.NUMBER, str(value), match.start(), match.end(), Fraction(value)))

    def _vulgar(self, match: re.Match[str], _: bool | None) -> None:
        value = Fraction(*_VULGAR[match[0]])
        self.tokens.append(Token(Kind.NUMBER, f"{value}", match.start(), match.end(), value))

    def _open(self, match: re.Match[str], pending: bool | None) -> None:
        if match[0] == "{":
            wraps_text = pending is True
            self._braces.append(wraps_text)
            self._text_depth += wraps_text
            if wraps_text:
                return
        self._emit(Kind.OPEN, match)

    def _close(self, match: re.Match[str], _: bool | None) -> None:
        if match[0] == "}" and self._braces and self._braces.pop():
            self._text_depth -= 1
            return
        self._emit(Kind.CLOSE, match)

    def _currency(self, match: re.Match[str], _: bool | None) -> None:
        if match[0] == "$$":
            self._math = not self._math
            self._emit(Kind.STOP, match)
            return
        if match[0] == "$":
            if match.start() == self._inline_end:
                self._math = False
            elif not self._math and (end := self._inline_math(match.end())) is not None:
                self._math, self._inline_end = True, end
        self._emit(Kind.CURRENCY, match)

    def _inline_math(self, start: int) -> int | None:
        """Where the mathematics that a `$` at `start` may open ends; None when the `$` is money."""
        end = self.text.find("$", start, start + MAX_INLINE_MATH)
        content = self.text[start:end]
        if end < 0 or not content or "\n" in content or content[0].isspace() or content[-1].isspace():
            return None
        if self.text[end + 1 : end + 2].isdigit():
            return None  # `$5=$3`
        return end if _MATHEMATICAL.search(content) or len(content) <= 2 else None

    def _other(self, match: re.Match[str], _: bool | None) -> None:
        sign = match[0]
        before, after = self.text[max(0, match.start() - 1) : match.start()], self.text[match.end() : match.end() + 1]
        if sign == "%":
            self._emit(Kind.PERCENT, match)
        elif sign == "¢":
            self._emit(Kind.WORD, match)
        elif sign == "|":
            self._emit(Kind.BAR, match)
        elif sign == "!" and (before.isalnum() or before in ")}") and before and after != "=":
            self._emit(Kind.FACTORIAL, match)
        elif sign == "!" and after.isdigit():
            self._emit(Kind.OPAQUE, match)  # a subfactorial
        elif sign == ",":
            self._emit(Kind.COMMA, match)
        elif sign == "&":
            return  # alignment in LaTeX
        elif (sign == "#" and after.isdigit()) or (sign == "." and _RECURRING.match(self.text, match.start())):
            self._emit(Kind.OPAQUE, match)
        elif sign == ":" and before.isspace():
            self._emit(Kind.OPAQUE, match)  # a ratio
        elif sign in '.;:?!"“”‘’`#•—✓':
            self._emit(Kind.STOP, match)
        else:
            self._emit(Kind.OPAQUE, match)
