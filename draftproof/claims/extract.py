"""Finds the equations and inequalities that a step states.

The text is cut at sentence ends, line ends and commas; what lies between the relation signs of one
piece are sides. A side counts only when it is whole: bounded by a relation, by the piece's end or
by ordinary words, with nothing next to it that could belong to it. Fragments of algebra, calls of
functions, subscripts and unknown commands all fail that test and yield nothing.

A closed claim that is true is always reported. One that is false is reported only when nothing in
its surroundings offers another reading (see `draftproof.claims.doubt`); otherwise it is listed as
undecided, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from draftproof.claims.division import division_sides, remainder_after
from draftproof.claims.doubt import doubt
from draftproof.claims.evaluate import decide
from draftproof.claims.hypotheses import changes_values, is_closed, is_substitution, known_values, under_hypotheses
from draftproof.claims.lexer import Kind, Token, lex
from draftproof.claims.parser import parse
from draftproof.claims.phrases import in_signs
from draftproof.claims.place import Place
from draftproof.claims.rounding import with_tolerance
from draftproof.claims.side import NotAnExpression, Side
from draftproof.claims.special_uses import another_meaning
from draftproof.claims.tree import Binary, Claim, Expression, Number, Operator, Relation, Variable
from draftproof.claims.words import CHANGES_VALUE, LEADS_TO_SIGN
from draftproof.trace import Span

MAX_CHARACTERS = 200_000
"""A longer step is not read at all."""

REMEMBERED_CHARACTERS = 8_000

MAX_CLAIMS = 2_000

MAX_UNREAD = 400
"""Characters of a piece that was not read, as evidence shows it."""

_MAX_STARTS = 8
"""How many places of a side are tried as its beginning, from the right."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Something that looks like an equation and was not read as a claim."""

    span: Span
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Extraction:
    claims: tuple[Claim, ...] = ()
    undecided: tuple[Undecided, ...] = ()


def extract_claims(text: str, context: tuple[str, ...] = (), problem: str = "") -> Extraction:
    """The claims of `text`, a step that follows the steps `context` of a solution to `problem`.

    A claim with variables is among them when earlier steps give each of its variables one value
    and the step goes on by putting numbers in their places: `A - B = 71 - 17` after `A = 71`, `B = -17`.
    """
    reading = _reading(text, problem)
    if not reading.substitutions:
        return reading.extraction
    if changes_values(text):
        return reading.extraction
    known = known_values([*(_reading(step, problem).bindings for step in context), reading.bindings])
    under = [claim for open_claim in reading.substitutions if (claim := under_hypotheses(open_claim, known))]
    return Extraction((*reading.extraction.claims, *under), reading.extraction.undecided)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one step's text holds before other steps are looked at."""

    extraction: Extraction = Extraction()
    substitutions: tuple[Claim, ...] = ()
    """Claims whose left side holds variables where the right side holds numbers."""
    bindings: tuple[tuple[str, Expression], ...] = ()
    """`A = ... = 71`: names and the closed values that this step gives them."""


def _reading(text: str, problem: str) -> _Reading:
    """A step is read by each verifier, and again as context: short ones are remembered."""
    return _remembered(text, problem) if len(text) <= REMEMBERED_CHARACTERS else _read(text, problem)


@lru_cache(maxsize=8192)
def _remembered(text: str, problem: str) -> _Reading:
    return _read(text, problem)


def _read(text: str, problem: str) -> _Reading:
    if len(text) > MAX_CHARACTERS:
        whole = Span(start=0, end=len(text))
        return _Reading(Extraction(undecided=(Undecided(whole, text[:200], "step_too_long"),)))
    if not _may_hold_claims(text):
        return _Reading()
    tokens, annotations = lex(text)
    finder = _Finder(text, problem)
    for annotation in annotations:
        finder.read(annotation, annotated=True)
    finder.read(in_signs(tokens))
    # a step that states something false gives nothing that later steps could rest on
    sound = all(decide(claim).holds is not False for claim in finder.claims)
    return _Reading(
        Extraction(tuple(finder.claims), tuple(finder.undecided)),
        tuple(finder.substitutions),
        tuple(finder.bindings) if sound else (),
    )


def _may_hold_claims(text: str) -> bool:
    """A quick look: most prose has no relation sign and need not be cut into tokens."""
    return (
        any(sign in text for sign in "=<>≈≤≥≠")
        or "\\" in text
        or (any(f" {word} " in text for word in ("is", "equals", "equal")) and any(c.isdigit() for c in text))
    )


