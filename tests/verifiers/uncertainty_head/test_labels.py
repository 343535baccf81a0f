"""Labels: from the traces or from any verifier of correctness; what is unknown teaches nothing and is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.errors import InputError, UsageError
from draftproof.importers.prm800k import Prm800kImporter
from draftproof.subject import Granularity, Subject
from draftproof.trace import Source, Step, StepLabel, Trace
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity
from draftproof.verifiers.arithmetic import ArithmeticVerifier
from draftproof.verifiers.uncertainty_head.labels import LabelCounts, label

RIGHT, WRONG, UNKNOWN = StepLabel.CORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN


@dataclass(frozen=True)
class Scripted:
    """Says of each step what the step's text says; breaks where that is `crash`."""

    name: str = "scripted"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION
    arguments: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] = field(default_factory=dict)

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        if any(subject.text == "crash" for subject in subjects):
            raise RuntimeError("broken")
        return [
            Verdict(
                subject=subject.key,
                verifier=identity(self),
                proposition=self.proposition,
                outcome=Outcome(subject.text),
                guarantee=self.guarantee,
            )
            for subject in subjects
        ]


def trace(*steps: str, labels: tuple[StepLabel, ...] | None = None, problem: str = "?") -> Trace:
    return Trace(problem=problem, steps=tuple(Step(text=text) for text in steps), step_labels=labels)


def test_traces_bring_their_own() -> None:
    given_ = trace("a", "b", "c", "d", labels=(RIGHT, WRONG, RIGHT, WRONG))
    labelled = label([given_, trace("e")], None)
    assert labelled.labels == ((RIGHT, WRONG, UNKNOWN, UNKNOWN), (UNKNOWN,))
    assert labelled.counts == LabelCounts(correct=1, incorrect=1, after_error=2, unknown=1)
    assert labelled.provenance["source"] == "traces"
    with pytest.raises(InputError, match="None of the 1 traces says"):
        label([trace("e")], None)


def test_an_exact_verifier_labels_what_it_can_decide() -> None:
    labelled = label([trace("2 + 2 = 4", "prose", "4 + 4 = 9", "9 + 1 = 10")], ArithmeticVerifier())
    assert labelled.labels == ((RIGHT, UNKNOWN, WRONG, UNKNOWN),)
    assert labelled.counts == LabelCounts(correct=1, incorrect=1, after_error=1, unknown=1)
    assert labelled.source == identity(ArithmeticVerifier())


def test_what_a_judge_breaks_on_is_unknown_and_counted() -> None:
    labelled = label([trace("accept", "crash", "abstain", "reject", "accept")], Scripted())
    assert labelled.labels == ((RIGHT, UNKNOWN, UNKNOWN, WRONG, UNKNOWN),)
    assert labelled.counts == LabelCounts(correct=1, incorrect=1, after_error=1, unknown=1, errors=1)


@given(
    st.lists(st.lists(st.sampled_from(["accept", "reject", "abstain", "crash"]), max_size=8), min_size=1, max_size=4)
)
def test_every_step_is_counted_once_and_nothing_is_claimed_behind_an_error(texts: list[list[str]]) -> None:
    traces = [trace(*steps, problem=str(number)) for number, steps in enumerate(texts)]
    labelled = label(traces, Scripted())
    assert sum(vars(labelled.counts).values()) == sum(map(len, texts))
    for labels in labelled.labels:
        wrong = labels.index(WRONG) if WRONG in labels else len(labels)
        assert set(labels[wrong + 1 :]) <= {UNKNOWN}


def test_a_run_that_was_killed_asks_no_trace_twice(tmp_path: Path) -> None:
    traces = [trace("accept", "reject", problem=str(number)) for number in range(4)]
    asked: list[str] = []

    @dataclass(frozen=True)
    class Counting(Scripted):
        dies_at: int = 99

        def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
            if len(asked) == self.dies_at:
                raise KeyboardInterrupt
            asked.append(subjects[0].problem)
            return super().check(subjects)

    file = tmp_path / "labels.jsonl"
    with pytest.raises(KeyboardInterrupt):
        label(traces, Counting(dies_at=2), file=file)
    with file.open("ab") as out:
        out.write(b'{"verifier": "scri')
    told: list[tuple[str, int, int, str]] = []
    whole = label(traces, Counting(), file=file, report=lambda *said: told.append(said))
    assert asked == ["0", "1", "2", "3"]
    assert told[-1] == ("labelling", 4, 4, "")
    assert whole.labels == label(traces, Scripted()).labels == label(traces, Counting(), file=file).labels
    assert len(asked) == 4
    label(traces, Counting(version=2), file=file)  # another version says something else
    assert len(asked) == 8


def test_what_broke_is_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    assert label([trace("accept", "crash")], Scripted(), file=file).counts.errors == 1
    assert not file.exists()


@pytest.mark.parametrize(
    "other", [{"proposition": Proposition.EASY}, {"granularity": Granularity.TRACE}], ids=["proposition", "granularity"]
)
def test_a_verifier_of_something_else_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"judges whether a (step|trace) is"):
        label([trace("accept")], replace(Scripted(), **other))


@pytest.mark.parametrize("neutral", ["correct", "incorrect", "unknown"])
def test_what_neutral_meant_is_kept_with_the_labels(neutral: str) -> None:
    """PRM800K's rating 0: a parameter of its importer, by default right, and in the provenance."""

    def rated(text: str, rating: int) -> dict[str, Any]:
        return {"completions": [{"text": text, "rating": rating}], "chosen_completion": 0}

    record = {
        "labeler": "x",
        "question": {"problem": "2 + 2?"},
        "label": {"steps": [rated("a", 1), rated("b", 0), rated("c", 1)], "finish_reason": "solution"},
    }
    source = Source(format="prm800k", file="f", line=1)
    importer = Prm800kImporter() if neutral == "correct" else Prm800kImporter(neutral=neutral)
    labelled = label(list(importer.parse(record, source=source)), None)
    assert labelled.labels[0][1] is StepLabel(neutral)
    assert labelled.provenance["neutral"] == [neutral]
    assert labelled.counts.after_error == (1 if neutral == "incorrect" else 0)
