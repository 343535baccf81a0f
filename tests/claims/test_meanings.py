"""Texts that mean something else than their numerals say: never accepted for it, never held against it."""

from __future__ import annotations

import pytest

from draftproof.subject import step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Outcome
from draftproof.verifiers.arithmetic import ArithmeticVerifier


def outcome(text: str, *context: str, problem: str = "") -> Outcome:
    steps = tuple(Step(text=each) for each in (*context, text))
    return ArithmeticVerifier().check(list(step_subjects(Trace(id="t", problem=problem, steps=steps))))[-1].outcome


@pytest.mark.parametrize(
    "text",
    [
        "1 + 1 ≈ 1000000",
        "5 * 5 ≈ 10000",
        "17 * 23 ≈ 1000",
        "7 * 8 ≈ 57",
        "1/3 ≈ 0.34",
        "abs(3 - 5) = -2",
        "ceil(7/2) = 3.5",
        "arr[3 - 1] = 2",
        r"\mathrm{Var}(4+4) = 8",
        r"\text{rank}(4+4) = 8",
        "3 + 4 = 7 = 8",
        "x = 2 * 3 = 6 = 7",
        "48/2=<<48/2=24>>25",
        "24*3=<<24*3=72>>75",
        r"\[3+4 = 7\] and \[ 7 + 1 = 9.\]",
        "the square of 1 + 2 is 3",
        "square root of 4 + 5 is 9",
        "the average of 3 + 5 = 8",
        "the absolute value of 3 - 5 = -2",
        "3 + 4 = 7 and a half",
        "3 + 4 = 7 to the power of 2",
        "3 + 4 = 7 tens",
        "3 + 4 = 7 times as many",
        "3 + 4 = 7 less than 20",
        "17 / 5 = 2 remainder 7",
        "50 + 10% = 50.1",
        "2 + 2 = 4. Then 3 dozen + 1 = 37",
        "2 + 2 = 4 and " + "(" * 70 + "1" + ")" * 70 + " + 1 = 3",
        "2 + 2 = 4 and " + " + ".join(["1"] * 230) + " = 3",
    ],
)
def test_is_not_accepted(text: str) -> None:
    assert outcome(text) is not Outcome.ACCEPT


def test_more_claims_than_are_read_are_not_accepted() -> None:
    assert outcome("\n".join(f"{n} + 1 = {n + 1}" for n in range(2_100)) + "\n2 + 2 = 5.") is not Outcome.ACCEPT


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("", "abs(3 - 5) = 2"),
        ("", "ceil(7/2) = 4"),
        ("", "abs(-3) + 1 = 4"),
        ("", "the square root of 16 + 9 = 5"),
        ("", r"The last digit of $7 \cdot 8 = 6$"),
        ("", "1 cheese +1 meat *+1 vegetable = 3"),
        ("", "Setting the two expressions equal, y = 2x + 1 = 3x - 2, so x = 3."),
        ("", "Since $x^2 = x+1$, $x^3 = x(x+1) = x^2+x = (x+1)+x = 2x+1$"),
        ("", r"Since $\frac{1}{0} \neq 0$, the function is undefined there"),
        ("", "slope = (7-2)/(3-3) = 5/0, which is undefined"),
        ("", r"$m = \frac{4-2}{3-3} = \frac{2}{0}$, so the line is vertical"),
        ("", r"$\frac{7-7}{3-3} = \frac{0}{0}$, an indeterminate form"),
        ("", "0^0 = 0"),
        ("Define $a * b = a^2 + b$.", "$3 * 4 = 3^2 + 4 = 13$"),
        ("", r"In $\mathbb{Z}_7$, $5 * 3 = 1$"),
        ("", "10 o'clock + 5 = 3 o'clock"),
        ("The hour hand moves on a 12-hour clock.", "9 + 4 = 1"),
        ("", r"$350^\circ + 20^\circ = 10^\circ$"),
        ("", "pages 10-20 = 11 pages"),
        ("", "9-5 = 8 hours from 9-5 = 8"),
        ("", "Equation (1) - (2) = 3"),
        ("", "#1 = 5 + 5"),
        ("", "25 / 4 = 6, with 1 left over"),
        ("", "25/4 = 6, R1"),
        ("", "17 / 5 = 3 full boxes"),
        ("", "8^1/3 = 2"),
        ("", "6 × 10^4 / 2 × 10^2 = 300"),
        ("", r"$1\frac12 \times 4 = 6$"),
        ("", "- 5 + 3 = -2"),
        ("", "0.(3) = 1/3"),
        ("", "0x10 = 16"),
        ("", "$[3.7] + 1 = 4$"),
        ("", "3 tens + 4 ones = 34"),
        ("", "When it is 3/4 full is 1500*2 = 3000"),
        ("", "$100+($100*(10/100) = $110"),
    ],
)
def test_is_not_rejected(problem: str, text: str) -> None:
    assert outcome(text, problem=problem) is not Outcome.REJECT


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (("Let a = 3.", "Let b = 4."), "Increasing b by 1 gives a + b = 3 + 5 = 8."),
        (("l = 5", "w = 4"), "the area is l * w = 5 * 8 = 40."),
        (("l = 2 + 3 = 5", "w = 2 * 2 = 4"), "After doubling the width, the area is l * w = 5 * 8 = 40."),
        (("A = 3 + 4 = 8", "B = 1 + 1 = 2"), "A + B = 7 + 2"),
    ],
    ids=["a-changed-value", "values-that-were-only-given", "doubled", "a-value-from-a-false-step"],
)
def test_values_of_names_are_not_assumed_to_last(context: tuple[str, ...], text: str) -> None:
    assert outcome(text, *context) is not Outcome.REJECT


@pytest.mark.parametrize(
    "text",
    [
        r"\[3 + 4 = 8.\]",
        r"\begin{align*} 3+4 &= 8.\end{align*}",
        "0.1 + 0.2 = 0.4",
        "5 - 8 = 10",
        "5 / 0 = 0",
        "20 / 5 = 3 remainder 5",
        "(24) + (28) = 53",
    ],
)
def test_a_plain_falsehood_is_still_rejected(text: str) -> None:
    assert outcome(text) is Outcome.REJECT


def test_verifiers_say_which_reader_they_use(monkeypatch: pytest.MonkeyPatch) -> None:
    from draftproof.claims.reader import reader_digest
    from draftproof.verifier import identity

    before = identity(ArithmeticVerifier())
    assert ArithmeticVerifier().fingerprint == {"claims": reader_digest()}
    monkeypatch.setattr("draftproof.verifiers.arithmetic.reader_digest", lambda: "another")
    assert identity(ArithmeticVerifier()) != before