class _Finder:
    """Collects the claims of one step; the same claim stated twice is kept once."""

    def __init__(self, text: str, problem: str) -> None:
        self.text = text
        self.problem = problem
        self.claims: list[Claim] = []
        self.undecided: list[Undecided] = []
        self.substitutions: list[Claim] = []
        self.bindings: list[tuple[str, Expression]] = []
        self._seen: set[tuple[object, ...]] = set()

    def read(self, tokens: Sequence[Token], *, annotated: bool = False) -> None:
        for piece in _pieces(tokens):
            self._read_piece(piece, annotated)

    def _read_piece(self, piece: list[Token], annotated: bool) -> None:
        at = [i for i, token in enumerate(piece) if token.kind is Kind.RELATION]
        if not at:
            return
        edges = [-1, *at, len(piece)]
        left = _ending(piece, edges[0] + 1, edges[1])
        name = left[1].expression if left is not None and piece[at[0]].text == "=" else None
        value: Expression | None = None
        computed = False
        for k, relation in enumerate(at):
            begin, end = relation + 1, edges[k + 2]
            right = _beginning(piece, begin, end)
            if left is not None and right is not None:
                computed = computed or left[1].operators > 0
                self._claim(piece, left, relation, right, annotated, computed=computed)
            elif _is_arithmetic(piece[edges[k] + 1 : relation], piece[begin:end]):
                span = Span(start=piece[edges[k] + 1].start, end=piece[end - 1].end)
                self._unread(span)
            if right is not None and piece[relation].text == "=" and is_closed(right[1].expression):
                value = right[1].expression
            if k + 1 < len(at):
                whole = right is not None and right[1].stop == end
                left = right if whole else _ending(piece, begin, end)
        if isinstance(name, Variable) and value is not None and len(at) > 1:
            self.bindings.append((name.name, value))

    def _unread(self, span: Span) -> None:
        if len(self.undecided) < MAX_CLAIMS:
            self.undecided.append(Undecided(span, self.text[span.start : span.end][:MAX_UNREAD], "not_read"))

    def _claim(
        self,
        piece: list[Token],
        left: tuple[int, Side],
        relation: int,
        right: tuple[int, Side],
        annotated: bool,
        *,
        computed: bool,
    ) -> None:
        (first, lhs), (start, rhs) = left, right
        sign = piece[relation]
        left_side, right_side, stop = lhs.expression, rhs.expression, rhs.stop
        relates = Relation(sign.text) if sign.text != "≈" else Relation.EQUAL
        if sign.text == "=" and (remainder := remainder_after(piece, stop)) is not None:
            sides = division_sides(left_side, right_side, remainder[0])
            if sides is not None:
                (left_side, relates, right_side), stop = sides, remainder[1]
        span = _whole_braces(self.text, piece[first].start, piece[stop - 1].end)
        written = self.text[sign.start : sign.end]
        if not (computed and _restates(lhs, rhs, written)) and not _says_something(lhs, rhs, sign, written):
            return
        closed_left = is_closed(left_side)
        if not is_closed(right_side) or not (closed_left or is_substitution(left_side, right_side)):
            return
        claim = Claim(
            relation=relates,
            left=left_side,
            right=right_side,
            span=span,
            text=self.text[span.start : span.end],
            written=sign.text,
        )
        identity = (claim.left, claim.right, claim.written)
        if identity in self._seen:
            return
        self._seen.add(identity)
        if len(self._seen) > MAX_CLAIMS:
            if len(self._seen) == MAX_CLAIMS + 1:
                self.undecided.append(Undecided(span, claim.text, "too_many_claims"))
            return
        if not closed_left:
            self.substitutions.append(claim)
            return
        claim = with_tolerance(claim)
        if claim.written == "≈" and claim.relation is not Relation.ABOUT and not decide(claim).holds:
            self.undecided.append(Undecided(span, claim.text, "no_digits_to_compare"))
            return
        in_words = self.text[sign.start : sign.end].isalpha()
        place = Place(self.text, self.problem, piece, first, start, stop, annotated, in_words)
        holds = decide(claim).holds
        reason = another_meaning(lhs, rhs, place) or (doubt(claim, lhs, rhs, place) if holds is False else None)
        if reason:
            self.undecided.append(Undecided(span, claim.text, reason))
        else:
            self.claims.append(claim)


def _whole_braces(text: str, start: int, end: int) -> Span:
    """The span from `start` to `end`, and on over the closing braces of text that it ends in."""
    opened = text.count("{", start, end) - text.count("}", start, end)
    while opened > 0 and text[end : end + 1] == "}":
        opened -= 1
        end += 1
    return Span(start=start, end=end)


def _says_something(left: Side, right: Side, sign: Token, written: str) -> bool:
    """Whether the relation is a computation: `8 = 8` and `3 < 5` are bookkeeping, `5 + 3 = 8` is a claim."""
    operators = left.operators + right.operators
    if written.isalpha():  # "is" asserts arithmetic only after arithmetic
        return left.operators > 0 and not _bare_fraction(left)
    return operators > 0 or (left.is_percent != right.is_percent)


