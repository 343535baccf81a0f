"""Runs that write several whole solutions, told again from their verdicts alone: every attempt, every candidate."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import InputError
from draftproof.pipelines.best_of_n import create_best_of_n
from draftproof.pipelines.completeness import CompletenessProbe
from draftproof.pipelines.replay import replay
from draftproof.pipelines.replay_rows import CUT_OFF
from draftproof.pipelines.solve_detect_verify import create_solve_detect_verify
from draftproof.pipelines.step_state import StepInput, StepSettings
from draftproof.store.queries import VerdictFilter
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity
from draftproof.verdict import StepEvidence
from tests.pipelines.scripted import Log
from tests.pipelines.solvers import Checker, Solver, holding
from tests.pipelines.test_best_of_n_and_solve_contract import GRAPHS, INPUT, Build

GIVEN: StepInput = INPUT  # type: ignore[assignment]
WRONG = "First 1+1=3.\n\nThen 3+1=4.\n\nThe answer is 4."
RIGHT = "Now 1+1=2.\n\nThen 2+1=3.\n\nThe answer is 3."


@pytest.fixture(params=list(GRAPHS))
def build(request: pytest.FixtureRequest) -> Build:
    return GRAPHS[request.param]


def test_the_output_follows_from_the_verdicts(build: Build) -> None:
    log = Log()
    output = build(log).compile().invoke(INPUT)
    assert len(output.get("attempts") or output["candidates"]) > 1
    assert replay(log, GIVEN) == output
    random.Random(0).shuffle(log)
    assert replay(log, GIVEN) == output, "in any order"


def test_it_follows_from_a_store(build: Build, tmp_path: Path) -> None:
    with VerdictStore.open(str(tmp_path / "v.db")) as store:
        run = store.begin_run("test")
        log = store.log(run.id)
        graph = build(log).compile()
        output = graph.invoke(INPUT)
        graph.invoke({"problem": "And 2+2?"})
        stored = [row.verdict for row in store.iter_verdicts(VerdictFilter(trace=output["opening"]))]
        assert replay(stored, GIVEN) == output


def test_attempts_are_told_apart_and_a_check_is_no_step_s_route() -> None:
    log = Log()
    judge = Checker(holding({"1+1=3": 0.1}))
    output: Any = create_solve_detect_verify(Solver([WRONG, RIGHT]), log=log, fast=judge).invoke(INPUT)  # type: ignore[call-overload]
    told: Any = replay(log, GIVEN)
    assert told == output
    assert [attempt["text"] for attempt in told["attempts"]] == [WRONG, RIGHT]
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["reject", "accept"]
    assert {step["route"] for step in told["steps"]} == {None}
    assert told["counts"]["escalations"] == 0
    alone = Log()
    create_solve_detect_verify(Solver([RIGHT]), log=alone, fast=judge).invoke(INPUT)  # type: ignore[call-overload]
    one: Any = replay(alone, GIVEN)
    assert (one["steps"][0]["route"], one["counts"]["escalations"], one["outcome"]) == (None, 0, "accept")


@pytest.mark.parametrize("fails_at", [0, 1, 3, 4])
@pytest.mark.parametrize("whole", [False, True])
def test_a_solver_that_fails_is_told_too(fails_at: int, whole: bool) -> None:
    log = Log()
    solver = Solver([WRONG, RIGHT], fails_at=fails_at)
    fast = Checker(holding({"1+1=3": 0.1}), Granularity.TRACE if whole else Granularity.STEP)
    graph = create_solve_detect_verify(solver, log=log, fast=fast, whole=whole)
    output = graph.invoke(INPUT)  # type: ignore[call-overload]
    assert replay(log, GIVEN) == output
    log.clear()
    output = create_best_of_n(Solver([WRONG], by="seed", fails_at=fails_at), log=log, n=2).invoke(INPUT)  # type: ignore[call-overload]
    assert replay(log, GIVEN) == output


@pytest.mark.parametrize("says", ["abstains", "crashes"])
def test_a_check_that_says_nothing_is_told_too(says: str) -> None:
    def score(subject: Any) -> float | None:
        if says == "crashes":
            raise TimeoutError("down")
        return None

    log = Log()
    output: Any = create_solve_detect_verify(Solver([RIGHT]), log=log, fast=Checker(score)).invoke(INPUT)  # type: ignore[call-overload]
    assert output["outcome"] == ("abstain" if says == "abstains" else "error")
    assert replay(log, GIVEN) == output
    log.clear()
    judged: Any = create_best_of_n(
        Solver([RIGHT, WRONG], by="seed"), log=log, n=2, by="score", verifier=Checker(score)
    ).invoke(INPUT)  # type: ignore[call-overload]
    assert judged["reason"] == "nothing_scored_majority"
    assert replay(log, GIVEN) == judged


def test_a_run_that_was_cut_off_gives_what_there_was(build: Build) -> None:
    log = Log()
    output = build(log).compile().invoke(INPUT)
    ending = next(v for v in log if v.verifier == output["pipeline"] and v.subject.granularity is Granularity.TRACE)
    told: Any = replay([verdict for verdict in log if verdict is not ending], GIVEN)
    assert (told["finish"], told["error"], told["steps"]) == ("error", CUT_OFF, output["steps"])
    named = next(v for v in log if "pipeline" in v.raw or v.verifier == output["pipeline"])
    begun: Any = replay([named], GIVEN)
    assert (begun["finish"], begun["error"]) == ("error", CUT_OFF)


def test_a_missing_verdict_is_noticed(build: Build) -> None:
    log = Log()
    build(log).compile().invoke(INPUT)
    written = [v for v in log if v.evidence and isinstance(v.evidence[0], StepEvidence)]
    fates = [v for v in log if v.subject.granularity is Granularity.ROUTE or v.verifier.startswith("selection@")]
    assert written
    assert fates
    for missing in [*written, *fates]:
        with pytest.raises(InputError):
            replay([verdict for verdict in log if verdict is not missing], GIVEN)


TEXTS = st.lists(st.text(alphabet="ab=\n", min_size=1, max_size=12), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    texts=TEXTS,
    scores=st.lists(st.sampled_from([None, 0.0, 0.3, 0.7, 1.0]), min_size=1),
    limits=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 20)),
    thinks=st.booleans(),
    whole=st.booleans(),
    hesitation=st.sampled_from(["", "b", "a="]),
    room=st.sampled_from([30, 300, 100_000]),
)
def test_whatever_happens_is_told_again(
    texts: list[str],
    scores: list[float | None],
    limits: tuple[int, int, int],
    thinks: bool,
    whole: bool,
    hesitation: str,
    room: int,
) -> None:
    step, most, budget = limits
    how = StepSettings(
        max_step_tokens=step,
        max_steps=most,
        thinking_tokens=budget,
        answer_tokens=budget,
        thinks=thinks,
        answer_begins="=",
    )
    judge = Checker(lambda s: scores[(len(s.context) + len(s.text)) % len(scores)])
    log = Log()
    solver = Solver(texts, yes=0.9, context_length=room)
    detector = None if whole else CompletenessProbe(solver)
    solved = create_solve_detect_verify(
        solver, log=log, fast=judge, detector=detector, hesitation=hesitation, whole=whole, settings=how, max_attempts=3
    )
    output = solved.invoke(INPUT)  # type: ignore[call-overload]
    assert replay(log, GIVEN) == output
    for by in ("vote", "score", "weighted-vote"):
        log = Log()
        verifier = None if by == "vote" else judge
        best = create_best_of_n(
            Solver(texts, by="seed", context_length=room), log=log, n=3, by=by, verifier=verifier, settings=how
        )  # type: ignore[arg-type]
        output = best.invoke(INPUT)  # type: ignore[call-overload]
        assert replay(log, GIVEN) == output
