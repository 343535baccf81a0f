"""The exact verifier: when it accepts, rejects and abstains, and what its evidence says."""

from __future__ import annotations

import pytest

from draftproof.subject import Granularity, Subject, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import EquationEvidence, Outcome, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.arithmetic import MAX_EVIDENCE, ArithmeticVerifier


def subjects(*steps: str, problem: str = "") -> list[Subject]:
    return list(step_subjects(Trace(id="t", problem=problem, steps=tuple(Step(text=text) for text in steps))))


def check(*steps: str, problem: str = "") -> list[Verdict]:
    return ArithmeticVerifier().check(subjects(*steps, problem=problem))


def equations(verdict: Verdict) -> list[EquationEvidence]:
    return [item for item in verdict.evidence if isinstance(item, EquationEvidence)]


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        pytest.param("so 3 * 4 = 12 eggs", Outcome.ACCEPT, "all_claims_hold", id="true"),
        pytest.param("so 3 * 4 = 13 eggs", Outcome.REJECT, "false_equation", id="false"),
        pytest.param("3 * 4 = 12 and 5 + 5 = 11", Outcome.REJECT, "false_equation", id="one-false-of-two"),
        pytest.param("5 / 0 = 0", Outcome.REJECT, "division_by_zero", id="division-by-zero"),
        pytest.param("Janet has some ducks.", Outcome.ABSTAIN, "no_claims", id="prose"),
        pytest.param(r"3 + 4 = 7 and \sqrt{8} = 2\sqrt{2}", Outcome.ABSTAIN, "undecided_claims", id="one-undecided"),
        pytest.param("5 + 3 = 8 * 2 = 16", Outcome.ABSTAIN, "undecided_claims", id="one-doubtful"),
        pytest.param(r"\sqrt{8} = 3, \sqrt{8} = 2\sqrt{2}", Outcome.REJECT, "false_equation", id="false-and-undecided"),
        pytest.param("9^9^9^9 = 1", Outcome.ABSTAIN, "undecided_claims", id="too-large-to-compute"),
    ],
)  # fmt: skip
def test_outcome(text: str, outcome: Outcome, reason: str) -> None:
    (verdict,) = check(text)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.score == {Outcome.ACCEPT: 1.0, Outcome.REJECT: 0.0}.get(outcome)
    assert not verdict.calibrated


def test_evidence_holds_the_span_and_both_values_and_the_false_comes_first() -> None:
    text = "First 3 * 4 = 12, then half of 48 is 25."
    (verdict,) = check(text)
    wrong, right = equations(verdict)
    assert (wrong.holds, wrong.left_value, wrong.right_value) == (False, "24", "25")
    assert text[wrong.span.start : wrong.span.end] == wrong.text == "half of 48 is 25"
    assert (right.holds, right.left, right.right, right.relation) == (True, "3 * 4", "12", "=")
    assert verdict.raw == {"claims": 2, "false": 1, "undecided": 0}


def test_evidence_of_rounding_irrational_values_and_hypotheses() -> None:
    (rounded,) = equations(check("10 / 3 = 3.33")[0])
    assert (rounded.relation, rounded.tolerance, rounded.left_value) == ("≈", "0.01", "10/3")
    (irrational,) = equations(check(r"\sqrt{2} = 3 / 2")[0])
    assert (irrational.holds, irrational.left_value, irrational.right_value) == (False, "≈ 1.41421356237", "1.5")
    rests = check("A = 2 * 2 = 4", "B = 1 * 3 = 3", "A - B = 4 + 3", "A + B = 4 + 2")[3]
    (given,) = equations(rests)
    assert given.hypotheses == ("A = 4 (step 0)", "B = 3 (step 1)")


def test_a_division_by_zero_is_shown_as_undefined() -> None:
    (evidence,) = equations(check("5 / 0 = 0")[0])
    assert (evidence.left_value, evidence.right_value) == ("undefined", "0")


def test_what_was_not_read_is_in_the_evidence_with_its_reason() -> None:
    (evidence,) = equations(check("Modulo five we have 7 * 3 = 1")[0])
    assert (evidence.holds, evidence.reason) == (None, "other_arithmetic")


def test_evidence_is_bounded_and_every_claim_is_still_checked() -> None:
    text = "\n".join(f"{n} + 1 = {n + 1}" for n in range(MAX_EVIDENCE + 50)) + "\n2 + 2 = 5"
    (verdict,) = check(text)
    assert len(verdict.evidence) == MAX_EVIDENCE
    assert (verdict.outcome, verdict.raw["claims"]) == (Outcome.REJECT, MAX_EVIDENCE + 51)
    assert equations(verdict)[0].text == "2 + 2 = 5"


def test_large_values_are_cut_in_the_evidence() -> None:
    (evidence,) = equations(check("2^5000 = 1 + 1")[0])
    assert evidence.left_value is not None
    assert len(evidence.left_value) < 300
    assert evidence.left_value.endswith("(1506 characters)")


def test_the_problem_is_read_for_the_kind_of_arithmetic() -> None:
    (verdict,) = check("5 + 3 = 11", problem="Work in base 7.")
    assert verdict.outcome is Outcome.ABSTAIN


def test_it_keeps_the_verifier_contract() -> None:
    verifier = ArithmeticVerifier()
    given = subjects("1 + 1 = 2", "nothing", "1 + 1 = 3")
    logged: list[Verdict] = []

    class Log:
        def add(self, verdicts: list[Verdict]) -> None:
            logged.extend(verdicts)

    verdicts = run_verifier(verifier, given, log=Log())
    assert verdicts == logged
    assert [v.subject for v in verdicts] == [s.key for s in given]
    assert {v.verifier for v in verdicts} == {identity(verifier)}
    assert verifier.granularity is Granularity.STEP
    assert verdicts[0].cost.wall_seconds > 0