def _restates(left: Side, right: Side, written: str) -> bool:
    """Whether a computation goes on with the same number again: `3 + 4 = 7 = 8`."""
    return not written.isalpha() and isinstance(left.expression, Number) and isinstance(right.expression, Number)


def _is_arithmetic(left: Sequence[Token], right: Sequence[Token]) -> bool:
    """Whether two sides hold numbers and signs and no algebra, so that a relation between them is a computation."""
    both = [*left, *right]
    return (
        all(any(token.kind is Kind.NUMBER for token in side) for side in (left, right))
        and any(token.kind in _SIGNS for token in both)
        and not any(token.kind in (Kind.NAME, Kind.OPAQUE) for token in both)
    )


_SIGNS = frozenset([Kind.PLUS, Kind.MINUS, Kind.TIMES, Kind.DIVIDE, Kind.POWER, Kind.FRACTION, Kind.ROOT])


def _bare_fraction(side: Side) -> bool:
    node = side.expression
    return (
        isinstance(node, Binary)
        and node.operator is Operator.DIVIDE
        and isinstance(node.left, Number)
        and isinstance(node.right, Number)
    )


def _pieces(tokens: Sequence[Token]) -> list[list[Token]]:
    """Runs of tokens within which an equation may stand."""
    pieces: list[list[Token]] = [[]]
    for i, token in enumerate(tokens):
        if token.kind is Kind.LINE:
            following = next((t for t in tokens[i + 1 : i + 4] if t.kind is not Kind.LINE), None)
            if following is not None and following.kind is Kind.RELATION and pieces[-1]:
                continue  # the equation goes on in the next line
            pieces.append([])
        elif token.kind in (Kind.STOP, Kind.COMMA):
            pieces.append([])
        else:
            pieces[-1].append(token)
    return [piece for piece in pieces if piece]


def _beginning(piece: list[Token], begin: int, end: int) -> tuple[int, Side] | None:
    """The expression right after a relation, when nothing that could belong to it follows."""
    try:
        side = parse(piece, begin, end)
    except NotAnExpression:
        return None
    if side.stop == end:
        return begin, side
    after = piece[side.stop]
    previous = piece[side.stop - 1]
    if after.kind is Kind.WORD:
        clean = after.text not in CHANGES_VALUE
    elif after.kind is Kind.CLOSE:
        clean = True
    elif after.kind is Kind.OPEN:
        inside = piece[side.stop + 1] if side.stop + 1 < len(piece) else None
        clean = after.start > previous.end and inside is not None and inside.kind is Kind.WORD
    elif after.kind is Kind.CURRENCY:
        clean = side.stop + 1 >= end or piece[side.stop + 1].kind is Kind.WORD
    else:
        clean = False
    return (begin, side) if clean else None


def _ending(piece: list[Token], begin: int, end: int) -> tuple[int, Side] | None:
    """The expression right before a relation, begun where ordinary words or an opened bracket leave off."""
    for start in _starts(piece, begin, end):
        try:
            side = parse(piece, start, end)
        except NotAnExpression:
            continue
        if side.stop != end:
            continue
        previous = piece[start - 1] if start > begin else None
        if previous is not None and previous.kind is Kind.WORD and previous.text in CHANGES_VALUE:
            return None
        return start, side
    return None


def _starts(piece: list[Token], begin: int, end: int) -> list[int]:
    """Places where the last expression of a side may begin, leftmost first."""
    starts = []
    unmatched = 0
    for index in range(end - 1, begin - 1, -1):
        token = piece[index]
        if token.kind is Kind.CLOSE:
            unmatched += 1
        elif token.kind is Kind.OPEN:
            if unmatched:
                unmatched -= 1
            elif index + 1 < end and (index == begin or piece[index - 1].kind not in _SIGNS):
                starts.append(index + 1)
        if token.kind in _BEGINS and not unmatched and _may_begin(piece, begin, index):
            starts.append(index)
        if len(starts) >= _MAX_STARTS:
            break
    return sorted(set(starts))


def _may_begin(piece: list[Token], begin: int, index: int) -> bool:
    if index == begin:
        return True
    previous = piece[index - 1]
    if previous.kind is not Kind.WORD:
        return False
    if piece[index].kind is Kind.OPEN and piece[index].start == previous.end:
        return False  # `abs(3 - 5)`, `arr[3 - 1]`: a call or an index
    # `price - 5 = 3`: a minus after a noun subtracts from something that was not read
    return piece[index].kind is not Kind.MINUS or previous.text in LEADS_TO_SIGN


_BEGINS = frozenset(
    [Kind.NUMBER, Kind.OPEN, Kind.MINUS, Kind.FRACTION, Kind.ROOT, Kind.BINOMIAL, Kind.CURRENCY, Kind.BAR, Kind.NAME]
)
