"""Numbers: every usual spelling of a value is read as that value, and as no other."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.verifiers.grounding.number_words import roman, to_roman
from draftproof.verifiers.grounding.numbers import Value, numbers, stated_numbers

UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINAL_ENDS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}


def spelled(value: int, hyphen: str = "-", link: str = " and ") -> str:
    """`value` in words, written here anew: the reader's tables are not used."""
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand")):
        if value >= size:
            rest = value % size
            gap = link if rest and rest < 100 else " "
            return f"{spelled(value // size, hyphen, link)} {name}" + (
                gap + spelled(rest, hyphen, link) if rest else ""
            )
    if value >= 100:
        rest = value % 100
        return f"{UNITS[value // 100]} hundred" + (link + spelled(rest, hyphen, link) if rest else "")
    if value >= 20:
        return TENS[value // 10] + (hyphen + UNITS[value % 10] if value % 10 else "")
    return UNITS[value]


def ordinal(value: int) -> str:
    *start, last = spelled(value).replace("-", " - ").split(" ")
    last = ORDINAL_ENDS.get(last, f"{last.removesuffix('y')}{'ie' if last.endswith('y') else ''}th")
    return " ".join([*start, "twelfth" if last == "twelveth" else last]).replace(" - ", "-")


def read(text: str) -> list[tuple[str, list[tuple[Value, ...]]]]:
    return [(text[number.start : number.end], list(number.readings)) for number in numbers(text)]


def only_value(text: str) -> Value:
    """Of a text with one number, its first reading."""
    ((_, readings),) = read(text)
    ((value,), *_) = readings
    return value


# Round trips


@given(st.integers(0, 10**12 - 1), st.sampled_from(["-", " "]), st.sampled_from([" and ", " "]))
@settings(max_examples=300, deadline=None)
def test_a_number_in_words_is_read_as_its_value(value: int, hyphen: str, link: str) -> None:
    text = spelled(value, hyphen, link)
    if 10 <= value <= 99 or value % 1000 == 0 or value >= 100:
        assert [reading for _, reading in read(text)] == [[(Fraction(value),)]], text
        assert [reading for _, reading in read(f"There were {text.capitalize()} of them.")] == [[(Fraction(value),)]]


@given(st.integers(1, 999_999))
@settings(max_examples=200, deadline=None)
def test_an_ordinal_in_words_or_digits_is_read_as_its_value(value: int) -> None:
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    assert only_value(f"the {value}{ending} of them") == value
    assert only_value(f"the {ordinal(value)} of them") == value, ordinal(value)


@given(st.integers(0, 10**15), st.sampled_from([",", "\u00a0", "\u202f", "\u2009", "’", " "]), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_digits_with_separators_are_read_as_without(value: int, separator: str, zeros: int) -> None:
    grouped = f"{value:,}".replace(",", separator)
    assert only_value(grouped) == value
    assert only_value(f"It has {grouped}.") == value
    if zeros:
        assert only_value(f"{grouped}.5{'0' * zeros}") == value + Fraction(1, 2)


@given(st.decimals(0, 10**6, places=4, allow_nan=False))
@settings(max_examples=200, deadline=None)
def test_decimals_are_read_exactly_whatever_zeros_stand_behind(value: object) -> None:
    expected = Fraction(str(value))
    for written in (f"{value}", f"{value}0", f"{value}%", f"${value}", str(value).replace(".", "·")):
        assert only_value(f"about {written} of it") == expected, written


@given(st.integers(1, 3999))
@settings(max_examples=200, deadline=None)
def test_roman_numerals_go_both_ways(value: int) -> None:
    assert roman(to_roman(value)) == value


@pytest.mark.parametrize("wrong", ["iiii", "vx", "ic", "", "abc", "xxxxx", "m" * 50])
def test_what_is_no_roman_numeral_is_not_read(wrong: str) -> None:
    assert roman(wrong) is None


# Spellings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "one thousand"),
        ("1,000", "1k"),
        ("12%", "twelve percent"),
        ("12%", "12 per cent"),
        ("1.50", "1½"),
        ("1.5", "one and a half"),
        (".05", "0.05"),
        ("$5 million", "5,000,000 dollars"),
        ("$5m", "US$ 5 million"),
        ("3.5 billion", "3,500,000,000"),
        ("two-thirds", "2/3"),
        ("½", "half"),
        ("half", "50%"),
        ("a dozen", "12"),
        ("two dozen", "24"),
        ("the 20th century", "the twentieth century"),
        ("1990s", "the nineties"),
        ("’95", "1995"),
        ("nineteen ninety-nine", "1999"),
        ("Super Bowl XXIV", "Super Bowl 24"),
        ("1,00,000", "100,000"),
        ("twice", "two times"),
        ("6½ sacks", "6.5 sacks"),
        ("٣", "3"),
    ],
)
def test_two_spellings_share_a_value(one: str, other: str) -> None:
    left, right = ({value for number in numbers(text) for value in number.values} for text in (one, other))
    assert left & right, (left, right)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "1,001"),
        ("1.5", "15"),
        ("1,000", "10,000"),
        ("twenty-one", "twenty"),
        ("twenty-one", "one"),
        ("five hundred", "five"),
        ("$5 million", "$5 billion"),
        ("in March", "in May"),
        ("1999", "1990s"),
        ("third", "thirty"),
    ],
)
def test_different_values_share_none(one: str, other: str) -> None:
    left, right = ({value for number in numbers(text) for value in number.values} for text in (one, other))
    assert left
    assert not left & right, (left, right)


