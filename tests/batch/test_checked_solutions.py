"""What the check of solve-detect-verify said goes wherever a solution goes: nothing unchecked counts as accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from draftproof.batch.courses import course_of, solved_of_run
from draftproof.batch.pipeline_run import PipelineRun, run_pipeline
from draftproof.batch.problems import Problem
from draftproof.batch.solved import Solved
from draftproof.pipelines.best_of_n import create_best_of_n
from draftproof.pipelines.solve_detect_verify import create_solve_detect_verify
from draftproof.pipelines.step_state import StepSettings
from draftproof.store.verdict_store import VerdictStore
from tests.batch.stub_models import counted, create
from tests.pipelines.solvers import Checker, Solver, holding

WRONG = "First 1+1=3.\n\nThe answer is 4."
RIGHT = "Now 1+1=2.\n\nThe answer is 3."
PROBLEMS = [Problem("What is 1+1+1?", "sum", "3")]


def down(subject: Any) -> float | None:
    raise TimeoutError("the check is down")


def run_of(store: VerdictStore, solver: Solver, says: Any, **options: Any) -> tuple[PipelineRun, Solved]:
    given = {"retry_errors": options.pop("retry_errors", False)}
    run = run_pipeline(
        lambda log: create_solve_detect_verify(solver, log=log, fast=Checker(says), **options),
        PROBLEMS,
        store=store,
        workers=1,
        **given,
    )
    (solved,) = run
    return run, solved


@pytest.mark.parametrize(
    ("texts", "says", "outcome", "counted_as"),
    [
        pytest.param([RIGHT], holding({}), "accept", "accepted", id="accepted"),
        pytest.param([WRONG, RIGHT], holding({"1+1=3": 0.1}), "accept", "accepted", id="accepted-when-tried-again"),
        pytest.param([WRONG], holding({}, 0.1), "reject", "rejected", id="every-attempt-rejected"),
        pytest.param([RIGHT], holding({}, None), "abstain", "abstained", id="the-check-abstains"),
        pytest.param([RIGHT], down, "error", "errored", id="the-check-is-down"),
    ],
)
def test_a_solution_counts_as_what_its_check_said(
    store: VerdictStore, texts: list[str], says: Any, outcome: str, counted_as: str
) -> None:
    run, solved = run_of(store, Solver(texts), says)
    assert (solved.finish, solved.outcome, solved.as_json()["outcome"]) == ("end", outcome, outcome)
    (planned,) = (total for total in run.conservation if total.planned)
    tallied = {name: getattr(planned, name) for name in ("accepted", "rejected", "abstained", "errored")}
    assert tallied == {"accepted": 0, "rejected": 0, "abstained": 0, "errored": 0} | {counted_as: 1}
    assert planned.settled
    (stored,) = solved_of_run(store, run.record)
    assert replace(stored, known=False) == solved
    again, known = run_of(store, Solver(texts), says)
    assert (again.tally.known, replace(known, known=False)) == (1, solved)
    told = course_of(store, solved.opening)
    assert (told["outcome"], told["text"], told["counts"]) == (outcome, solved.text, solved.counts)


def test_a_check_that_was_down_may_be_asked_again(store: VerdictStore) -> None:
    run_of(store, Solver([RIGHT]), down)
    _, solved = run_of(store, Solver([RIGHT]), holding({}), retry_errors=True)
    assert (solved.attempt, solved.outcome, solved.known) == (1, "accept", False)


def test_what_was_never_checked_is_not_accepted(store: VerdictStore) -> None:
    _, failed = run_of(store, Solver([RIGHT], fails_at=1), holding({}))
    assert (failed.finish, failed.outcome) == ("error", "error")
    run, full = run_of(store, Solver([RIGHT], context_length=3), holding({}), max_attempts=1)
    assert (full.finish, full.outcome) == ("context", "abstain")
    run, cut = run_of(store, Solver([RIGHT]), holding({}), settings=StepSettings(max_steps=1))
    assert (cut.finish, cut.outcome) == ("max_steps", "accept")
    (planned,) = (total for total in run.conservation if total.planned)
    assert (planned.accepted, planned.rejected) == (0, 1), "what was cut off is no finished answer, whoever accepts it"


def test_pipelines_without_a_check_say_nothing_of_one(store: VerdictStore) -> None:
    for one in run_pipeline(create(), counted(3), store=store):
        assert (one.outcome, one.as_json()["outcome"]) == (None, None)
    best = run_pipeline(
        lambda log: create_best_of_n(Solver([RIGHT], by="seed"), log=log, n=2), PROBLEMS, store=store, workers=1
    )
    (solved,) = best
    assert (solved.outcome, solved.finish) == (None, "end")
    told = course_of(store, solved.opening)
    assert [candidate["text"] for candidate in told["candidates"]] == [RIGHT, RIGHT]
