"""What is true of a solution of a pocket problem: which steps are right, and what is wrong with the others.

Truth comes from the problem's plan, not from reading the solution's prose: a step is right when its calculation is the
next one of the plan and its result is what that comes to. The `lean` verifier confirms the arithmetic half of it
independently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from draftproof.drafting.pocket.arithmetic import Calculation
from draftproof.drafting.pocket.problems import PlannedStep, PocketProblem
from draftproof.trace import StepLabel

_CALCULATION = re.compile(r"(?<![\d.])(\d{1,6})\s*([-+*/])\s*(\d{1,6})\s*=\s*(\d{1,9})(?![\d.]*\d)")
_ANSWER = re.compile(r"The answer is (\d{1,9})\.")


class Fault(StrEnum):
    """What is wrong with a step; the first that fits, in this order."""

    UNREADABLE = "unreadable"
    """Neither one calculation nor an answer, or several of them: only what was read whole can be right."""
    LOST_CARRY = "lost_carry"
    """The right calculation, with a result that lacks or invents carries or borrows."""
    SLIP = "slip"
    """The right calculation, with another wrong result."""
    EARLY_ANSWER = "early_answer"
    """An answer while steps are missing."""
    WRONG_ANSWER = "wrong_answer"
    """An answer that is not what the last step came to."""
    SURPLUS_STEP = "surplus_step"
    """A step after the last one."""
    SKIPPED_STEP = "skipped_step"
    """What a later step would do, done to the amount that there was."""
    WRONG_OPERATION = "wrong_operation"
    """The right numbers, another sign."""
    WRONG_NUMBER = "wrong_number"
    """Other numbers than the problem or the steps before have."""


@dataclass(frozen=True)
class Written:
    """A calculation as it was written, with the result that was given."""

    calculation: Calculation
    result: int


def read_calculation(text: str) -> Written | None:
    """The calculation of a step; None where there is none, or more than one."""
    found = _CALCULATION.findall(text)
    if len(found) != 1:
        return None
    ((left, sign, right, result),) = found
    return Written(Calculation(int(left), sign, int(right)), int(result))


def read_answer(text: str) -> int | None:
    """What the text says the answer is."""
    found = _ANSWER.findall(text)
    return int(found[-1]) if found else None


def fault_of(problem: PocketProblem, earlier: Sequence[str], step: str) -> Fault | None:
    """What is wrong with `step` after the steps `earlier`; None where it is right.

    A step is judged by what it rests on: after a wrong result, going on rightly from that result is right.
    """
    place = len(earlier)
    answer = read_answer(step)
    written = read_calculation(step)
    if answer is not None:
        calculates = _CALCULATION.search(step) is not None
        return Fault.UNREADABLE if calculates else _fault_of_answer(problem, earlier, answer)
    if written is None:
        return Fault.UNREADABLE
    if place >= len(problem.steps):
        return Fault.SURPLUS_STEP
    results = [_result(text, planned) for text, planned in zip(earlier, problem.steps, strict=False)]
    expected = _resting_on(problem.steps[place], results)
    if expected.same(written.calculation):
        return _fault_of_result(expected, written.result)
    return _fault_of_calculation(problem, results, expected, written.calculation)


def step_labels(problem: PocketProblem, steps: Sequence[str]) -> list[StepLabel]:
    """Labels of a whole solution: after the first wrong step nothing is claimed of the others."""
    labels: list[StepLabel] = []
    for place, step in enumerate(steps):
        if StepLabel.INCORRECT in labels:
            labels.append(StepLabel.UNKNOWN)
        else:
            fault = fault_of(problem, steps[:place], step)
            labels.append(StepLabel.CORRECT if fault is None else StepLabel.INCORRECT)
    return labels


def answers(problem: PocketProblem, solution: str) -> bool:
    """Whether the solution ends with the right answer."""
    return read_answer(solution) == problem.answer


def _result(text: str, planned: PlannedStep) -> int:
    """What an earlier step came to; as planned where that cannot be read, which is a fault of that step alone."""
    written = read_calculation(text)
    return planned.calculation.result if written is None else written.result


def _resting_on(planned: PlannedStep, results: Sequence[int]) -> Calculation:
    """The planned calculation with what earlier steps really came to."""
    plan = planned.calculation
    left = plan.left if planned.left_from is None else results[planned.left_from]
    right = plan.right if planned.right_from is None else results[planned.right_from]
    return Calculation(left, plan.sign, right)


def _fault_of_answer(problem: PocketProblem, earlier: Sequence[str], answer: int) -> Fault | None:
    if len(earlier) < len(problem.steps):
        return Fault.EARLY_ANSWER
    last = read_calculation(earlier[-1]) if earlier else None
    return None if last is not None and last.result == answer else Fault.WRONG_ANSWER


def _fault_of_result(expected: Calculation, result: int) -> Fault | None:
    if expected.sign == "/":
        right = expected.right != 0 and expected.left == result * expected.right
    else:
        right = result == expected.result
    if right:
        return None
    if expected.sign in "+-" and _carries_differ(expected, result):
        return Fault.LOST_CARRY
    return Fault.SLIP


def _carries_differ(calculation: Calculation, result: int) -> bool:
    """Whether every column of `result` is right but for a carry or borrow that came from the column before."""
    sign = 1 if calculation.sign == "+" else -1
    left, right, rest = calculation.left, calculation.right, result
    while left or right or rest:
        plain = left % 10 + sign * (right % 10)
        if rest % 10 not in (plain % 10, (plain + sign) % 10):
            return False
        left, right, rest = left // 10, right // 10, rest // 10
    return True


def _fault_of_calculation(
    problem: PocketProblem, results: Sequence[int], expected: Calculation, written: Calculation
) -> Fault:
    """Why another calculation stands where `expected` should."""
    now = len(results)
    amount = _amount(problem, results)
    for later in problem.steps[now + 1 :]:
        plan = later.calculation
        left = plan.left if later.left_from is None else amount
        if plan.sign == written.sign and {left, plan.right} == {written.left, written.right}:
            return Fault.SKIPPED_STEP
    if {expected.left, expected.right} == {written.left, written.right}:
        return Fault.WRONG_OPERATION
    return Fault.WRONG_NUMBER


def _amount(problem: PocketProblem, results: Sequence[int]) -> int:
    """What the owner has after the steps that were written."""
    if not results:
        return problem.steps[0].calculation.left
    return results[-1]
