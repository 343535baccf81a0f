"""`run_verifier`: one verdict a subject, broken verifiers kept apart from bad subjects, nothing unlogged."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from draftproof.errors import DisagreementError
from draftproof.subject import Granularity, Subject, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Cost, ErrorEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import Verifier, identity, run_verifier


class Log(list[Verdict]):
    """A verdict log in memory that remembers each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.calls += 1
        self.extend(verdicts)


@dataclass
class Scripted:
    """Accepts every subject, after `alter` had its way with the answer."""

    alter: Callable[[list[Subject], list[Verdict]], Any] = lambda subjects, verdicts: verdicts
    name: str = "scripted"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.EXACT
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    def check(self, subjects: Sequence[Subject]) -> Sequence[Verdict]:
        self.asked.append(len(subjects))
        verdicts: Sequence[Verdict] = self.alter(list(subjects), [self.accept(subject) for subject in subjects])
        return verdicts

    def accept(self, subject: Subject, **fields: Any) -> Verdict:
        given = {
            "subject": subject.key,
            "verifier": identity(self),
            "proposition": self.proposition,
            "outcome": Outcome.ACCEPT,
            "score": 1.0,
            "guarantee": self.guarantee,
        }
        return Verdict(**{**given, **fields})


def subjects_of(*texts: str) -> list[Subject]:
    return list(step_subjects(Trace(id="t", problem="p", steps=tuple(Step(text=text) for text in texts))))


SIX = subjects_of("a", "b", "c", "POISON", "e", "f")


def only_poison(harm: Callable[[Verdict], Verdict]) -> Callable[[list[Subject], list[Verdict]], list[Verdict]]:
    """Harms the verdict about the poisoned subject, wherever it stands in the batch."""

    def alter(subjects: list[Subject], verdicts: list[Verdict]) -> list[Verdict]:
        return [harm(v) if s.text == "POISON" else v for s, v in zip(subjects, verdicts, strict=True)]

    return alter


def raising(error: BaseException) -> Callable[[list[Subject], list[Verdict]], list[Verdict]]:
    def alter(subjects: list[Subject], verdicts: list[Verdict]) -> list[Verdict]:
        if any(subject.text == "POISON" for subject in subjects):
            raise error
        return verdicts

    return alter


def test_the_scripted_verifier_is_one() -> None:
    assert isinstance(Scripted(), Verifier)


def test_verdicts_come_in_the_order_of_the_subjects_one_each() -> None:
    log = Log()
    verdicts = run_verifier(Scripted(), SIX, log=log)
    assert [verdict.subject for verdict in verdicts] == [subject.key for subject in SIX]
    assert all(verdict.outcome is Outcome.ACCEPT for verdict in verdicts)
    assert log == verdicts


def test_no_subjects_are_no_call_of_the_verifier() -> None:
    verifier = Scripted()
    assert run_verifier(verifier, [], log=Log()) == []
    assert verifier.asked == []


def test_a_crash_becomes_an_error_verdict_of_the_one_subject_that_causes_it() -> None:
    verdicts = run_verifier(Scripted(alter=raising(ValueError("no digits"))), SIX, log=Log())
    outcomes = [verdict.outcome for verdict in verdicts]
    assert outcomes == [Outcome.ACCEPT] * 3 + [Outcome.ERROR] + [Outcome.ACCEPT] * 2
    assert verdicts[3].reason == "verifier_crashed"
    assert verdicts[3].evidence == (ErrorEvidence(type="ValueError", message="no digits"),)
    assert verdicts[3].score is None


def test_a_verifier_that_always_crashes_gives_only_error_verdicts() -> None:
    def crash(subjects: list[Subject], verdicts: list[Verdict]) -> list[Verdict]:
        raise OSError

    verdicts = run_verifier(Scripted(alter=crash), SIX, log=Log())
    assert [verdict.outcome for verdict in verdicts] == [Outcome.ERROR] * len(SIX)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot even say what is wrong")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        pytest.param(RecursionError("too deep"), "RecursionError", id="recursion"),
        pytest.param(MemoryError(), "MemoryError", id="memory"),
        pytest.param(SystemExit(0), "SystemExit", id="an-exit-does-not-end-the-run"),
        pytest.param(Mute(), "Mute", id="an-error-that-cannot-be-printed"),
        pytest.param(ValueError("x" * 10_000), "ValueError", id="a-huge-message"),
        pytest.param(ValueError("\ud800"), "ValueError", id="a-message-that-is-no-unicode"),
    ],
)
def test_whatever_a_subject_makes_a_verifier_raise_is_isolated(error: BaseException, named: str) -> None:
    verdicts = run_verifier(Scripted(alter=raising(error)), SIX, log=Log())
    assert [verdict.outcome for verdict in verdicts].count(Outcome.ERROR) == 1
    (evidence,) = verdicts[3].evidence
    assert isinstance(evidence, ErrorEvidence)
    assert evidence.type == named
    assert len(evidence.message) <= 2000
    assert Verdict.model_validate_json(verdicts[3].model_dump_json()) == verdicts[3]


def test_an_interrupt_by_the_user_is_no_crash_of_the_verifier() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_verifier(Scripted(alter=raising(KeyboardInterrupt())), SIX, log=Log())


