"""Agreement with step labels: every measure against numbers worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from draftproof.batch.metrics import EXPLANATIONS, Counts, Measure, count, measure, processbench_f1
from draftproof.trace import Step, StepLabel, Trace

LETTERS = {"c": StepLabel.CORRECT, "x": StepLabel.INCORRECT, "?": StepLabel.UNKNOWN}


def labelled(labels: str, problem: str = "p") -> Trace:
    """`ccx?`: two correct steps, the first error, one that nobody judged."""
    steps = tuple(Step(text=f"step {index}") for index in range(len(labels)))
    return Trace(id="t", problem=problem, steps=steps, step_labels=tuple(LETTERS[letter] for letter in labels))


def counts(labels: str, *rejected: int) -> Counts:
    found = count(labelled(labels), rejected)
    assert found is not None
    return found


def measured(*cases: tuple[str, Sequence[int]]) -> dict[str, Measure]:
    """Measures of traces given as labels and rejected positions, each a problem of its own."""
    pairs = [(str(number), counts(labels, *rejected)) for number, (labels, rejected) in enumerate(cases)]
    return {each.name: each for each in measure(pairs)}


def share(found: Measure) -> tuple[int | None, int | None]:
    return found.hits, found.of


@pytest.mark.parametrize(
    ("labels", "rejected", "expected"),
    [
        pytest.param(
            "ccx?", (2,),
            Counts(erroneous=1, erroneous_found=1, erroneous_near=1, early=1, early_exact=1, marked=1,
                   wrong_steps=1, wrong_rejected=1),
            id="the-first-wrong-step-is-the-first-rejected",
        ),
        pytest.param(
            "ccx?", (1, 2),
            Counts(erroneous=1, erroneous_near=1, early=1, marked=1, wrong_steps=1, wrong_rejected=1, right_rejected=1),
            id="a-right-step-before-it-is-rejected-too",
        ),
        pytest.param(
            "ccx?", (3,),
            Counts(erroneous=1, erroneous_near=1, wrong_steps=1),
            id="only-a-later-step-that-nobody-labelled",
        ),
        pytest.param(
            "cccx", (1,),
            Counts(erroneous=1, early=1, wrong_steps=1, right_rejected=1),
            id="two-steps-early",
        ),
        pytest.param("ccx?", (), Counts(erroneous=1, wrong_steps=1), id="nothing-is-rejected"),
        pytest.param("ccc", (), Counts(correct=1, correct_kept=1), id="a-correct-trace-is-kept"),
        pytest.param("ccc", (0, 2), Counts(correct=1, right_rejected=2), id="a-correct-trace-is-rejected-twice"),
        pytest.param("cc?", (), Counts(), id="nobody-said-that-the-whole-trace-is-right"),
        pytest.param("cc?", (0, 2), Counts(right_rejected=1), id="only-labelled-steps-count"),
        pytest.param(
            "xxc", (1,),
            Counts(erroneous=1, erroneous_near=1, wrong_steps=2, wrong_rejected=1),
            id="labels-of-every-step",
        ),
    ],
)  # fmt: skip
def test_one_trace_is_counted(labels: str, rejected: tuple[int, ...], expected: Counts) -> None:
    assert counts(labels, *rejected) == expected


@pytest.mark.parametrize(
    "trace",
    [
        pytest.param(labelled("??"), id="all-labels-unknown"),
        pytest.param(labelled("c").model_copy(update={"step_labels": None}), id="no-labels"),
    ],
)
def test_a_trace_that_nobody_labelled_is_not_counted(trace: Trace) -> None:
    assert count(trace, [0]) is None


def test_every_measure_by_hand() -> None:
    """Five erroneous traces, of which two are found exactly; four correct ones, of which three are kept."""
    found = measured(
        ("ccx", (2,)),       # found
        ("cx?", (1, 2)),     # found; the later rejection has no label
        ("ccx", (1,)),       # one early: near, early, not exact
        ("cccx", (0, 3)),    # far too early, but the wrong step is rejected too
        ("xc", ()),          # missed
        ("cc", ()), ("c", ()), ("ccc", ()),  # kept
        ("cc", (1,)),        # a false alarm
    )  # fmt: skip
    assert share(found["error_accuracy"]) == (2, 5)
    assert share(found["correct_accuracy"]) == (3, 4)
    assert found["processbench_f1"].value == pytest.approx(2 * 0.4 * 0.75 / 1.15)
    assert share(found["first_error_within_1"]) == (3, 5)
    assert share(found["first_error_or_none"]) == (5, 9)
    assert share(found["marked_step_rejected"]) == (3, 5)
    assert share(found["early_rejection_is_marked"]) == (2, 4)
    assert share(found["correct_trace_rejected"]) == (1, 4)
    assert share(found["step_precision"]) == (3, 6)
    assert share(found["step_recall"]) == (3, 5)
    assert set(found) == set(EXPLANATIONS)


@pytest.mark.parametrize(
    ("erroneous", "correct", "expected"),
    [
        pytest.param(0.0, 0.0, 0.0, id="both-zero"),
        pytest.param(0.0, 1.0, 0.0, id="one-zero"),
        pytest.param(1.0, 1.0, 1.0, id="both-one"),
        pytest.param(0.5, 1.0, 2 / 3, id="harmonic-and-not-arithmetic"),
        pytest.param(None, 1.0, None, id="no-erroneous-traces"),
        pytest.param(0.5, None, None, id="no-correct-traces"),
        pytest.param(None, None, None, id="no-traces"),
    ],
)
def test_f1_is_the_harmonic_mean(erroneous: float | None, correct: float | None, expected: float | None) -> None:
    assert processbench_f1(erroneous, correct) == (None if expected is None else pytest.approx(expected))


def test_a_verifier_that_finds_nothing_and_rejects_everything_scores_zero() -> None:
    found = measured(("ccx", (0,)), ("cc", (0,)))
    assert (found["error_accuracy"].value, found["correct_accuracy"].value) == (0.0, 0.0)
    assert found["processbench_f1"].value == 0.0


def test_a_class_without_traces_has_no_value_rather_than_zero() -> None:
    found = measured(("cc", ()), ("ccc", (1,)))
    for name in ("error_accuracy", "processbench_f1", "first_error_within_1", "marked_step_rejected", "step_recall"):
        assert (found[name].value, found[name].low, found[name].high) == (None, None, None)
    assert found["correct_accuracy"].value == 0.5
    assert {m.value for m in measure([])} == {None}


def test_traces_of_one_problem_are_resampled_together() -> None:
    """Ten copies of one problem carry the information of one: the interval is as wide as that of two problems."""
    kept, lost = counts("c"), counts("c", 0)
    few = {m.name: m for m in measure([("a", kept), ("b", lost)])}["correct_accuracy"]
    grouped = {m.name: m for m in measure([("a", kept)] * 10 + [("b", lost)] * 10)}["correct_accuracy"]
    apart = {m.name: m for m in measure([(f"{i}", kept) for i in range(10)] + [(f"-{i}", lost) for i in range(10)])}
    assert (few.low, few.high) == (grouped.low, grouped.high) == (0.0, 1.0)
    assert grouped.value == apart["correct_accuracy"].value == 0.5
    assert apart["correct_accuracy"].low is not None
    assert apart["correct_accuracy"].high is not None
    assert 0.1 < apart["correct_accuracy"].low < 0.5 < apart["correct_accuracy"].high < 0.9


def test_one_problem_has_no_interval() -> None:
    found = {m.name: m for m in measure([("a", counts("c")), ("a", counts("c", 0))])}["correct_accuracy"]
    assert (found.value, found.low, found.high) == (0.5, None, None)


def test_intervals_hold_the_value_and_are_the_same_in_every_process() -> None:
    cases = [(f"{number % 17}", counts("ccx", *([2] if number % 3 else [1]))) for number in range(60)]
    here = measure(cases)
    for each in here:
        if each.value is not None and each.low is not None and each.high is not None:
            assert each.low <= each.value <= each.high
    code = (
        "import json; from dataclasses import asdict; from draftproof.batch.metrics import Counts, measure\n"
        f"cases = {[(p, list(vars(c).values())) for p, c in cases]!r}\n"
        "print(json.dumps([asdict(m) for m in measure((p, Counts(*c)) for p, c in cases)]))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert [Measure(**each) for each in json.loads(done.stdout)] == here


def test_the_order_of_traces_within_a_problem_changes_nothing() -> None:
    one, two = counts("c"), counts("c", 0)
    assert measure([("a", one), ("a", two), ("b", one)]) == measure([("a", two), ("a", one), ("b", one)])
