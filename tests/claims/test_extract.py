"""What is read as a claim, what is left alone, and where each claim stands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.claims.evaluate import decide
from draftproof.claims.extract import MAX_CHARACTERS, MAX_CLAIMS, extract_claims
from draftproof.claims.plain import plain_claim


def read(text: str, *context: str, problem: str = "") -> list[str]:
    """The claims of `text` in plain notation, each with whether it holds."""
    return [f"{plain_claim(c)} -> {decide(c).holds}" for c in extract_claims(text, context, problem).claims]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("So 3 * 4 = 12 eggs", ["3 * 4 = 12 -> True"], id="plain"),
        pytest.param("So 3 * 4 = 13 eggs", ["3 * 4 = 13 -> False"], id="plain-false"),
        pytest.param("48/2=24", ["48 / 2 = 24 -> True"], id="no-spaces"),
        pytest.param("16 - 3 - 4 = <<16-3-4=9>>9", ["16 - 3 - 4 = 9 -> True"], id="annotation-read-once"),
        pytest.param("x = <<3*4=13>>13", ["3 * 4 = 13 -> False"], id="annotation-alone"),
        pytest.param(
            r"\(2 \text{ books} \times 2 \text{ pounds/book} = 4 \text{ pounds}\)",
            ["2 * 2 = 4 -> True"],
            id="latex-units",
        ),
        pytest.param(
            r"\[ \frac{1}{2} + \frac{1}{3} = \frac{5}{6} \]", ["1 / 2 + 1 / 3 = 5 / 6 -> True"], id="fractions"
        ),
        pytest.param(r"\frac12 = 0.5", ["1 / 2 = 0.5 -> True"], id="frac-without-braces"),
        pytest.param(r"$2\frac{1}{2} \cdot 2 = 5$", ["(2 + 1 / 2) * 2 = 5 -> True"], id="latex-mixed-number"),
        pytest.param("2 1/2 * 2 = 5", ["(2 + 1 / 2) * 2 = 5 -> True"], id="mixed-number"),
        pytest.param("2½ * 2 = 5", ["(2 + (1/2)) * 2 = 5 -> True"], id="vulgar-fraction"),
        pytest.param("$1,200 x 3 = $3,600", ["1200 * 3 = 3600 -> True"], id="money-thousands-and-x"),
        pytest.param(r"1{,}000 + 1 = 1{,}001", ["1000 + 1 = 1001 -> True"], id="latex-thousands"),
        pytest.param("half of 48 is 24", ["(1/2) * 48 = 24 -> True"], id="half-of"),
        pytest.param("two thirds of 9 = 6", ["(2/3) * 9 = 6 -> True"], id="two-thirds-of"),
        pytest.param("a quarter of 8 is 2", ["(1/4) * 8 = 2 -> True"], id="a-quarter-of"),
        pytest.param("15% of 240 is 36", ["15% * 240 = 36 -> True"], id="percent-of"),
        pytest.param("15 percent of 240 equals 36", ["15% * 240 = 36 -> True"], id="percent-word"),
        pytest.param("3/4 of 8 is equal to 6", ["3 / 4 * 8 = 6 -> True"], id="fraction-of-equal-to"),
        pytest.param(r"\frac{1}{2} of 8 is 4", ["1 / 2 * 8 = 4 -> True"], id="latex-fraction-of"),
        pytest.param("twice 5 is 10", ["2 * 5 = 10 -> True"], id="twice"),
        pytest.param("3 times 4 plus 2 minus 1 = 13", ["3 * 4 + 2 - 1 = 13 -> True"], id="words-for-signs"),
        pytest.param("6 multiplied by 2 divided by 3 = 4", ["6 * 2 / 3 = 4 -> True"], id="two-word-signs"),
        pytest.param("5 + 3 = 8 = 2 * 4", ["5 + 3 = 8 -> True", "8 = 2 * 4 -> True"], id="chain"),
        pytest.param("x = 5 + 3 = 8", ["5 + 3 = 8 -> True"], id="chain-that-begins-with-a-name"),
        pytest.param("5 + 3\n= 8", ["5 + 3 = 8 -> True"], id="goes-on-in-the-next-line"),
        pytest.param(r"5 + 3 &= 2 \cdot 4 \\ &= 8", ["5 + 3 = 2 * 4 -> True", "2 * 4 = 8 -> True"], id="aligned-lines"),
        pytest.param("10 / 3 ≈ 3.33", ["10 / 3 ≈ 3.33 (within 0.01) -> True"], id="about"),
        pytest.param("10 / 3 = 3.33", ["10 / 3 ≈ 3.33 (within 0.01) -> True"], id="rounded-with-equals"),
        pytest.param("2 / 3 = 0.67", ["2 / 3 ≈ 0.67 (within 0.005) -> True"], id="rounded-up"),
        pytest.param("10 / 3 = 3.4", ["10 / 3 ≈ 3.4 (within 0.05) -> False"], id="rounded-wrongly"),
        pytest.param("0.1 + 0.2 = 0.3", ["0.1 + 0.2 = 0.3 -> True"], id="decimals-are-exact"),
        pytest.param("0.1 + 0.2 = 0.4", ["0.1 + 0.2 = 0.4 -> False"], id="digits-could-have-said-it"),
        pytest.param("-5 + 3 = -2", ["-5 + 3 = -2 -> True"], id="signed"),
        pytest.param("- 5 + 3 = 8", ["5 + 3 = 8 -> True"], id="list-item-dash-is-no-sign"),
        pytest.param("5 - -3 = 8", ["5 - -3 = 8 -> True"], id="minus-minus"),
        pytest.param("2^10 = 1024", ["2^10 = 1024 -> True"], id="power"),
        pytest.param("2**3 = 8", ["2^3 = 8 -> True"], id="python-power"),
        pytest.param("5² = 25", ["5^2 = 25 -> True"], id="superscript"),
        pytest.param("2^{-1} = 0.5", ["2^(-1) = 0.5 -> True"], id="negative-exponent"),
        pytest.param("2^3^2 = 512", ["2^(3^2) = 512 -> True"], id="tower"),
        pytest.param("5! = 120", ["factorial(5) = 120 -> True"], id="factorial"),
        pytest.param(r"\binom{5}{2} = 10", ["binomial(5, 2) = 10 -> True"], id="binomial"),
        pytest.param(r"\sqrt{49} = 7", ["sqrt(49) = 7 -> True"], id="root"),
        pytest.param(r"\sqrt{2} \approx 1.414", ["sqrt(2) ≈ 1.414 (within 0.001) -> True"], id="irrational-root"),
        pytest.param(r"\lfloor 7/2 \rfloor = 3", ["floor(7 / 2) = 3 -> True"], id="floor"),
        pytest.param(r"\lceil 7/2 \rceil = 4", ["ceil(7 / 2) = 4 -> True"], id="ceiling"),
        pytest.param("|3 - 5| = 2", ["abs(3 - 5) = 2 -> True"], id="absolute"),
        pytest.param("(3)(4) = 12", ["3 * 4 = 12 -> True"], id="juxtaposed-brackets"),
        pytest.param("2(3 + 4) = 14", ["2 * (3 + 4) = 14 -> True"], id="juxtaposed"),
        pytest.param("3 * 4 > 10", ["3 * 4 > 10 -> True"], id="greater"),
        pytest.param("3 * 4 <= 10", ["3 * 4 ≤ 10 -> False"], id="at-most"),
        pytest.param(r"3 \cdot 4 \ge 12", ["3 * 4 ≥ 12 -> True"], id="at-least"),
        pytest.param("3 * 4 != 13", ["3 * 4 ≠ 13 -> True"], id="not-equal"),
        pytest.param("25% = 0.25", ["25% = 0.25 -> True"], id="percent-is-a-share"),
        pytest.param("495 students * $15/student = $7455", ["495 * 15 = 7455 -> False"], id="rate-with-slash"),
        pytest.param("20 private cars * 3 people = 60", ["20 * 3 = 60 -> True"], id="unit-words"),
        pytest.param("9 - 3 (from snack) - 2 (for lunch) = 4", ["9 - 3 - 2 = 4 -> True"], id="asides"),
        pytest.param(r"180^\circ - 90^\circ = 90^\circ", ["180 - 90 = 90 -> True"], id="degrees"),
        pytest.param(r"\frac{120^\circ}{2} = 60^\circ", ["120 / 2 = 60 -> True"], id="degrees-in-a-fraction"),
        pytest.param("17 ÷ 5 = 3 remainder 2", ["17 = 5 * 3 + 2 -> True"], id="remainder"),
        pytest.param("1529 ÷ 6 = 255 with a remainder of 4", ["1529 = 6 * 255 + 4 -> False"], id="remainder-false"),
        pytest.param("so (5 + 3 = 8) as said", ["5 + 3 = 8 -> True"], id="equation-in-brackets"),
        pytest.param(r"\boxed{5 + 3 = 8}", ["5 + 3 = 8 -> True"], id="boxed"),
        pytest.param("5cm + 3cm = 8cm", ["5 + 3 = 8 -> True"], id="glued-units"),
        pytest.param("1.5e3 + 1 = 1501", ["1.5e3 + 1 = 1501 -> True"], id="scientific"),
        pytest.param(".5 + .25 = .75", [".5 + .25 = .75 -> True"], id="leading-point"),
        pytest.param("**5 + 3 = 8**", ["5 + 3 = 8 -> True"], id="bold-is-no-power"),
        pytest.param("5 / 0 = 0", ["5 / 0 = 0 -> False"], id="division-by-zero"),
        pytest.param(r"\sqrt{-1} = 1", ["sqrt(-1) = 1 -> None"], id="no-rational-value"),
    ],
)
def test_reads(text: str, expected: list[str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x + 3 = 8", id="a-variable"),
        pytest.param("2x + 3 = 8", id="a-glued-variable"),
        pytest.param("n^2 - 4 = 0", id="the-end-of-a-power-of-a-variable"),
        pytest.param("a_1 + 3 = 7", id="a-subscript"),
        pytest.param("A5 + 3 = 7", id="a-name-that-ends-in-a-digit"),
        pytest.param("f(3) + 4 = 9", id="a-call"),
        pytest.param("f(2) = 5 + 1", id="a-call-alone"),
        pytest.param("sin 30 + 1 = 4", id="a-function-in-words"),
        pytest.param(r"\log_2 8 + 1 = 9", id="an-unknown-command"),
        pytest.param(r"\sum_{i=1}^{3} 2 + 1 = 9", id="a-sum-sign"),
        pytest.param("1 + 2 + ... + 10 = 56", id="an-ellipsis"),
        pytest.param(r"10 + 9 + \cdots + 1 + 10 = 10", id="latex-dots"),
        pytest.param("5 + 3 = 8x", id="a-variable-after"),
        pytest.param(r"4 + 4 = 8\sqrt{n}", id="a-product-after"),
        pytest.param("58_9 - 18_9 = 40_9", id="another-base"),
        pytest.param("3,5 + 2 = 5,6", id="decimal-commas"),
        pytest.param("12:30 + 1 = 2", id="a-time"),
        pytest.param("3 : 4 = 6 : 9", id="a-ratio"),
        pytest.param("0900-0130 = 0730", id="padded-numerals"),
        pytest.param(r"\frac{2}{9} = 0.\overline{2}", id="a-recurring-decimal"),
        pytest.param("1/3 = 0.(3)", id="a-recurring-decimal-in-brackets"),
        pytest.param("!5 = 120 - 1", id="a-subfactorial"),
        pytest.param("7*2!=14", id="factorial-or-unequal"),
        pytest.param("5 + 3 = 8!!", id="a-double-factorial"),
        pytest.param("3 = 5", id="two-bare-numbers"),
        pytest.param("3 < 2", id="two-bare-numbers-compared"),
        pytest.param("The probability of 1/2 is 3", id="is-after-a-bare-fraction"),
        pytest.param("5 dozen + 3 = 8", id="a-word-that-scales"),
        pytest.param("2 squared + 3 = 5", id="a-word-that-raises"),
        pytest.param("5 + 3 = 8 million", id="a-word-that-scales-the-result"),
        pytest.param("Cost - $5 = 3 + 1", id="a-minus-after-a-noun"),
        pytest.param(r"So, $MN = \frac{1}{2}PQ = \boxed{56}$", id="letters-after-a-fraction"),
        pytest.param("5 + 3 = ", id="nothing-after"),
        pytest.param(" = 8 + 2", id="nothing-before"),
        pytest.param("5 + = 8", id="an-operator-without-operand"),
        pytest.param("(5 + 3 = (8", id="unclosed-bracket"),
        pytest.param("[1, 2] + [3, 4] = [4, 6]", id="lists"),
        pytest.param("total += 5", id="an-assignment-operator"),
        pytest.param("5 + 3 ≡ 1 (mod 7)", id="a-congruence"),
        pytest.param(r"7 \cdot 3 = 1 \pmod{5}", id="a-latex-congruence"),
        pytest.param("5 + 3 -> 9 => 4", id="arrows"),
        pytest.param("|1 + |2 - 3|| = 9", id="nested-bars"),
        pytest.param(r"\sqrt[3]{8} = 3", id="a-cube-root"),
        pytest.param("The number of eggs is large.", id="prose"),
        pytest.param("", id="nothing"),
    ],
)
def test_leaves_alone(text: str) -> None:
    assert read(text) == []


def test_a_span_covers_the_equation_and_nothing_else() -> None:
    text = r"Weight: \(2 \times 3 = 7 \text{ kg}\), heavy"
    (claim,) = extract_claims(text).claims
    assert text[claim.span.start : claim.span.end] == claim.text == r"2 \times 3 = 7 \text{ kg}"


def test_the_same_claim_twice_is_kept_once() -> None:
    assert read("1 + 1 = 2. So 1 + 1 = 2.") == ["1 + 1 = 2 -> True"]


def test_a_step_too_long_to_read_is_said_to_be_so() -> None:
    extraction = extract_claims("1 + 1 = 3 " * (MAX_CHARACTERS // 5))
    assert not extraction.claims
    assert [item.reason for item in extraction.undecided] == ["step_too_long"]


def test_the_number_of_claims_is_bounded() -> None:
    assert len(extract_claims("\n".join(f"{n} + 1 = {n + 1}" for n in range(MAX_CLAIMS + 50))).claims) == MAX_CLAIMS


def test_hypotheses_come_from_earlier_steps() -> None:
    steps = ("Let's calculate A = 4 * 5 = 20.", "Then B = (6 - 35 - 3) = (-32).", "And C = 300 + 4 = 304.")
    assert read("So A - B + C = 20 - 32 + 304 = 292.", *steps) == [
        "20 - 32 + 304 = 292 -> True",
        "A - B + C = 20 - 32 + 304 -> False",
    ]
    claim = extract_claims("So A - B + C = 20 - 32 + 304 = 292.", steps).claims[1]
    assert [(h.variable, h.step) for h in claim.hypotheses] == [("A", 0), ("B", 1), ("C", 2)]


@pytest.mark.parametrize(
    ("context", "text"),
    [
        pytest.param(("A = 1 + 1 = 2",), "A + B = 2 + 3", id="a-name-without-a-value"),
        pytest.param(("A = 2 * 1 = 2", "A = 3 * 1 = 3", "B = 1 * 1 = 1"), "A + B = 2 + 9", id="two-values-for-a-name"),
        pytest.param(("n = 5 * 1 = 5",), "n^3 = 6^3", id="another-case"),
        pytest.param(("A = 2 * 1 = 2", "B = 3 * 1 = 3"), "A + B = 3 * 9", id="another-shape"),
        pytest.param(("A = 1 / 0", "B = 3 * 1 = 3"), "A + B = 2 + 3", id="a-name-whose-value-is-undefined"),
    ],
)
def test_hypotheses_are_not_guessed(context: tuple[str, ...], text: str) -> None:
    assert not [c for c in extract_claims(text, context).claims if c.hypotheses]


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_it_fail(text: str) -> None:
    extraction = extract_claims(text)
    for item in (*extraction.claims, *extraction.undecided):
        assert text[item.span.start : item.span.end] == item.text


_SIGNS = [
    "1",
    "2.50",
    "1,000",
    "x",
    " + ",
    " - ",
    "-",
    " * ",
    "/",
    "^",
    " = ",
    " ≈ ",
    "<",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "%",
    "$",
    "!",
    ",",
    ".",
    "\n",
    "<<",
    ">>",
    "&",
    "_",
    "π",
    "²",
    "½",
    "°",
    "...",
]
_COMMANDS = ["\\frac", "\\sqrt", "\\text{", "\\times ", "\\\\", "\\left(", "\\right)", "\\[", "\\]", "|"]
_WORDS = [" eggs ", " of ", " is ", "half ", " and ", " times ", "not "]
_PIECES = st.sampled_from([*_SIGNS, *_COMMANDS, *_WORDS])


@given(st.lists(_PIECES, max_size=60).map("".join))
@settings(max_examples=600, deadline=None)
def test_no_heap_of_mathematics_makes_it_fail(text: str) -> None:
    for claim in extract_claims(text).claims:
        decide(claim)
        plain_claim(claim)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(" * 50_000 + " = 1 + 1", id="open-brackets"),
        pytest.param("1" + " + (1" * 20_000 + " = 3", id="nested-sums"),
        pytest.param("-" * 100_000 + "1 = 2 + 1", id="signs"),
        pytest.param("2^" * 60_000 + "2 = 1 + 1", id="a-tower"),
        pytest.param("{" * 30_000 + "}" * 30_000 + " = 1 + 1", id="braces"),
        pytest.param("1 = " * 30_000 + "2 + 1", id="a-long-chain"),
        pytest.param("\\frac{" * 20_000 + " = 1 + 1", id="fractions"),
        pytest.param("$" * 100_000 + " = 1 + 1", id="dollars"),
        pytest.param("1 " * 90_000 + "= 1 + 1", id="numbers"),
        pytest.param("a b " * 40_000 + "= 1 + 1", id="words"),
        pytest.param("<<" * 50_000 + "= 1 + 1", id="unclosed-annotations"),
        pytest.param("9" * 150_000 + " + 1 = 2", id="a-numeral"),
        pytest.param("(1)" * 30_000 + " = 1 + 1", id="a-long-product"),
    ],
)
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    """Each would take hours, or the whole stack, in a parser that backtracks or recurses without bound."""
    for claim in extract_claims(text).claims:
        decide(claim)
