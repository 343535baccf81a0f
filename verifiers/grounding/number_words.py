"""Words that are numbers or parts of them, in English."""

from __future__ import annotations

from fractions import Fraction


def in_order(text: str) -> tuple[str, ...]:
    """The words of `text`, as a table."""
    return tuple(text.split())


UNITS = {
    word: value
    for value, word in enumerate(
        in_order(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
            " seventeen eighteen nineteen"
        )
    )
}
TENS = {
    word: 10 * value
    for value, word in enumerate(in_order("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
} | {"fourty": 40}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SHORT_SCALES = {"k": 10**3, "m": 10**6, "mn": 10**6, "mio": 10**6, "bn": 10**9, "b": 10**9, "tn": 10**12}
"""Behind digits: `$5m`, `20k`. They may be units as well (metres), so the bare digits are another reading."""

ORDINAL_UNITS = {
    word: value
    for value, word in enumerate(
        in_order(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
            " fifteenth sixteenth seventeenth eighteenth nineteenth"
        ),
        start=1,
    )
}
ORDINAL_TENS = {
    word: 10 * value
    for value, word in enumerate(
        in_order("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth"), start=2
    )
}
ORDINAL_SCALES = {"hundredth": 100, "thousandth": 10**3, "millionth": 10**6, "billionth": 10**9}

DECADES = {
    "twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80,
    "nineties": 90,
}  # fmt: skip

PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "eighths": 8, "tenth": 10, "tenths": 10,
}  # fmt: skip
"""Denominators, behind a number: `two-thirds`, `one half`."""

IMPLIED = {
    "once": 1, "single": 1, "sole": 1, "twice": 2, "both": 2, "pair": 2, "couple": 2, "double": 2, "duo": 2,
    "thrice": 3, "triple": 3, "trio": 3, "quartet": 4, "decade": 10, "century": 100, "nil": 0, "none": 0, "no": 0,
}  # fmt: skip
"""A document that says these has the number; a claim that says them states none that could be looked for."""

GLYPHS = {
    "¼": Fraction(1, 4), "½": Fraction(1, 2), "¾": Fraction(3, 4), "⅓": Fraction(1, 3), "⅔": Fraction(2, 3),
    "⅛": Fraction(1, 8), "⅜": Fraction(3, 8), "⅝": Fraction(5, 8), "⅞": Fraction(7, 8), "⅕": Fraction(1, 5),
    "⅖": Fraction(2, 5), "⅗": Fraction(3, 5), "⅘": Fraction(4, 5), "⅙": Fraction(1, 6), "⅚": Fraction(5, 6),
}  # fmt: skip

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
            "september sep sept", "october oct", "november nov", "december dec",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip

ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}


def roman(numeral: str) -> int | None:
    """The value of `xxiv`; None where it is not written as a Roman numeral is."""
    if not 1 <= len(numeral) <= 15 or any(letter not in ROMAN for letter in numeral):
        return None
    values = [ROMAN[letter] for letter in numeral]
    total = sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
    return total if total > 0 and to_roman(total) == numeral else None


def to_roman(value: int) -> str:
    """Lower case; of 1 to 3999."""
    signs = zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        in_order("m cm d cd c xc l xl x ix v iv i"),
        strict=True,
    )
    written = ""
    for size, sign in signs:
        written += sign * (value // size)
        value %= size
    return written
