"""The shared vocabulary: what its types refuse, what identifies a trace, and what survives a round trip."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from draftproof import errors
from draftproof.canonical import canonical_json, digest, digest_bytes, short
from draftproof.errors import DraftproofError, ExitStatus
from draftproof.subject import Granularity, Subject, SubjectKey, step_subjects, subjects_of, trace_subject
from draftproof.trace import Source, Span, Step, StepLabel, Trace
from draftproof.verdict import (
    AcceptanceEvidence,
    Cost,
    EquationEvidence,
    ErrorEvidence,
    Evidence,
    FeatureEvidence,
    GroundingEvidence,
    Guarantee,
    LeanEvidence,
    Outcome,
    Proposition,
    QuoteEvidence,
    RouteEvidence,
    StepEvidence,
    Verdict,
    VotesEvidence,
)

KEY = SubjectKey(trace_digest="sha256:00", granularity=Granularity.STEP, position=0)

EVIDENCE = (
    EquationEvidence(
        span=Span(start=3, end=12),
        text="2 + 2 = 5",
        relation="=",
        left="2 + 2",
        right="5",
        left_value="4",
        right_value="5",
        holds=False,
        hypotheses=("x = 2 (step 0)",),
    ),
    LeanEvidence(
        span=Span(start=0, end=9),
        text="2 + 2 = 4",
        status="proved",
        statement="(2:Rat) + 2 = 4",
        proof="by decide",
        axioms=(),
        toolchain="4.35.0",
    ),
    FeatureEvidence(values={"entropy": 0.25, "margin": -1.5}),
    StepEvidence(text="So 2+2=4.\n\n", role="draft", model="m#0", cause="stop", tokens=7, kept=False),
    RouteEvidence(policy="rsd", to="target", score=0.25, threshold=None),
    VotesEvidence(votes=("3", "", "3"), winner="3", agreement=2 / 3),
    QuoteEvidence(document="chunk-1", span=Span(start=10, end=14), text="1519"),
    GroundingEvidence(
        span=Span(start=3, end=7),
        text="1519",
        about="number",
        holds=True,
        document="chunk-1",
        found=Span(start=10, end=14),
        reason="found",
    ),
    AcceptanceEvidence(
        drafter="suffix", law="match", rule="greedy", drafted=6, depth=4, accepted=2, tokens=(7, 8, 9), start=40
    ),
    ErrorEvidence(type="timeout", message="no answer", attempts=3),
)


def trace(*steps: str, **fields: object) -> Trace:
    return Trace.model_validate({"id": "t", "problem": "p", "steps": [{"text": text} for text in steps], **fields})


def verdict(**fields: object) -> Verdict:
    given = {
        "subject": KEY,
        "verifier": "v@1#0",
        "proposition": Proposition.CORRECT,
        "outcome": Outcome.ACCEPT,
        "guarantee": Guarantee.EXACT,
    }
    return Verdict.model_validate({**given, **fields})


# Digests


def test_a_digest_names_its_algorithm() -> None:
    # of the two bytes {}, computed with another SHA-256 (coreutils)
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest_bytes(b"").startswith("sha256:e3b0c442")
    assert short(digest({})) == "44136fa355b3"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.floats(-1e15, 1e15)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé€", max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text("abcdé€", max_size=3), json_values, max_size=5), st.randoms())
@settings(max_examples=60, deadline=None)
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object], random: object) -> None:
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert digest({key: value[key] for key in keys}) == digest(value)
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(math.nan, id="nan-is-no-json"),
        pytest.param(math.inf, id="infinity-is-no-json"),
        pytest.param("\ud800", id="a-lone-surrogate-is-no-text"),
    ],
)
def test_what_json_cannot_say_has_no_digest(value: object) -> None:
    with pytest.raises(ValueError):
        digest({"value": value})


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"id": "another"}, id="the-name"),
        pytest.param({"source": Source(format="plain", file="f", line=9)}, id="the-file"),
        pytest.param({"generator": "a model"}, id="the-generator"),
        pytest.param({"step_labels": ["correct", "incorrect"]}, id="the-labels"),
        pytest.param({"meta": {"k": 1}, "final_answer": "4"}, id="meta-and-answer"),
    ],
)
def test_what_an_import_could_change_does_not_change_a_traces_digest(other: dict[str, object]) -> None:
    assert trace("a", "b", **other).digest == trace("a", "b").digest


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(trace("a", "b", problem="q"), id="the-problem"),
        pytest.param(trace("a", "b", segmentation="blank_line@2"), id="the-rule-of-segmentation"),
        pytest.param(trace("b", "a"), id="the-order-of-steps"),
        pytest.param(trace("ab"), id="where-steps-are-cut"),
        pytest.param(trace("a", "b "), id="white-space"),
    ],
)
def test_what_is_judged_changes_a_traces_digest(other: Trace) -> None:
    assert other.digest != trace("a", "b").digest


# Traces


@pytest.mark.parametrize(
    "labels",
    [pytest.param(["correct"], id="one-too-few"), pytest.param(["correct"] * 3, id="one-too-many")],
)
def test_a_trace_has_one_label_a_step_or_none(labels: list[str]) -> None:
    with pytest.raises(ValidationError, match="one label a step"):
        trace("a", "b", step_labels=labels)
    assert trace("a", "b", step_labels=None).step_labels is None


def test_the_first_error_is_the_first_step_labelled_incorrect() -> None:
    labels = [StepLabel.CORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN, StepLabel.INCORRECT]
    assert trace("a", "b", "c", "d", step_labels=labels).first_error == 1
    assert trace("a", step_labels=[StepLabel.UNKNOWN]).first_error is None
    assert trace("a").first_error is None


# Subjects


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=6))
@settings(max_examples=60, deadline=None)
def test_step_subjects_lose_nothing_of_a_trace(texts: list[str]) -> None:
    whole = trace(*texts)
    subjects = list(step_subjects(whole))
    assert [subject.text for subject in subjects] == texts
    assert [subject.key.position for subject in subjects] == list(range(len(texts)))
    for position, subject in enumerate(subjects):
        assert list(subject.context) == texts[:position]
        assert subject.problem == whole.problem
        assert subject.key.trace_digest == whole.digest
    assert trace_subject(whole).text == "".join(texts)


def test_step_subjects_are_what_validation_would_make() -> None:
    for subject in step_subjects(trace("a", "b", "c")):
        assert Subject.model_validate_json(subject.model_dump_json()) == subject


def test_a_granularity_that_a_trace_does_not_have_is_refused() -> None:
    assert [s.key.granularity for s in subjects_of(trace("a", "b"), Granularity.TRACE)] == [Granularity.TRACE]
    with pytest.raises(ValueError, match="token_block"):
        subjects_of(trace("a"), Granularity.TOKEN_BLOCK)


# Verdicts


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(math.nan, id="nan"),
        pytest.param(math.inf, id="infinity"),
        pytest.param(1.0000001, id="above-one"),
        pytest.param(-0.1, id="below-zero"),
    ],
)
def test_a_score_that_is_no_probability_is_refused(score: float) -> None:
    with pytest.raises(ValidationError):
        verdict(score=score)
    assert verdict(score=1.0).score == 1.0


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_an_errored_verdict_has_no_score(score: float) -> None:
    with pytest.raises(ValidationError, match="score must be None"):
        verdict(outcome=Outcome.ERROR, score=score)
    assert verdict(outcome=Outcome.ERROR).score is None


@pytest.mark.parametrize("seconds", [pytest.param(math.nan, id="nan"), pytest.param(-1.0, id="negative")])
def test_a_cost_that_is_no_duration_is_refused(seconds: float) -> None:
    with pytest.raises(ValidationError):
        Cost(wall_seconds=seconds)


def test_a_feature_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        FeatureEvidence(values={"entropy": math.nan})


@pytest.mark.parametrize("evidence", EVIDENCE, ids=lambda evidence: evidence.kind)
def test_evidence_comes_back_as_the_type_it_was(evidence: Evidence) -> None:
    back = TypeAdapter(Evidence).validate_json(evidence.model_dump_json())
    assert back == evidence
    assert type(back) is type(evidence)


def test_every_kind_of_evidence_is_among_those_tested() -> None:
    union = TypeAdapter(Evidence).json_schema()["discriminator"]["mapping"]
    assert set(union) == {evidence.kind for evidence in EVIDENCE}


def test_evidence_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Evidence).validate_python({"kind": "hearsay", "text": "trust me"})


def test_a_verdict_comes_back_as_it_was_given() -> None:
    given = verdict(score=0.25, evidence=EVIDENCE, raw={"digits": [1, 2], "é": None}, cost=Cost(calls=2), sample=3)
    assert Verdict.model_validate_json(given.model_dump_json()) == given


@pytest.mark.parametrize(
    ("thing", "field", "value"),
    [
        pytest.param(trace("a"), "problem", "q", id="trace"),
        pytest.param(Step(text="a"), "text", "b", id="step"),
        pytest.param(KEY, "position", 1, id="subject-key"),
        pytest.param(next(step_subjects(trace("a"))), "text", "b", id="subject"),
        pytest.param(verdict(), "outcome", Outcome.REJECT, id="verdict"),
        pytest.param(Cost(), "calls", 1, id="cost"),
        *(pytest.param(evidence, "kind", "x", id=evidence.kind) for evidence in EVIDENCE),
    ],
)
def test_nothing_of_the_vocabulary_changes_once_made(thing: object, field: str, value: object) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(thing, field, value)


# Errors


def all_errors() -> list[type[DraftproofError]]:
    found, waiting = [], [DraftproofError]
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return [error for error in found if error.__module__ == errors.__name__]


def test_the_tree_drawn_in_the_docstring_is_the_tree_that_is_there() -> None:
    drawn = errors.__doc__ or ""
    for error in all_errors():
        (line,) = (row for row in drawn.splitlines() if error.__name__ in row.split())
        if error is not DraftproofError:
            assert f" {int(error.exit_status)} " in line


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in all_errors()]
    assert len(set(codes)) == len(codes) > 10


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_an_error_says_its_remedy_and_has_an_exit_status(error: type[DraftproofError]) -> None:
    assert str(error("It broke.", remedy="Mend it.")) == "It broke. Mend it."
    assert str(error("It broke.")) == "It broke."
    assert ExitStatus(error.exit_status) is not ExitStatus.SETTLED
    assert issubclass(error, DraftproofError)
