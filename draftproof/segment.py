"""Cut the text of a solution into steps, losslessly.

A step is a span of characters; the spans touch, so the pieces always concatenate to the input. What
separates two steps belongs to the step before it. A rule never cuts inside `$$…$$`, `\\[…\\]`, fenced code or
`\\begin{x}…\\end{x}`: half a formula is not a step. A delimiter that is never closed protects nothing.

A piece without a letter or digit (a rule, a lone bracket) is no step either: it joins the next piece, or the
last one when nothing follows. Every rule runs in linear time, whatever the text.

Rules are versioned, because verdicts are about step numbers: a rule that would cut any text differently gets
a new version, and `segmentation_name` is what a trace keeps.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator

from draftproof.errors import UnknownNameError
from draftproof.trace import Span

Rule = Callable[[str], Iterable[int]]


def segment(text: str, strategy: str) -> list[Span]:
    """The spans of the steps of `text`; none for the empty text. See `strategies()` for the names."""
    ends = cuts(text, strategy)
    return [Span(start=start, end=end) for start, end in zip([0, *ends], ends, strict=False)]


def pieces(text: str, strategy: str) -> list[str]:
    """The step texts themselves: `"".join(pieces(text, strategy)) == text`."""
    ends = cuts(text, strategy)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def cuts(text: str, strategy: str) -> list[int]:
    """Where each step ends, ascending; the last one is `len(text)`."""
    rule, _version, _summary = _lookup(strategy)
    if not text:
        return []
    candidates = [cut for cut in rule(text) if 0 < cut < len(text)]
    if candidates:
        candidates = _outside(protected_regions(text), candidates)
    return _merged(text, candidates)


def segmentation_name(strategy: str) -> str:
    """`name@version`, the form that a trace and its verdicts carry."""
    _rule, version, _summary = _lookup(strategy)
    return f"{strategy.partition('@')[0]}@{version}"


def strategies() -> dict[str, str]:
    """Every rule with a line about it, for help texts."""
    return {name: summary for name, (_rule, _version, summary) in _RULES.items()}


def protected_regions(text: str) -> list[tuple[int, int]]:
    """Half-open ranges that no cut may fall into: outermost only, ascending, disjoint."""
    if "$$" not in text and "\\" not in text and "```" not in text and "~~~" not in text:
        return []
    marks = [mark for mark in _DELIMITER.finditer(text) if mark.lastgroup is not None]
    closed_at = _closers(marks)
    regions: list[tuple[int, int]] = []
    reached = 0
    for index, mark in enumerate(marks):
        end = closed_at.get(index)
        if end is not None and mark.start() >= reached:
            regions.append((mark.start(), end))
            reached = end
    return regions


# `\\` and `\$` come first so that `\\[2pt]` is not taken for an opening bracket, nor `\$$` for display mathematics.
_DELIMITER = re.compile(
    r"\\\\|\\\$"
    r"|(?P<dollars>\$\$)"
    r"|(?P<open>\\\[)|(?P<close>\\\])"
    r"|\\begin\{(?P<begin>[A-Za-z]{1,40}\*?)\}|\\end\{(?P<end>[A-Za-z]{1,40}\*?)\}"
    r"|^[ \t]{0,3}(?P<fence>`{3,}|~{3,})",
    re.MULTILINE,
)


def _closers(marks: list[re.Match[str]]) -> dict[int, int]:
    """For each opening mark that is closed, the offset where its region ends."""
    closed_at: dict[int, int] = {}
    next_end: dict[str, int] = {}
    for index in range(len(marks) - 1, -1, -1):
        mark = marks[index]
        kind = mark.lastgroup or ""
        if kind == "close":
            next_end["open"] = mark.end()
        elif kind == "open" and "open" in next_end:
            closed_at[index] = next_end["open"]
        elif kind in ("dollars", "fence"):
            # A fence is closed by the next fence of the same character.
            key = kind if kind == "dollars" else mark["fence"][0]
            if key in next_end:
                closed_at[index] = next_end[key]
            next_end[key] = mark.end()
    opened: dict[str, list[int]] = {}
    for index, mark in enumerate(marks):
        if mark.lastgroup == "begin":
            opened.setdefault(mark["begin"], []).append(index)
        elif mark.lastgroup == "end" and opened.get(mark["end"]):
            closed_at[opened[mark["end"]].pop()] = mark.end()
    return closed_at


def _outside(regions: list[tuple[int, int]], candidates: list[int]) -> list[int]:
    starts = [start for start, _end in regions]
    kept = []
    for cut in candidates:
        before = bisect_right(starts, cut) - 1
        # A cut exactly at a region's start or end is between steps, not inside.
        if before < 0 or cut == regions[before][0] or cut >= regions[before][1]:
            kept.append(cut)
    return kept


_MEANINGFUL = re.compile(r"[^\W_]")


def _merged(text: str, candidates: list[int]) -> list[int]:
    """Drop each cut whose piece says nothing; what is left over at the end joins the piece before."""
    ends: list[int] = []
    searched = 0
    for cut in [*candidates, len(text)]:
        if _MEANINGFUL.search(text, searched, cut):
            ends.append(cut)
        searched = cut
    if ends:
        ends[-1] = len(text)
        return ends
    return [len(text)]


_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_LINE_END = re.compile(r"\n(?:[^\S\n]*\n)*")
_NUMBERED = re.compile(
    r"^[ \t>*#-]*(?:step[ \t]*\d{1,4}\b|\(\d{1,3}\)[ \t]|\d{1,3}[.):](?=[ \t*]))", re.MULTILINE | re.IGNORECASE
)
_NATURAL_PROGRAM = re.compile(r"^[ \t]*#\d{1,4}[.:]", re.MULTILINE)
# The look-behind lets a run of dots match only from its start: without it, "......" costs quadratic time.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’)\]*]*\s+(?=\S)|(?<![。！？])[。！？]+[”’」』）]*\s*")
_LAST_WORD = re.compile(r"[^\W_](?:[\w.]{0,11})$")
_LIST_MARKER = re.compile(r"(?:\n|[.!?:]\s)[ \t>*#(-]*$")
_ABBREVIATIONS = (
    " dr mr mrs ms prof st jr sr vs etc cf al approx fig figs eq eqs no nos vol sec ch pp resp thm lem prop def "
    "i.e e.g a.k.a w.l.o.g wlog inc ltd co "
)


def _after(pattern: re.Pattern[str]) -> Rule:
    return lambda text: (match.end() for match in pattern.finditer(text))


def _before(pattern: re.Pattern[str]) -> Rule:
    return lambda text: (match.start() for match in pattern.finditer(text))


def _sentences(text: str) -> Iterator[int]:
    ends = [match.end() for match in _BLANK_LINES.finditer(text)]
    for match in _SENTENCE_END.finditer(text):
        if not _goes_on(text, match):
            ends.append(match.end())
    return iter(sorted(set(ends)))


def _goes_on(text: str, end: re.Match[str]) -> bool:
    """Whether the stop belongs to an abbreviation, an initial or a list number, or the next word is lower case."""
    if end.end() >= len(text) or text[end.start()] != ".":
        return False
    if text[end.end()].islower():
        return True
    before = _LAST_WORD.search(text, max(0, end.start() - 12), end.start())
    if before is None:
        return False
    word = before[0]
    if word.isdigit() and len(word) <= 3:
        return _LIST_MARKER.search(text, max(0, before.start() - 8), before.start()) is not None or before.start() == 0
    return f" {word.lower()} " in _ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")


_RULES: dict[str, tuple[Rule, int, str]] = {
    "blank_line": (_after(_BLANK_LINES), 1, "a step ends at a blank line"),
    "line": (_after(_LINE_END), 1, "a step ends at the end of its line"),
    "numbered": (_before(_NUMBERED), 1, "a step starts at a line that begins with `Step 3`, `3.`, `3)` or `(3)`"),
    "sentence": (_sentences, 1, "a step ends with its sentence, or at a blank line"),
    "natural_program": (_before(_NATURAL_PROGRAM), 1, "a step starts at a line like `#3. …` (Natural Program)"),
    "code_line": (_after(_LINE_END), 1, "a step is a line of source code"),
    "given": (lambda _text: (), 1, "the text is one step: whoever wrote the record has split it already"),
}


def _lookup(strategy: str) -> tuple[Rule, int, str]:
    name, _, version = strategy.partition("@")
    rule = _RULES.get(name)
    if rule is None or (version and version != str(rule[1])):
        raise UnknownNameError(
            f"there is no segmentation {strategy!r}.",
            remedy=f"Known are {', '.join(f'{known}@{entry[1]}' for known, entry in _RULES.items())}.",
        )
    return rule
