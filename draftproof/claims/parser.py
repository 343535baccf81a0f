"""Reads one side of an equation: tokens to an expression tree, by recursive descent.

The parser reads as far as the tokens form an expression and says where it stopped; whether that is
far enough is the caller's decision. Places where people write one thing and mean another are noted
as readings, so that an equation is never called false on the strength of a doubtful one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from draftproof.claims.lexer import Kind, Token
from draftproof.claims.side import NotAnExpression, Reading, Side, TooLong
from draftproof.claims.tree import Apply, Binary, Expression, Function, Negate, Number, Operator, Variable
from draftproof.claims.words import CHANGES_VALUE, ENDS_PHRASE, unit_size

MAX_DEPTH = 60
"""Nesting beyond this is not read: no reasoning step needs it, and recursion must stay bounded."""

MAX_OPERATORS = 200

MAX_UNIT_WORDS = 5
MAX_ASIDE_WORDS = 8


def parse(tokens: Sequence[Token], start: int, end: int) -> Side:
    """The longest expression that begins at `start` and does not reach `end`. Raises NotAnExpression."""
    parser = _Parser(tokens, start, end)
    try:
        expression = parser.sum()
    except TooLong as error:
        raise NotAnExpression("too many operators") from error
    side = Side(expression, parser.at, parser.readings, parser.units)
    side.operators = parser.operators
    side.named_units = parser.named_units
    side.is_percent = isinstance(expression, Number) and expression.text.endswith("%")
    return side


_CLOSING = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⌈": "⌉"}


class _Parser:
    def __init__(self, tokens: Sequence[Token], start: int, end: int) -> None:
        self.tokens = tokens
        self.at = start
        self.end = end
        self.depth = 0
        self.readings: set[Reading] = set()
        self.units: set[tuple[str, str]] = set()
        self.operators = 0
        self.named_units = 0
        self._bars = 0

    def kind(self, ahead: int = 0) -> Kind | None:
        index = self.at + ahead
        return self.tokens[index].kind if index < self.end else None

    def count(self) -> None:
        """One more operator. A side with too many is refused: trees are walked by recursion."""
        self.operators += 1
        if self.operators > MAX_OPERATORS:
            raise TooLong

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def _back_to(self, at: int, depth: int) -> None:
        self.at, self.depth, self._bars = at, depth, 0

    def sum(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotAnExpression("nested too deeply")
        left = self.product()
        depth = self.depth
        while self.kind() in (Kind.PLUS, Kind.MINUS):
            back = self.at
            operator = Operator.ADD if self.take().kind is Kind.PLUS else Operator.SUBTRACT
            try:
                right = self.product()
            except NotAnExpression:
                self._back_to(back, depth)  # the operator is left for the caller to see: the side is not whole
                break
            self.count()
            if _is_percent(right) and not _is_percent(left) and not _is_one(left):
                self.readings.add(Reading.PERCENT_SUM)
            left = Binary(operator, left, right)
        self.depth -= 1
        return left

    def product(self) -> Expression:
        left = self.signed()
        depth = self.depth
        divided = False
        while True:
            kind = self.kind()
            if kind in (Kind.TIMES, Kind.DIVIDE):
                back = self.at
                operator = Operator.MULTIPLY if self.take().kind is Kind.TIMES else Operator.DIVIDE
                try:
                    if self.kind() is Kind.PLUS:
                        raise NotAnExpression("two operators")
                    scientific = divided and self._is_power_of_ten()
                    right = self.signed()
                    if scientific:
                        self.readings.add(Reading.SCIENTIFIC)  # `6 × 10^4 / 2 × 10^2`
                except NotAnExpression:
                    self._back_to(back, depth)
                    return left
                if divided and operator is Operator.DIVIDE:
                    self.readings.add(Reading.DIVISION_CHAIN)  # `28 / 1/5`: by a fifth, or by 1 and by 5
                divided = divided or operator is Operator.DIVIDE
            elif kind in (Kind.OPEN, Kind.FRACTION, Kind.ROOT, Kind.BINOMIAL, Kind.NAME) and self._juxtaposed():
                operator, back = Operator.MULTIPLY, self.at
                try:
                    right = self.power()
                except NotAnExpression:
                    self._back_to(back, depth)  # `8 (since ...)`: the bracket is prose, or something else
                    return left
                if divided:
                    self.readings.add(Reading.IMPLICIT_PRODUCT)
            else:
                return left
            self.count()
            left = Binary(operator, left, right)

    def _glued(self) -> bool:
        """Whether the token here touches both its neighbours."""
        if self.at + 1 >= self.end:
            return False
        before, here, after = self.tokens[self.at - 1 : self.at + 2]
        return before.end == here.start and here.end == after.start

    def _is_power_of_ten(self) -> bool:
        return self.kind() is Kind.NUMBER and self.tokens[self.at].value == 10 and self.kind(1) is Kind.POWER

    def _juxtaposed(self) -> bool:
        """Whether the token here continues a product without a sign: `2(3)`, `(2)(3)`, `3\\sqrt{4}`, `2x`."""
        previous = self.tokens[self.at - 1]
        if previous.kind is Kind.WORD:
            return False  # `5 apples (red)`: the bracket is prose
        token = self.tokens[self.at]
        if token.kind is Kind.OPEN and token.text == "[":
            return previous.kind is Kind.CLOSE
        return True

    def signed(self) -> Expression:
        if self.kind() in (Kind.MINUS, Kind.PLUS):
            negative = self.take().kind is Kind.MINUS
            if self.kind() is Kind.CURRENCY:
                self.take()
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotAnExpression("nested too deeply")
            operand = self.signed()
            self.depth -= 1
            if negative and isinstance(operand, Binary) and operand.operator is Operator.POWER:
                self.readings.add(Reading.SIGNED_POWER)
            return Negate(operand) if negative else operand
        return self.power()

    def power(self) -> Expression:
        base = self.postfix()
        if self.kind() is Kind.POWER:
            back, depth = self.at, self.depth
            self.take()
            try:
                exponent = self.group() if self.kind() is Kind.OPEN else self.signed_literal()
            except NotAnExpression:
                self._back_to(back, depth)
                return base
            self.count()
            raised: Expression = Binary(Operator.POWER, base, exponent)
            if self.kind() is Kind.DIVIDE and self.tokens[self.at - 1].kind is Kind.NUMBER and self._glued():
                self.readings.add(Reading.FRACTION_EXPONENT)  # `8^1/3`
            return self.suffix(raised)
        return base

    def signed_literal(self) -> Expression:
        if self.kind() is Kind.MINUS:
            self.take()
            return Negate(self.signed_literal_operand())
        return self.signed_literal_operand()

    def signed_literal_operand(self) -> Expression:
        if self.kind() not in (Kind.NUMBER, Kind.NAME, Kind.FRACTION):
            raise NotAnExpression("exponent")
        operand = self.atom()
        if self.kind() is Kind.POWER:
            self.take()
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise NotAnExpression("nested too deeply")
            exponent = self.group() if self.kind() is Kind.OPEN else self.signed_literal()
            self.depth -= 1
            return Binary(Operator.POWER, operand, exponent)
        return operand

    def postfix(self) -> Expression:
        return self.suffix(self.atom())

    def suffix(self, node: Expression) -> Expression:
        """Percent signs, factorials, degrees and units after an operand."""
        while True:
            kind = self.kind()
            if kind is Kind.FACTORIAL:
                token = self.take()
                if self.kind() is Kind.FACTORIAL:
                    raise NotAnExpression("double factorial")
                if self.kind() is None or self.kind() is Kind.WORD:
                    self.readings.add(Reading.FACTORIAL_OR_EXCLAMATION)
                self.count()
                node = Apply(Function.FACTORIAL, (node,))
            elif kind is Kind.PERCENT:
                self.take()
                self.units.add(("share", "%"))
                if isinstance(node, Number):
                    node = Number(node.value / 100, f"{node.text}%", node.decimals + 2)
                else:
                    node = Binary(Operator.DIVIDE, node, Number(Fraction(100), "100"))
            elif kind is Kind.DEGREE or (kind is Kind.CURRENCY and self._closes_inline_math()):
                self.take()
            elif kind in (Kind.WORD, Kind.DIVIDE) and (length := self._unit_length()):
                for _ in range(length):
                    token = self.take()
                    if (size := unit_size(token.text)) is not None:
                        self.units.add(size)
                    self.named_units += 1
            elif kind is Kind.OPEN and (length := self._aside_length()):
                self.at += length
            else:
                return node

    def _aside_length(self) -> int:
        """Tokens of a bracket that holds only words, `(from lunch)`, 0 when there is none."""
        if self.tokens[self.at].start == self.tokens[self.at - 1].end:
            return 0
        length = 1
        while self.kind(length) is Kind.WORD and length <= MAX_ASIDE_WORDS:
            if self.tokens[self.at + length].text in CHANGES_VALUE:
                return 0
            length += 1
        return length + 1 if length > 1 and self.kind(length) is Kind.CLOSE else 0

    def _closes_inline_math(self) -> bool:
        """Whether a `$` here ends inline mathematics: an operator or the side's end follows."""
        follows = self.kind(1)
        return follows is None or follows in (
            Kind.PLUS, Kind.MINUS, Kind.TIMES, Kind.DIVIDE, Kind.CLOSE, Kind.WORD, Kind.POWER,
        )  # fmt: skip

    def _unit_length(self) -> int:
        """Tokens of the unit phrase here (`apples`, `pounds / book`), 0 when the words are no unit.

        A phrase is a unit only when arithmetic goes on after it: at the end of a side, what the
        words are does not matter and is the caller's to judge.
        """
        length = words = 0
        if self.kind() is Kind.DIVIDE:
            if self.kind(1) is not Kind.WORD:
                return 0
            length = 1  # `15/student`
        while words <= MAX_UNIT_WORDS:
            kind = self.kind(length)
            if kind is Kind.WORD:
                word = self.tokens[self.at + length].text
                if (word in ENDS_PHRASE or word in CHANGES_VALUE) and (word != "per" or not words):
                    return 0
                words += 1
                length += 1
            elif kind is Kind.DIVIDE and words and self.kind(length + 1) is Kind.WORD:
                length += 1
            else:
                break
        if words > MAX_UNIT_WORDS:
            return 0
        ends = self.kind(length)
        if ends is None or ends in (Kind.PLUS, Kind.MINUS, Kind.TIMES, Kind.DIVIDE, Kind.CLOSE, Kind.BAR):
            return length
        return 0

    def atom(self) -> Expression:
        while self.kind() is Kind.CURRENCY:
            if self.take().text != "$" or self._money():
                self.units.add(("money", "$"))
        kind = self.kind()
        if kind is Kind.NUMBER:
            return self.number()
        if kind is Kind.NAME:
            token = self.take()
            if (
                self.kind() is Kind.OPEN
                and self.tokens[self.at].text == "("
                and self.tokens[self.at].start == token.end
            ):
                raise NotAnExpression("a function of ours or of nobody's")
            return Variable(token.text)
        if kind is Kind.OPEN:
            return self.group()
        if kind is Kind.BAR:
            return self.absolute()
        if kind is Kind.FRACTION:
            self.take()
            numerator, denominator = self._two_digits() or (self.argument(), self.argument())
            self.count()
            return Binary(Operator.DIVIDE, numerator, denominator)
        if kind is Kind.ROOT:
            self.take()
            if self.kind() is Kind.OPEN and self.tokens[self.at].text == "[":
                raise NotAnExpression("only square roots are read")
            self.count()
            return Apply(Function.SQUARE_ROOT, (self.argument(),))
        if kind is Kind.BINOMIAL:
            self.take()
            self.count()
            return Apply(Function.BINOMIAL, (self.argument(), self.argument()))
        raise NotAnExpression(f"no operand at token {self.at}")

    def _money(self) -> bool:
        """Whether the `$` just taken is a currency sign rather than a mathematics delimiter."""
        return self.kind() is Kind.NUMBER

    def number(self) -> Expression:
        token = self.take()
        assert token.value is not None
        whole = Number(token.value, token.text, token.decimals)
        fraction = self._fraction_after(token)
        if fraction is None:
            return whole
        self.readings.add(Reading.MIXED_NUMBER)
        self.count()
        return Binary(Operator.ADD, whole, fraction)

    def _fraction_after(self, whole: Token) -> Expression | None:
        """The proper fraction of a mixed number: `2 1/2`, `2\\frac{1}{2}`, `2½`."""
        if whole.value is None or whole.value.denominator != 1 or whole.decimals:
            return None
        window = self.tokens[self.at : min(self.at + 7, self.end)]
        kinds = [token.kind for token in window]
        if kinds[:1] == [Kind.NUMBER] and window[0].value is not None and window[0].text.count("/"):
            token = self.take()
            return Number(window[0].value, token.text)
        if kinds[:3] == [Kind.NUMBER, Kind.DIVIDE, Kind.NUMBER] and window[0].start > whole.end:
            glued = window[0].end == window[1].start and window[1].end == window[2].start
            top, bottom = window[0].value, window[2].value
            if glued and top is not None and bottom is not None and 0 < top < bottom:
                self.at += 3
                return Binary(Operator.DIVIDE, Number(top, window[0].text), Number(bottom, window[2].text))
        if kinds[:2] == [Kind.FRACTION, Kind.NUMBER] and len(window[1].text) == 2 and window[1].text.isdigit():
            self.at += 2
            top_digit, bottom_digit = (Number(Fraction(int(digit)), digit) for digit in window[1].text)
            return Binary(Operator.DIVIDE, top_digit, bottom_digit)
        if kinds == [Kind.FRACTION, Kind.OPEN, Kind.NUMBER, Kind.CLOSE, Kind.OPEN, Kind.NUMBER, Kind.CLOSE]:
            top, bottom = window[2].value, window[5].value
            if top is not None and bottom is not None and 0 < top < bottom:
                self.at += 7
                return Binary(Operator.DIVIDE, Number(top, window[2].text), Number(bottom, window[5].text))
        return None

    def group(self) -> Expression:
        """A bracketed expression; floor and ceiling brackets are functions."""
        opening = self.take()
        if opening.text not in _CLOSING:
            raise NotAnExpression("bracket")
        inner = self.sum()
        if self.kind() is not Kind.CLOSE or self.tokens[self.at].text != _CLOSING[opening.text]:
            raise NotAnExpression("unclosed bracket")
        self.take()
        if opening.text == "⌊":
            self.count()
            return Apply(Function.FLOOR, (inner,))
        if opening.text == "⌈":
            self.count()
            return Apply(Function.CEILING, (inner,))
        return inner

    def absolute(self) -> Expression:
        self.take()
        if self._bars:
            raise NotAnExpression("nested bars are ambiguous")
        self._bars += 1
        inner = self.sum()
        if self.kind() is not Kind.BAR:
            raise NotAnExpression("unclosed bar")
        self.take()
        self._bars -= 1
        self.count()
        return Apply(Function.ABSOLUTE, (inner,))

    def _two_digits(self) -> tuple[Expression, Expression] | None:
        """The arguments in `\\frac12`."""
        token = self.tokens[self.at] if self.at < self.end else None
        if token is None or token.kind is not Kind.NUMBER or len(token.text) != 2 or not token.text.isdigit():
            return None
        self.at += 1
        top, bottom = (Number(Fraction(int(digit)), digit) for digit in token.text)
        return top, bottom

    def argument(self) -> Expression:
        """An argument of a LaTeX command: a group in braces, or a single digit."""
        if self.kind() is Kind.OPEN and self.tokens[self.at].text == "{":
            return self.group()
        if self.kind() is Kind.NUMBER and len(self.tokens[self.at].text) == 1:
            return self.number()
        raise NotAnExpression("argument")


def _is_percent(node: Expression) -> bool:
    return isinstance(node, Number) and node.text.endswith("%")


def _is_one(node: Expression) -> bool:
    return isinstance(node, Number) and node.value == 1
