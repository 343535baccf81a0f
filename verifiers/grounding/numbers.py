"""Read the numbers of a text, in any usual English spelling, exactly.

`1,000`, `1 000`, `1000`, `one thousand`, `1k`; `1.50`, `1·5`, `1½`, `three halves`; `12%`, `twelve percent`; `3rd`,
`third`, `the twenties`; `$5 million`; dates part by part, with months as values of their own. Units, currencies and
signs are no part of a value: whether the same value is said of the same thing is not for this reader to know.

Where a spelling can be read in more than one way, the number has all of those readings: `1994–95` may go to 95 or to
1995, `1/2` may be a half or two numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from draftproof.verifiers.grounding.cardinals import BETWEEN, Atom, cardinal, scale_of
from draftproof.verifiers.grounding.number_words import (
    DECADES,
    GLYPHS,
    IMPLIED,
    MONTHS,
    ORDINAL_UNITS,
    PARTS,
    SHORT_SCALES,
    roman,
)

Value = Fraction | str
"""A number; or `month 3`; or the digits themselves where they are too many to compute with."""

MOST_DIGITS = 40
"""Of a number that is computed with."""


@dataclass(frozen=True, slots=True)
class Number:
    """One number, where it stands, and what it may be."""

    start: int
    end: int
    readings: tuple[tuple[Value, ...], ...]
    """It is there where all values of any reading are."""

    @property
    def values(self) -> Iterator[Value]:
        return (value for reading in self.readings for value in reading)


_ATOM = re.compile(
    r"(?P<digits>\d{1,3}(?: \d{3})+(?![\d,])(?:[.·]\d+)?|\d+(?:[,.·\u00a0\u202f\u2009’'٬]\d+)*|(?<![\w.·])[.·]\d+)"
    r"(?P<glyph>[¼½¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚])?"
    r"|(?P<alone>[¼½¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚])"
    r"|(?P<word>[^\W\d_]+)"
)
_AND = re.compile(r"[\s-]{1,3}and[\s-]{1,3}", re.IGNORECASE)
_RANGE = re.compile(r"[-‐‑–—/]|\s[-–—]\s| to | and | or ")
_SUFFIX = re.compile(r"(?:st|nd|rd|th)\b|[’']?s\b|\s?%", re.IGNORECASE)


def numbers(text: str) -> list[Number]:
    """All numbers that `text` may be said to have, in order; also those only implied (`twice`, `Elizabeth II`).

    Linear in the length of `text`.
    """
    atoms = [
        Atom(m.start(), m.end(), (m["word"] or "").lower(), m["digits"] or "", m["glyph"] or m["alone"] or "")
        for m in _ATOM.finditer(text)
    ]
    found: list[Number] = []
    at = 0
    while at < len(atoms):
        read, used = _number(text, atoms, at)
        found += read
        at += used
    return found


def stated_numbers(text: str) -> list[Number]:
    """The numbers that `text` states, so that they can be asked for: less what is only implied, digits inside names
    (`H1N1`), and *one*, *first* and *second* where they count nothing (`one of`, `first,`, `a second`)."""
    return [number for number in numbers(text) if _is_stated(text, number)]


_IDLE_ONE_BEFORE = re.compile(
    r"\b(?:no|the|this|that|any|every|each|some|which|another|such|only|day|at|from)[\s-]+$", re.IGNORECASE
)
_IDLE_ONE_AFTER = re.compile(
    r"[\s-]*(?:of|another|or|can|may|could|should|would|must|who|that|which|hand|day|by|is|was|has|'s|’s|[.,;:!?)]|$)",
    re.IGNORECASE,
)
_COUNTING_FIRST = re.compile(r"(?:\b(?:the|his|her|its|their|our|my)|[’']s|s[’'])[\s-]+$", re.IGNORECASE)
_TIME_BEFORE = re.compile(r"(?:\b(?:a|per|each|every|split)|\d)[\s-]+$", re.IGNORECASE)
_FIRST_AFTER = re.compile(r"[\s-]*(?:of all\b|place\b|time\b|thing\b|and foremost\b|name\b|step\b)", re.IGNORECASE)


def _is_stated(text: str, number: Number) -> bool:
    before, written = text[max(0, number.start - 12) : number.start], text[number.start : number.end]
    after = text[number.end : number.end + 12]
    if written[0].isdigit():
        return not before[-1:].isalpha()
    word = written.lower()
    if word in IMPLIED or (written.isupper() and roman(word) is not None):
        return False
    if word in MONTHS:
        return _is_month(written, before, after)
    if word == "one":
        return not _IDLE_ONE_BEFORE.search(before) and not _IDLE_ONE_AFTER.match(after)
    if word == "first":
        return bool(_COUNTING_FIRST.search(before)) and not _FIRST_AFTER.match(after)
    if word == "second":
        return not _TIME_BEFORE.search(before)
    return word not in PARTS or word in ORDINAL_UNITS


_DATE_BEFORE = re.compile(
    r"(?:\d|\d(?:st|nd|rd|th)|\b(?:of|in|on|since|until|by|from|to|early|late|mid|between|during|through))[\s-]+$",
    re.IGNORECASE,
)


def _is_month(written: str, before: str, after: str) -> bool:
    """Names of months are names of people and ordinary words as well."""
    if not written[0].isupper():
        return False
    return bool(re.match(r"\.?,?[\s-]+\d", after)) or bool(_DATE_BEFORE.search(before))


def _number(text: str, atoms: Sequence[Atom], at: int) -> tuple[list[Number], int]:
    """The numbers that begin with atom `at`, and how many atoms they take."""
    atom = atoms[at]
    if not atom.word:
        return _from_digits(text, atoms, at)
    if atom.word in MONTHS:
        return [Number(atom.start, atom.end, ((f"month {MONTHS[atom.word]}",),))], 1
    value, used = cardinal(text, atoms, at)
    if value is not None:
        return _from_words(text, atoms, at, value, used)
    if atom.word in DECADES:
        decade = DECADES[atom.word]
        return [Number(atom.start, atom.end, tuple((Fraction(x + decade),) for x in (1900, 1800, 0)))], 1
    if atom.word in IMPLIED:
        return [Number(atom.start, atom.end, ((Fraction(IMPLIED[atom.word]),),))], 1
    if atom.word in ("half", "quarter"):
        part = Fraction(1, PARTS[atom.word])
        return [Number(atom.start, atom.end, ((part,), (part * 100,)))], 1
    written = text[atom.start : atom.end]
    if written.isupper() and (numeral := roman(atom.word)) is not None:
        return [Number(atom.start, atom.end, ((Fraction(numeral),),))], 1
    return [], 1


# Digits


def _from_digits(text: str, atoms: Sequence[Atom], at: int) -> tuple[list[Number], int]:
    atom = atoms[at]
    readings = _digit_readings(atom.digits) if atom.digits else []
    if atom.glyph:
        part = GLYPHS[atom.glyph]
        mixed: list[tuple[Value, ...]] = [
            (each[0] + part,) for each in readings if len(each) == 1 and isinstance(each[0], Fraction)
        ]
        readings = mixed or [*readings, (part,)]
    end, used = atom.end, 1
    following = atoms[at + 1] if at + 1 < len(atoms) else None
    if following is not None and following.word:
        gap = text[atom.end : following.start]
        scale, used_scale = scale_of(text, atoms, at + 1, gap)
        if scale:
            scaled = [(each[0] * scale,) for each in readings if len(each) == 1 and isinstance(each[0], Fraction)]
            end, used = atoms[at + used_scale].end, 1 + used_scale
            return [Number(atom.start, end, tuple(scaled) or tuple(readings))], used
        if following.word in SHORT_SCALES and gap in ("", " ") and len(readings[0]) == 1:
            # the bare digits stay a reading, unless a sign of money says that these are no metres
            money = re.search(r"[$€£¥]\s?$", text[max(0, atom.start - 3) : atom.start]) is not None
            short: list[tuple[Value, ...]] = [
                (each[0] * SHORT_SCALES[following.word],)
                for each in readings
                if len(each) == 1 and isinstance(each[0], Fraction)
            ]
            readings = short if money and short else [*readings, *short]
    elif following is not None and text[atom.end : following.start] == "/" and _is_fraction(text, atom, following):
        top, bottom = int(atom.digits), int(following.digits)
        pair: tuple[Value, ...] = (Fraction(top), Fraction(bottom))
        proper: tuple[tuple[Value, ...], ...] = ((Fraction(top, bottom),),) if top < bottom else ()
        return [Number(atom.start, following.end, (*proper, pair))], 2
    readings += [*_shared_scale(text, atoms, at, readings), *_short_years(text, atoms, at)]
    suffix = _SUFFIX.match(text, end)
    numbers = [Number(atom.start, suffix.end() if suffix else end, tuple(readings))]
    return numbers + _date_months(text, atoms, at), used


def _digit_readings(written: str) -> list[tuple[Value, ...]]:
    """What digits with marks between them may be."""
    if written[0] in ".·":
        return [(_value(f"0.{written[1:]}"),)]
    parts = re.split(r"[^\d]", written)
    marks = re.findall(r"[^\d]", written)
    if not marks:
        return [(_value(written),)]
    whole, fraction, groups, signs = written, "", parts, marks
    if marks[-1] in ".·" and marks.count(marks[-1]) == 1:
        groups, signs, fraction = parts[:-1], marks[:-1], parts[-1]
    readings: list[tuple[Value, ...]] = []
    grouped = len(set(signs)) <= 1 and _are_groups(groups)
    if grouped:
        whole = "".join(groups)
        readings.append((_value(f"{whole}.{fraction}" if fraction else whole),))
        if marks == ["."] and len(fraction) == 3 and 1 <= len(groups[0]) <= 3 and groups[0] != "0":
            readings.append((_value(whole + fraction),))  # 1.000, as much of Europe writes a thousand
    if len(parts) == 2 and marks == [","] and len(parts[1]) <= 2:
        readings.append((_value(f"{parts[0]}.{parts[1]}"),))
    if not grouped or set(signs) & {" ", "'", "’"}:
        readings.append(tuple(_value(part) for part in parts))
    return readings


def _are_groups(groups: Sequence[str]) -> bool:
    """Whether digits are grouped as thousands are, or as in India: 1,234,567 or 12,34,567."""
    if len(groups) == 1:
        return True
    first, *middle, last = groups
    sizes = {len(group) for group in middle}
    in_thousands = 1 <= len(first) <= 3 and sizes <= {3}
    return len(last) == 3 and (in_thousands or (len(first) <= 2 and sizes == {2}))


def _value(written: str) -> Value:
    if len(written) > MOST_DIGITS:
        return written.strip().lstrip("0") or "0"
    return Fraction(written)


def _is_fraction(text: str, top: Atom, bottom: Atom) -> bool:
    if not (top.digits.isdecimal() and bottom.digits.isdecimal() and len(top.digits) <= 3 and len(bottom.digits) <= 3):
        return False
    return int(bottom.digits) > 0 and text[bottom.end : bottom.end + 1] != "/" and text[max(0, top.start - 1)] != "/"


def _short_years(text: str, atoms: Sequence[Atom], at: int) -> list[tuple[Value, ...]]:
    """`95` in `1994–95` may be 1995, and in `’95` as well."""
    atom = atoms[at]
    if len(atom.digits) != 2 or not atom.digits.isdecimal():
        return []
    if text[max(0, atom.start - 1) : atom.start] in ("'", "’", "‘"):
        return [(Fraction(century + int(atom.digits)),) for century in (1800, 1900, 2000)]
    before = atoms[at - 1] if at else None
    if before is None or len(before.digits) != 4 or not before.digits.isdecimal():
        return []
    if not _RANGE.fullmatch(text, before.end, atom.start):
        return []
    return [(Fraction(int(before.digits[:2]) * 100 + int(atom.digits)),)]


def _shared_scale(
    text: str, atoms: Sequence[Atom], at: int, readings: Sequence[tuple[Value, ...]]
) -> list[tuple[Value, ...]]:
    """`5` in `5 to 6 million` may be 5 million."""
    other = next((n for n in (at + 1, at + 2) if n + 1 < len(atoms) and atoms[n].digits), None)
    if other is None or not _RANGE.fullmatch(text, atoms[at].end, atoms[other].start):
        return []
    scale, _ = scale_of(text, atoms, other + 1, text[atoms[other].end : atoms[other + 1].start])
    return [(each[0] * scale,) for each in readings if scale and len(each) == 1 and isinstance(each[0], Fraction)]


_NUMERIC_DATE = re.compile(r"(?<!\d)(?:\d{4}[-/.](\d{1,2})[-/.](\d{1,2})|(\d{1,2})[-/.](\d{1,2})[-/.]\d{2,4})(?!\d)")


def _date_months(text: str, atoms: Sequence[Atom], at: int) -> list[Number]:
    """The month of a date that begins with these digits; both candidates where the order is not told."""
    atom = atoms[at]
    match = _NUMERIC_DATE.match(text, atom.start)
    if match is None:
        return []
    candidates = {int(group) for group in match.groups()[:1] if group} or {int(group) for group in match.groups()[2:]}
    months = tuple((f"month {month}",) for month in sorted(candidates) if 1 <= month <= 12)
    return [Number(atom.start, match.end(), months)] if months else []


# Words


def _from_words(text: str, atoms: Sequence[Atom], at: int, value: int, used: int) -> tuple[list[Number], int]:
    start, end = atoms[at].start, atoms[at + used - 1].end
    readings: list[tuple[Value, ...]] = [(Fraction(value),)]
    after = atoms[at + used] if at + used < len(atoms) else None
    if after is None:
        return [Number(start, end, tuple(readings))], used
    gap = text[end : after.start]
    joined = bool(BETWEEN.fullmatch(gap))
    if joined and after.word in PARTS and value > 0:  # two-thirds
        denominator = PARTS[after.word]
        pair: tuple[Value, ...] = (Fraction(value), Fraction(denominator))
        return [Number(start, after.end, ((Fraction(value, denominator),), pair))], used + 1
    if _AND.fullmatch(text[end : after.end] + " ") and at + used + 2 < len(atoms):  # three and a half
        article, half = atoms[at + used + 1], atoms[at + used + 2]
        if article.word in ("a", "one") and half.word in ("half", "quarter"):
            mixed = value + Fraction(1, PARTS[half.word])
            return [Number(start, half.end, ((mixed,), (Fraction(value),)))], used + 3
    if joined and 10 <= value <= 99 and used <= 2:  # nineteen ninety-nine
        second, more = cardinal(text, atoms, at + used)
        if second is not None and 10 <= second <= 99 and more <= 2:
            pair = (Fraction(value), Fraction(second))
            return [
                Number(start, atoms[at + used + more - 1].end, ((Fraction(100 * value + second),), pair))
            ], used + more
    return [Number(start, end, tuple(readings))], used