def test_exact_verifiers_that_contradict_each_other_stop_the_run() -> None:
    log = Log()
    with pytest.raises(DisagreementError, match="proved and refuted"):
        run_verifier(Scripted(alter=raising(DisagreementError("proved and refuted"))), SIX, log=log)
    assert log == []


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda v: v.model_copy(update={"subject": SIX[0].key}), id="answers-for-another-subject"),
        pytest.param(lambda v: v.model_copy(update={"verifier": "other@1#0"}), id="signs-as-another-verifier"),
        pytest.param(lambda v: v.model_copy(update={"proposition": Proposition.EASY}), id="scores-something-else"),
        pytest.param(lambda v: v.model_copy(update={"sample": 1}), id="answers-for-a-draw-nobody-asked-for"),
        pytest.param(lambda v: v.model_copy(update={"score": math.nan}), id="a-score-that-is-no-number"),
        pytest.param(lambda v: v.model_copy(update={"score": 1.5}), id="a-score-above-one"),
        pytest.param(lambda v: v.model_copy(update={"outcome": Outcome.ERROR}), id="an-error-with-a-score"),
        pytest.param(lambda v: v.model_copy(update={"raw": {"logit": math.nan}}), id="raw-that-is-no-json"),
        pytest.param(lambda v: v.model_copy(update={"raw": {"tensor": object()}}), id="raw-with-an-object"),
        pytest.param(lambda v: None, id="nothing-in-place-of-a-verdict"),
        pytest.param(lambda v: v.model_dump(), id="a-dictionary-in-place-of-a-verdict"),
    ],
)
def test_a_broken_contract_becomes_an_error_verdict_of_that_subject_alone(harm: Callable[[Verdict], Verdict]) -> None:
    verdicts = run_verifier(Scripted(alter=only_poison(harm)), SIX, log=Log())
    assert [verdict.subject for verdict in verdicts] == [subject.key for subject in SIX]
    assert [verdict.outcome for verdict in verdicts] == [Outcome.ACCEPT] * 3 + [Outcome.ERROR] + [Outcome.ACCEPT] * 2
    assert verdicts[3].reason == "contract_violation"


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda subjects, verdicts: verdicts[:-1], id="one-too-few"),
        pytest.param(lambda subjects, verdicts: verdicts + verdicts[-1:], id="one-too-many"),
        pytest.param(lambda subjects, verdicts: [], id="none"),
        pytest.param(lambda subjects, verdicts: None, id="not-even-a-sequence"),
    ],
)
def test_the_wrong_number_of_verdicts_never_becomes_an_acceptance(alter: Callable[..., Any]) -> None:
    verdicts = run_verifier(Scripted(alter=alter), SIX, log=Log())
    assert [verdict.subject for verdict in verdicts] == [subject.key for subject in SIX]
    assert {verdict.outcome for verdict in verdicts} == {Outcome.ERROR}


def test_verdicts_in_the_wrong_order_are_not_taken_for_answers() -> None:
    """Two subjects asked together are answered crosswise; asked alone, each answer is right."""
    verdicts = run_verifier(Scripted(alter=lambda subjects, verdicts: verdicts[::-1]), SIX, log=Log())
    assert [verdict.subject for verdict in verdicts] == [subject.key for subject in SIX]
    assert [verdict.outcome for verdict in verdicts] == [Outcome.ACCEPT] * len(SIX)


def test_every_verdict_is_logged_before_anyone_sees_it() -> None:
    events: list[str] = []

    class Watching(Log):
        def add(self, verdicts: Sequence[Verdict]) -> None:
            events.append(f"logged {len(verdicts)}")
            super().add(verdicts)

    log = Watching()
    returned = run_verifier(Scripted(alter=raising(ValueError())), SIX, log=log)
    events.append(f"returned {len(returned)}")
    assert events == ["logged 6", "returned 6"]
    assert log == returned


def test_a_log_that_fails_keeps_the_verdicts_from_being_used() -> None:
    class Full(Log):
        def add(self, verdicts: Sequence[Verdict]) -> None:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        run_verifier(Scripted(), SIX, log=Full())


def test_a_verifier_that_states_no_cost_is_charged_its_share_of_the_call() -> None:
    stated = Scripted(alter=only_poison(lambda v: v.model_copy(update={"cost": Cost(wall_seconds=7.5, calls=2)})))
    verdicts = run_verifier(stated, SIX, log=Log())
    assert verdicts[3].cost == Cost(wall_seconds=7.5, calls=2)
    assert all(verdict.cost.wall_seconds > 0 for verdict in verdicts)


def test_recursion_of_isolation_is_shallow() -> None:
    """Halving a batch of n needs log2(n) levels, not n."""
    many = subjects_of(*["POISON"] * 300)
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        verdicts = run_verifier(Scripted(alter=raising(ValueError())), many, log=Log())
    finally:
        sys.setrecursionlimit(depth)
    assert len(verdicts) == 300


def test_identity_follows_arguments_and_fingerprint_and_not_their_order() -> None:
    one = Scripted(arguments={"a": 1, "b": 2}, fingerprint={"weights": "x"})
    assert identity(one) == identity(Scripted(arguments={"b": 2, "a": 1}, fingerprint={"weights": "x"}))
    assert identity(one) != identity(Scripted(arguments={"a": 1, "b": 3}, fingerprint={"weights": "x"}))
    assert identity(one) != identity(Scripted(arguments={"a": 1, "b": 2}, fingerprint={"weights": "y"}))
    assert identity(one) != identity(Scripted(arguments={"a": 1, "b": 2}, fingerprint={"weights": "x"}, version=2))
    assert identity(one).startswith("scripted@1#")
