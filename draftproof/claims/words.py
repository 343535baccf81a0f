"""What words mean to the claim parser. A word in no table is an ordinary word: a unit, or prose.

The tables err on the side of silence: a word that could change a number's value makes the parser
give up on that side of an equation rather than read it without the word.
"""

from __future__ import annotations

from fractions import Fraction


def words(text: str) -> frozenset[str]:
    """The words of `text`, as a table."""
    return frozenset(text.split())


SUM_WORDS = {"plus": "+", "minus": "-"}
PRODUCT_WORDS = {"times": "*"}
PHRASES = {("multiplied", "by"): "*", ("divided", "by"): "/"}

FRACTION_WORDS = {
    "half": Fraction(1, 2),
    "third": Fraction(1, 3),
    "thirds": Fraction(1, 3),
    "quarter": Fraction(1, 4),
    "quarters": Fraction(1, 4),
    "fourth": Fraction(1, 4),
    "fourths": Fraction(1, 4),
    "fifth": Fraction(1, 5),
    "fifths": Fraction(1, 5),
    "sixth": Fraction(1, 6),
    "sixths": Fraction(1, 6),
    "eighth": Fraction(1, 8),
    "eighths": Fraction(1, 8),
    "tenth": Fraction(1, 10),
    "tenths": Fraction(1, 10),
}
"""Factors in `half of 48`, `two thirds of 9`; the numerator, if any, stands before the word."""

COUNT_WORDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip

MULTIPLE_WORDS = {"twice": 2, "double": 2, "triple": 3, "thrice": 3}

EQUALS_WORDS = frozenset({"is", "equals", "equal"})

LEADS_TO_SIGN = words("is equals equal to of get gets gives give makes so then that than")
"""After these words a minus sign belongs to the number that follows."""

ORDINAL_NOUNS = words(
    "day days week weeks month months year years step steps case cases part parts room number no grade page chapter"
    " floor class level question problem round game trip stage phase line row column group team"
)
"""`day 1 * 2`: a number after these is a name, not an amount."""

GLUED_UNITS = words(
    "cm mm km kg mg ml kl lb lbs oz ft yd mi mph kph hr hrs min mins sec secs gal pts deg usd"
    " am pm gb mb kb kw kwh hz khz mhz"
)
"""Letters that may follow a digit without a space and still be a unit; any others are variables."""

CHANGES_VALUE = (
    words(
        "squared cubed factorial choose mod modulo percent percentage percentages dozen dozens pair pairs"
        " hundred thousand million millions billion billions trillion hundredths thousandths"
        " sin cos tan cot sec csc arcsin arccos arctan sinh cosh log ln lg exp sqrt gcd lcm max min det dim"
        " pi theta tens ones halves sevenths ninths root cube square base over per raised power point negative by"
    )
    | frozenset(FRACTION_WORDS)
    | frozenset(MULTIPLE_WORDS)
)
"""Next to a number, these change what the number is: the side is not read without them."""

ENDS_PHRASE = words(
    "and so then is are was were equals equal plus minus times of or if because which that but to from we get gets"
    " gives give makes make than when since thus hence therefore where with has have had costs cost be as leaving"
    " left leaves total totals in for at on after before now while each every until giving"
)
"""No unit phrase runs across these: `16 eggs and 3 * 4` is two things, not a product of 16."""

DENIES = words(
    "not isn't doesn't don't didn't aren't cannot can't won't no contradiction contradicts contradictory false"
    " impossible incorrect incorrectly wrong invalid instead mistake mistaken mistakenly exceeds unfortunately"
    " hmm fails fail violates violate inconsistent mismatch never neither nor"
)
"""In the sentence of an equation or right after it: the equation is denied, not asserted."""

SUPPOSES = words("whether suppose supposing supposed assume assuming assumed guess unless")
"""Before an equation in its sentence: it is a supposition, whatever it looks like."""

WEIGHS = SUPPOSES | words("if try trying check checking test testing verify verifying would should")
"""Before an equation in its sentence: it may be on trial."""

ROUNDS = words(
    "round rounded rounding rounds approximately approximate approx about nearly nearest roughly around"
    " almost estimate estimated"
)

TRUNCATES = words("floor ceiling whole integer part truncated")
"""Only a quotient that is no whole number is changed by these."""

OTHER_ARITHMETIC = words("mod modulo modulus base remainder remainders binary hexadecimal octal congruent")
"""Arithmetic in which `=` between decimal numerals means something else."""

SCALES = {
    "second": "time", "seconds": "time", "sec": "time", "secs": "time", "minute": "time", "minutes": "time",
    "min": "time", "mins": "time", "hour": "time", "hours": "time", "hr": "time", "hrs": "time", "day": "time",
    "days": "time", "week": "time", "weeks": "time", "month": "time", "months": "time", "year": "time",
    "years": "time", "am": "time", "pm": "time",
    "inch": "length", "inches": "length", "in": "length", "foot": "length", "feet": "length", "ft": "length",
    "yard": "length", "yards": "length", "mile": "length", "miles": "length", "mm": "length", "cm": "length",
    "centimeter": "length", "centimeters": "length", "meter": "length", "meters": "length", "metre": "length",
    "metres": "length", "km": "length", "kilometer": "length", "kilometers": "length",
    "gram": "mass", "grams": "mass", "g": "mass", "kg": "mass", "kilogram": "mass", "kilograms": "mass",
    "mg": "mass", "ounce": "mass", "ounces": "mass", "oz": "mass", "pound": "mass", "pounds": "mass", "lb": "mass",
    "lbs": "mass", "ton": "mass", "tons": "mass",
    "ml": "volume", "milliliter": "volume", "milliliters": "volume", "liter": "volume", "liters": "volume",
    "gallon": "volume", "gallons": "volume", "quart": "volume", "quarts": "volume", "pint": "volume",
    "pints": "volume", "cup": "volume", "cups": "volume",
    "cent": "money", "cents": "money", "¢": "money", "$": "money", "dollar": "money", "dollars": "money",
    "penny": "money", "pennies": "money", "dime": "money", "dimes": "money", "nickel": "money",
    "nickels": "money", "quarter": "money", "quarters": "money",
    "%": "share", "percent": "share",
}  # fmt: skip
"""Dimension of units that come in several sizes: mixing sizes makes numerals unequal, not wrong."""

SAME_SIZE = {
    "dollar": "$", "dollars": "$", "cent": "¢", "cents": "¢", "hr": "hour", "hrs": "hour", "min": "minute",
    "mins": "minute", "sec": "second", "secs": "second", "foot": "feet", "ft": "feet", "inch": "inches",
    "in": "inches", "lb": "pound", "lbs": "pound", "oz": "ounce", "centimeter": "cm", "centimeters": "cm",
    "kilometer": "km", "kilometers": "km", "metre": "meter", "metres": "meter", "gram": "g", "grams": "g",
    "kilogram": "kg", "kilograms": "kg", "milliliter": "ml", "milliliters": "ml", "percent": "%",
}  # fmt: skip


def unit_size(word: str) -> tuple[str, str] | None:
    """(dimension, size) of a unit that comes in several sizes; None for any other word."""
    dimension = SCALES.get(word)
    if dimension is None:
        return None
    size = SAME_SIZE.get(word) or SAME_SIZE.get(word.rstrip("s")) or word.rstrip("s")
    return dimension, size
