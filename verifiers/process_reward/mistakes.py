"""Solutions of pocket problems with a mistake in them, of every kind that solvers make, and labels of what is true.

A mistake is made on purpose and then *found*: its label and its kind are those of `drafting.pocket.truth`, which knows
nothing of how it was made, and a mistake that is none (a slip that happens to be right) is made anew. What follows the
first wrong step is left out: nothing is claimed of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from draftproof.drafting.pocket.arithmetic import Calculation, Sign
from draftproof.drafting.pocket.problems import EASY_OPENING, HARD_OPENINGS, PlannedStep, PocketProblem
from draftproof.drafting.pocket.truth import Fault, fault_of, read_calculation

_TRIES = 20
_RESULTS = (Fault.SLIP, Fault.LOST_CARRY, Fault.WRONG_ANSWER)


@dataclass(frozen=True)
class LabelledSolution:
    """A problem's solution up to its first wrong step, or to its end."""

    problem: str
    steps: tuple[str, ...]
    fault: Fault | None
    """What is wrong with the last step; None where all are right."""
    instead: str | None = None
    """The right last step, where the wrong one differs from it in the result alone: so is known where in its text it
    begins to be wrong."""


@dataclass(frozen=True)
class Drill:
    """Calculations of a solution, any number of them with a wrong result that the next ones go on from.

    Nothing is claimed of its steps as steps, as truth ends with a solution's first mistake; what is known is where each
    result goes wrong.
    """

    problem: str
    steps: tuple[str, ...]
    instead: tuple[str | None, ...]
    """For each step the same with the right result; None where it is right."""


def right_solution(problem: PocketProblem) -> LabelledSolution:
    return LabelledSolution(problem.text, (*(step.text for step in problem.steps), problem.closing), None)


def written_solution(problem: PocketProblem, steps: Sequence[str]) -> LabelledSolution:
    """What somebody wrote, up to the first wrong step: for training on the mistakes that models really make."""
    texts = tuple(step.strip() for step in steps)
    for place, text in enumerate(texts):
        fault = fault_of(problem, texts[:place], text)
        if fault is not None:
            return LabelledSolution(problem.text, texts[: place + 1], fault)
    return LabelledSolution(problem.text, texts, None)


def wrong_solution(problem: PocketProblem, source: random.Random) -> LabelledSolution:
    """One with a mistake somewhere: every place is as likely, every way that fits there too."""
    right = right_solution(problem).steps
    while True:
        place = source.randrange(len(right))
        ways = _ANSWERS if place == len(problem.steps) else _STEPS
        for _ in range(_TRIES):
            text = source.choice(ways)(problem, place, source)
            fault = None if text is None else fault_of(problem, right[:place], text)
            if text is not None and fault is not None:
                instead = right[place] if fault in _RESULTS else None
                return LabelledSolution(problem.text, (*right[:place], text), fault, instead)


def drill(problem: PocketProblem, source: random.Random) -> Drill:
    """The planned calculations, half of them with a wrong result, up to one that natural numbers do not have."""
    steps: list[str] = []
    instead: list[str | None] = []
    results: list[int] = []
    for planned in problem.steps:
        plan = planned.calculation
        left = plan.left if planned.left_from is None else results[planned.left_from]
        right = plan.right if planned.right_from is None else results[planned.right_from]
        text = _rewritten(planned, left, plan.sign, right, source)
        if text is None:
            break
        made = PlannedStep(text, Calculation(left, plan.sign, right))
        way = source.choice((_slip, _carry)) if source.random() < 0.5 else None
        wrong = way(replace(problem, steps=(made,)), 0, source) if way else None
        steps.append(wrong or text)
        instead.append(text if wrong else None)
        written = read_calculation(steps[-1])
        results.append(made.calculation.result if written is None else written.result)
    return Drill(problem.text, tuple(steps), tuple(instead))


def _slip(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """A digit wrong, or a result a little off."""
    planned = problem.steps[place]
    result = planned.calculation.result
    if source.random() < 0.5:
        digits = list(str(result))
        at = source.randrange(len(digits))
        digits[at] = source.choice("0123456789" if at or len(digits) == 1 else "123456789")
        return _with_result(planned, int("".join(digits)))
    return _with_result(planned, result + source.choice((-20, -10, -3, -2, -1, 1, 2, 3, 10, 20)))


def _carry(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """A sum or difference with one column's carry lost or invented; a product or quotient has none."""
    planned = problem.steps[place]
    if planned.calculation.sign not in "+-":
        return None
    return _with_result(planned, planned.calculation.result + source.choice((-100, -10, 10, 100)))


def _number(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """Another number where one of the two should stand, and the right result of that."""
    plan = problem.steps[place].calculation
    others = [n for step in problem.steps for n in (step.calculation.left, step.calculation.right)]
    near = [n for n in (plan.left, plan.right) for n in (n - 1, n + 1, n + 10)]
    number = source.choice(others + near)
    left, right = (number, plan.right) if source.random() < 0.5 else (plan.left, number)
    return _rewritten(problem.steps[place], left, plan.sign, right, source)


def _operation(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """The right numbers, another sign, and the right result of that."""
    plan = problem.steps[place].calculation
    signs: tuple[Sign, ...] = ("+", "-", "*", "/")
    return _rewritten(problem.steps[place], plan.left, source.choice(signs), plan.right, source)


def _skipped(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """The next step, done to the amount that there is."""
    if place + 1 >= len(problem.steps):
        return None
    now, later = problem.steps[place].calculation, problem.steps[place + 1]
    left = now.left if later.left_from is not None else later.calculation.left
    return _rewritten(later, left, later.calculation.sign, later.calculation.right, source)


def _early(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """An answer while steps are missing: most often what there is by now."""
    made = problem.steps[place - 1].calculation.result if place else problem.steps[0].calculation.left
    return f"The answer is {problem.answer if source.random() < 0.3 else made}."


def _answer(problem: PocketProblem, place: int, source: random.Random) -> str | None:
    """Another number as the answer: of the problem, or a little off."""
    others = [n for step in problem.steps for n in (step.calculation.left, step.calculation.right)]
    number = source.choice([*others, problem.answer + source.choice((-10, -1, 1, 10))])
    return f"The answer is {number}." if number >= 0 else None


_Way = Callable[[PocketProblem, int, random.Random], "str | None"]
_STEPS: tuple[_Way, ...] = (_slip, _slip, _carry, _carry, _number, _number, _operation, _skipped, _early)
"""Wrong results are what trained solvers write most often."""
_ANSWERS: tuple[_Way, ...] = (_answer,)


def _with_result(planned: PlannedStep, result: int) -> str | None:
    """The step with another result; its opening is that of the calculation, which is the right one."""
    if result < 0 or result == planned.calculation.result:
        return None
    before = planned.text.removesuffix(f"{planned.calculation.result}.")
    return f"{before}{result}."


def _rewritten(planned: PlannedStep, left: int, sign: Sign, right: int, source: random.Random) -> str | None:
    """The step with another calculation, worked out rightly; None where natural numbers have no such result.

    It opens as a step of that difficulty does: else the opening alone would give the mistake away.
    """
    if left < 0 or right < 0 or (sign == "-" and left < right) or (sign == "/" and (not right or left % right)):
        return None
    made = Calculation(left, sign, right)
    if made.result > 99_999:
        return None
    _, _, rest = planned.text.removesuffix(f"{planned.calculation}.").partition(" ")
    opening = source.choice(HARD_OPENINGS) if made.hard else EASY_OPENING
    return f"{opening} {rest}{made}."