def test_a_date_is_read_part_by_part_in_any_order() -> None:
    for text in ("March 3, 1999", "3 March 1999", "Mar. 3rd, 1999", "1999-03-03", "the third of March, 1999"):
        values = {value for number in numbers(text) for value in number.values}
        assert {"month 3", Fraction(3), Fraction(1999)} <= values, text


def test_a_range_may_shorten_its_second_year_and_share_its_scale() -> None:
    assert Fraction(1995) in {v for n in numbers("1994–95") for v in n.values}
    assert Fraction(5 * 10**6) in {v for n in numbers("between 5 and 6 million") for v in n.values}
    assert Fraction(1995) not in {v for n in numbers("1994, 95") for v in n.values}


def test_lists_are_several_numbers_and_not_one() -> None:
    assert [reading for _, reading in read("one, two and three")] == [[(Fraction(n),)] for n in (1, 2, 3)]
    assert [reading for _, reading in read("in 2010 300 people")] == [[(Fraction(2010),)], [(Fraction(300),)]]
    assert Fraction(123456) not in {value for number in numbers("12,3,456") for value in number.values}
    assert read("10,20,30") == [("10,20,30", [(Fraction(10), Fraction(20), Fraction(30))])]


# What a text states


@pytest.mark.parametrize(
    "text",
    [
        "one of them",
        "No one knew.",
        "at first, and first of all",
        "wait a second",
        "He did it twice.",
        "H1N1 and B12",
        "Elizabeth II",
        "It may rain; they march on.",
        "May Smith",
        "hundreds of millions",
        "half of it",
        "from one disorder to another",
    ],
)
def test_what_counts_nothing_is_not_stated(text: str) -> None:
    assert [text[number.start : number.end] for number in stated_numbers(text)] == []


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("She won one Grammy.", ["one"]),
        ("the first man", ["first"]),
        ("their second album", ["second"]),
        ("in May 2001", ["May", "2001"]),
        ("on 3rd March", ["3rd", "March"]),
        ("a 5mg dose", ["5"]),
        ("COVID-19", ["19"]),
    ],
)
def test_what_counts_is_stated(text: str, stated: list[str]) -> None:
    assert [text[number.start : number.end] for number in stated_numbers(text)] == stated


# Hostile text


@pytest.mark.parametrize(
    "text",
    [
        "9" * 1_000_000,
        "9," * 100_000,
        "1 000 " * 40_000,
        "1.000" * 40_000,
        "twenty-" * 40_000,
        "one hundred and " * 15_000,
        "million " * 30_000,
        "1/2" * 60_000,
        "½" * 200_000,
        "- " * 500_000 + "5",
        "March " * 40_000,
        "1-2-" * 50_000,
        "\ud800" * 200_000,
        "٣" * 500_000,
    ],
    ids=lambda text: text[:8].encode("unicode_escape").decode(),
)
@pytest.mark.timeout(60)
def test_much_of_anything_is_read_before_time_is_out(text: str) -> None:
    """It takes a second; quadratic work would take many minutes."""
    assert all(0 <= number.start < number.end <= len(text) for number in numbers(text))


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_with_spans_in_order(text: str) -> None:
    found = numbers(text)
    assert all(0 <= number.start < number.end <= len(text) for number in found)
    assert all(number.readings and all(number.readings) for number in found)
    assert [number.start for number in found] == sorted(number.start for number in found)
