"""`verdicts show` of runs that wrote several solutions: each with its own steps, and what was said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftproof.batch.pipeline_run import run_pipeline
from draftproof.batch.problems import Problem
from draftproof.pipelines.best_of_n import create_best_of_n
from draftproof.pipelines.solve_detect_verify import create_solve_detect_verify
from draftproof.store.verdict_store import VerdictStore
from tests.pipelines.solvers import Checker, Solver, holding

Cli = Callable[..., Any]
WRONG = "First 1+1=3.\n\nThe answer is 4."
RIGHT = "Now 1+1=2.\n\nThe answer is 3."


@pytest.fixture
def solved(tmp_path: Path) -> Callable[[Any], str]:
    """Digest of the opening of one problem, solved by the graph that is made into the store `s.db`."""

    def solve(make: Any) -> str:
        with VerdictStore.open(str(tmp_path / "s.db")) as store:
            (one,) = run_pipeline(make, [Problem("What is 1+1+1?", "sum", "3")], store=store, workers=1)
        return one.opening

    return solve


def test_attempts_are_shown_apart_with_their_checks(cli: Cli, solved: Callable[[Any], str]) -> None:
    fast = Checker(holding({"1+1=3": 0.1}))
    opening = solved(lambda log: create_solve_detect_verify(Solver([WRONG, RIGHT]), log=log, fast=fast))
    shown = cli("verdicts", "show", opening, "--store", "s.db")
    assert shown.status == 0, shown.err
    first, second = shown.out.split("attempt 2 of 2")
    assert "First 1+1=3." in first
    assert "check: reject" in first
    assert "first error in step 0" in first
    assert "Now 1+1=2." not in first
    assert "is the text" in second
    assert "check: accept" in second
    assert "ended: end, check: accept" in second
    assert "verify:" not in shown.out, "a check of a whole attempt is no step's route"
    told = cli("verdicts", "show", opening, "--store", "s.db", "--json").json["route"]
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["reject", "accept"]
    assert told["counts"]["escalations"] == 0


def test_candidates_are_shown_apart_with_their_scores(cli: Cli, solved: Callable[[Any], str]) -> None:
    judge = Checker(holding({"1+1=3": 0.125}))
    opening = solved(
        lambda log: create_best_of_n(Solver([WRONG, RIGHT], by="seed"), log=log, n=2, by="score", verifier=judge)
    )
    shown = cli("verdicts", "show", opening, "--store", "s.db")
    assert shown.status == 0, shown.err
    first, second = shown.out.split("candidate 2 of 2")
    assert "answer 4  score 0.125" in first
    assert "is the text" not in first
    assert "is the text" in second
    assert "candidate 2 won  score: best_score" in second
    told = cli("verdicts", "show", opening, "--store", "s.db", "--json").json["route"]
    assert [candidate["text"] for candidate in told["candidates"]] == [WRONG, RIGHT]
