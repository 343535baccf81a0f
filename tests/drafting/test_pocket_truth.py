"""Step truth of pocket problems: right solutions are right, every kind of fault is found, and Lean agrees."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.drafting.pocket.arithmetic import Calculation, carries
from draftproof.drafting.pocket.problems import LARGEST, PlannedStep, PocketProblem, problem
from draftproof.drafting.pocket.reading import read_problem
from draftproof.drafting.pocket.truth import Fault, answers, fault_of, read_answer, read_calculation, step_labels
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.trace import StepLabel
from draftproof.verdict import Outcome
from draftproof.verifiers.arithmetic import ArithmeticVerifier
from draftproof.verifiers.lean_step import LeanVerifier
from draftproof.verifiers.pocket_step import PocketStepVerifier

STORY = PocketProblem(
    "Ben has 47 eggs. Ben gets 38 more eggs. Ben sells 5 eggs. Ben buys 3 bags of 4 eggs. "
    "How many eggs does Ben have now?",
    (
        PlannedStep("Now Ben has 47+38=85.", Calculation(47, "+", 38)),
        PlannedStep("So Ben keeps 85-5=80.", Calculation(85, "-", 5), left_from=0),
        PlannedStep("So the bags hold 3*4=12.", Calculation(3, "*", 4)),
        PlannedStep("So Ben has 80+12=92.", Calculation(80, "+", 12), left_from=1, right_from=2),
    ),
    92,
)
RIGHT = tuple(step.text for step in STORY.steps)


@given(st.integers(0, 10**6))
def test_solutions_as_they_are_made_are_right(seed: int) -> None:
    made = problem(random.Random(seed))
    texts = [*(step.text for step in made.steps), made.closing]
    assert step_labels(made, texts) == [StepLabel.CORRECT] * len(texts)
    assert answers(made, made.solution)
    assert all(0 < step.calculation.result <= LARGEST for step in made.steps)


@given(st.integers(0, 10**6), st.integers(1, 9), st.data())
def test_a_changed_result_is_wrong_and_what_follows_unknown(seed: int, by: int, data: st.DataObject) -> None:
    made = problem(random.Random(seed))
    place = data.draw(st.integers(0, len(made.steps) - 1))
    texts = [*(step.text for step in made.steps), made.closing]
    calculation = made.steps[place].calculation
    texts[place] = texts[place].replace(f"={calculation.result}.", f"={calculation.result + by}.")
    labels = step_labels(made, texts)
    assert labels[:place] == [StepLabel.CORRECT] * place
    assert labels[place] is StepLabel.INCORRECT
    assert set(labels[place + 1 :]) <= {StepLabel.UNKNOWN}


@pytest.mark.parametrize(
    ("place", "step", "fault"),
    [
        (0, "Now Ben has 47+38=75.", Fault.LOST_CARRY),
        (0, "Now Ben has 47+38=83.", Fault.SLIP),
        (0, "Now Ben has 47+36=83.", Fault.WRONG_NUMBER),
        (0, "Now Ben has 47-38=9.", Fault.WRONG_OPERATION),
        (0, "So Ben keeps 47-5=42.", Fault.SKIPPED_STEP),
        (0, "So Ben thinks.", Fault.UNREADABLE),
        (0, "So 1+1=3. Now Ben has 47+38=85.", Fault.UNREADABLE),
        (4, "So 1+1=3. The answer is 92.", Fault.UNREADABLE),
        (0, "The answer is 47.", Fault.EARLY_ANSWER),
        (4, "The answer is 93.", Fault.WRONG_ANSWER),
        (4, "So Ben has 92+1=93.", Fault.SURPLUS_STEP),
        (2, "So the bags hold 3*4=13.", Fault.SLIP),
        (0, "Now Ben has 38+47=85.", None),
        (3, "So Ben has 12+80=92.", None),
        (4, "The answer is 92.", None),
    ],
)
def test_faults_are_told_apart(place: int, step: str, fault: Fault | None) -> None:
    assert fault_of(STORY, RIGHT[:place], step) is fault


def test_a_step_is_judged_by_what_it_rests_on() -> None:
    wrong = "Now Ben has 47+38=75."
    assert fault_of(STORY, [wrong], "So Ben keeps 75-5=70.") is None
    assert fault_of(STORY, [wrong], "So Ben keeps 85-5=80.") is Fault.WRONG_NUMBER
    assert step_labels(STORY, [wrong, "So Ben keeps 75-5=70."])[1] is StepLabel.UNKNOWN


def test_divisions_must_come_out_even() -> None:
    shared = PocketProblem("…", (PlannedStep("So a part is 12/4=3.", Calculation(12, "/", 4)),), 3)
    assert fault_of(shared, [], "So a part is 12/4=3.") is None
    assert fault_of(shared, [], "So a part is 12/4=2.") is Fault.SLIP
    assert read_calculation("12/0=0") is not None  # and nothing divides by it


@given(st.text(max_size=80))
def test_no_text_breaks_the_reading(text: str) -> None:
    read_answer(text)
    read_calculation(text)
    fault_of(STORY, [text], text)


def test_carries_are_counted_by_column() -> None:
    assert carries(47, 38) == 1
    assert carries(999, 1) == 3
    assert carries(20, 30) == 0


def test_the_exact_verifiers_agree_with_the_plan() -> None:
    """Every step of right solutions, and the same steps with wrong results, through arithmetic and the Lean kernel."""
    source = random.Random(5)
    subjects, truth = [], []
    for number in range(12):
        made = problem(source)
        texts = [step.text for step in made.steps]
        for place, step in enumerate(made.steps):
            result = step.calculation.result
            for text in (step.text, step.text.replace(f"={result}.", f"={result + source.randint(1, 30)}.")):
                key = SubjectKey(trace_digest=f"{number:064x}", granularity=Granularity.STEP, position=len(subjects))
                subjects.append(Subject(key=key, problem=made.text, text=text, context=tuple(texts[:place])))
                truth.append(fault_of(made, texts[:place], text) is None)
    wanted = [Outcome.ACCEPT if right else Outcome.REJECT for right in truth]
    assert [verdict.outcome for verdict in ArithmeticVerifier().check(subjects)] == wanted
    assert [verdict.outcome for verdict in LeanVerifier().check(subjects)] == wanted


@given(st.integers(0, 10**6))
def test_a_problem_is_read_back_from_its_text(seed: int) -> None:
    made = problem(random.Random(seed))
    read = read_problem(made.text)
    assert read is not None
    assert read.answer == made.answer
    facts = [(step.calculation, step.left_from, step.right_from) for step in made.steps]
    assert [(step.calculation, step.left_from, step.right_from) for step in read.steps] == facts
    assert [step.text.split()[1:] for step in read.steps] == [step.text.split()[1:] for step in made.steps]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is 2 + 2?",
        "Ben has 4 eggs. Ben sells 5 eggs. How many eggs does Ben have now?",
        "Ben has 4 eggs. Ada sells 3 eggs. How many eggs does Ben have now?",
        "Ben has 4 eggs. Ben sells 3 pens. How many eggs does Ben have now?",
        "Ben has 5 eggs. Ben shares all eggs among 2 friends and takes the part of one. "
        "How many eggs does Ben have now?",
        "Ben has 5 eggs. Ben finds 2 more eggs. How many eggs does Ada have now?",
        "Ben has 5 eggs. How many eggs does Ben have now?",
    ],
)
def test_what_is_no_pocket_problem_is_not_read(text: str) -> None:
    assert read_problem(text) is None


@given(st.text(max_size=200))
def test_no_problem_breaks_the_reading(text: str) -> None:
    read_problem(text)


def test_the_verifier_says_what_the_plan_says() -> None:
    def subject(position: int, problem_text: str, text: str) -> Subject:
        key = SubjectKey(trace_digest="0" * 64, granularity=Granularity.STEP, position=position)
        return Subject(
            key=key, problem=problem_text, text=text, context=tuple(f"{each}\n\n" for each in RIGHT[:position])
        )

    asked = [
        subject(0, STORY.text, RIGHT[0] + "\n\n"),
        subject(0, STORY.text, "Now Ben has 47+38=75.\n\n"),
        subject(4, STORY.text, "The answer is 92."),
        subject(1, STORY.text, RIGHT[2]),
        subject(0, "What is 47+38?", RIGHT[0]),
    ]
    verdicts = PocketStepVerifier().check(asked)
    assert [(v.outcome, v.reason) for v in verdicts] == [
        (Outcome.ACCEPT, "as_planned"),
        (Outcome.REJECT, "lost_carry"),
        (Outcome.ACCEPT, "as_planned"),
        (Outcome.REJECT, "skipped_step"),
        (Outcome.ABSTAIN, "no_pocket_problem"),
    ]
