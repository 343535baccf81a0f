"""Pipeline runs: every verdict stored in time, every problem accounted for, and nothing lost, doubled or mixed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from draftproof.batch.courses import course_of, is_pipeline_run, solved_of_run
from draftproof.batch.pipeline_run import PipelineRun, run_pipeline
from draftproof.batch.problems import Problem
from draftproof.batch.route_log import same_judgement
from draftproof.batch.solved import MARK, Solved
from draftproof.errors import StoreUnreachableError, UsageError
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore
from draftproof.verdict import Outcome
from tests.batch.stub_models import CountingJudge, CountingModel, counted, create, rows_of


def solve(store: VerdictStore, problems: Any, make: Any = None, **options: Any) -> tuple[PipelineRun, list[Solved]]:
    run = run_pipeline(make or create(), problems, store=store, **{"workers": 3, **options})
    return run, list(run)


def test_solutions_come_in_order_and_are_what_the_graph_alone_gives(store: VerdictStore) -> None:
    problems = counted(20)
    _, solved = solve(store, problems)
    assert [one.problem for one in solved] == problems

    class Nowhere:
        def add(self, verdicts: Any) -> None:
            pass

    graph = create()(Nowhere())
    for one in solved:
        alone = graph.invoke(
            {"problem": one.problem.text, "id": one.problem.id, "reference_answer": one.problem.answer}
        )
        assert (one.text, one.finish, one.trace, one.opening) == tuple(
            alone[name] for name in ("text", "finish", "trace", "opening")
        )
        assert one.counts == alone["counts"]
        assert [block.role for block in one.blocks] == [step["role"] for step in alone["steps"]]


def test_answers_are_compared_with_the_reference(store: VerdictStore) -> None:
    right, wrong, unknown = counted(3)
    problems = [right, replace(wrong, answer="17"), replace(unknown, answer=None)]
    run, solved = solve(store, problems)
    assert [one.correct for one in solved] == [solved[0].answer == right.answer, False, None]
    assert (run.tally.referenced, run.tally.accuracy) == (2, run.tally.right / 2)
    stored = store.get_trace(solved[1].trace or "").trace
    assert (stored.reference_answer, stored.answer_correct, stored.final_answer) == ("17", False, solved[1].answer)


def test_every_verdict_is_in_the_store_before_the_graph_goes_on(store: VerdictStore) -> None:
    """The target writes a step only after the judge's verdict and the route's are stored; it looks for itself."""
    seen: list[bool] = []

    class Looking(CountingModel):
        def generate(self, requests: Any) -> Any:
            position = len(requests[0].context.written)
            rows = [
                row
                for row in store.iter_verdicts(VerdictFilter(position=position))
                if store.get_trace(row.subject.trace_digest).trace.problem == requests[0].context.messages[-1].content
            ]
            kinds = {row.verifier.partition("@")[0] for row in rows}
            seen.append({"counting", "arbitrage-rsd"} <= kinds)
            return super().generate(requests)

    target = Looking("target", wrong=0.1)
    draft = CountingModel("draft", wrong=0.5)
    solve(
        store, counted(10), lambda log: create_arbitrage(draft, target, log=log, policy="rsd", verifier=CountingJudge())
    )
    assert len(seen) > 3
    assert all(seen)


def test_the_law_holds_and_agrees_with_the_outputs(store: VerdictStore) -> None:
    run, solved = solve(store, counted(30))
    record = run.record
    assert record.status is RunStatus.FINISHED
    assert all(total.settled for total in run.conservation)
    (planned,) = (total for total in run.conservation if total.planned)
    assert planned.verifier.startswith(MARK)
    assert (planned.subjects, planned.accepted, planned.errored) == (30, 30, 0)
    by_name = {total.verifier.partition("@")[0]: total for total in run.conservation if total.granularity != "trace"}
    counts = run.tally.counts
    assert by_name["draft-writer"].subjects == counts["draft_calls"]
    assert by_name["target-writer"].subjects == counts["target_calls"]
    assert by_name["counting"].subjects == counts["judge_calls"]
    assert by_name["arbitrage-rsd"].accepted == counts["escalations"]  # target_better is what it accepts
    assert run.tally.steps == sum(len(one.blocks) for one in solved)
    assert record.counts["finished"] == 30
    assert record.counts["verdicts"] == sum(store.count_verdicts(VerdictFilter(recorded_by=run.id)).values()) - 30


def test_running_again_asks_no_model_and_says_the_same(store: VerdictStore) -> None:
    _, first = solve(store, counted(12))
    before = rows_of(store)
    draft, target = CountingModel("draft", wrong=0.3), CountingModel("target", wrong=0.1)
    make = lambda log: create_arbitrage(draft, target, log=log, policy="rsd", verifier=CountingJudge())  # noqa: E731
    run, again = solve(store, counted(12), make)
    assert (draft.asked, target.asked) == ([], [])
    assert run.tally.known == 12
    assert [replace(one, known=False) for one in again] == first
    assert rows_of(store) == before
    (planned,) = (total for total in run.conservation if total.planned)
    assert (planned.subjects, planned.accepted) == (12, 12)
    assert [replace(one, known=False) for one in solved_of_run(store, run.record)] == first
    assert is_pipeline_run(run.record)


def test_more_problems_are_added_to_what_is_known(store: VerdictStore) -> None:
    solve(store, counted(5))
    run, _ = solve(store, counted(9))
    assert (run.tally.known, run.tally.solved) == (5, 9)


def test_another_threshold_is_another_course(store: VerdictStore) -> None:
    _, first = solve(store, counted(6))
    run, second = solve(store, counted(6), create(threshold=0.9))
    assert run.tally.known == 0
    assert not {one.opening for one in first} & {one.opening for one in second}


def test_a_run_that_nobody_iterates_on_is_interrupted_and_goes_on_where_it_was(
    store: VerdictStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = run_pipeline(create(0.002), counted(30), store=store, workers=3)
    stream = iter(run)
    for _ in range(4):
        next(stream)
    stream.close()
    assert run.record.status is RunStatus.INTERRUPTED
    again, solved = solve(store, counted(30), create(0.002))
    assert 4 <= again.tally.known < 30
    with VerdictStore.open(str(tmp_path_factory.mktemp("whole") / "w.db")) as whole:
        _, expected = solve(whole, counted(30), create(0.002))
        assert rows_of(store) == rows_of(whole)
    assert [(one.text, one.counts) for one in solved] == [(one.text, one.counts) for one in expected]


def test_a_solved_mark_without_its_finished_trace_does_not_count(store: VerdictStore) -> None:
    """The finished trace is what resuming looks for: here the mark's trace was never stored."""
    run = run_pipeline(create(), counted(1), store=store)
    kept, run._store.keep_traces = run._store.keep_traces, lambda traces: 0  # type: ignore[method-assign]
    list(run)
    store.keep_traces = kept  # type: ignore[method-assign]
    again, (solved,) = solve(store, counted(1))
    assert again.tally.known == 0
    assert store.get_trace(solved.trace or "").trace.problem == solved.problem.text


def test_models_that_are_not_deterministic_get_another_attempt_for_what_was_begun(store: VerdictStore) -> None:
    """The first run is cut off within every problem; its rows stay, under openings of their own."""

    class CutOff(Exception):
        pass

    def cut(problem: Problem, state: Mapping[str, Any] | Solved) -> None:
        if not isinstance(state, Solved) and state.get("steps"):
            raise StoreUnreachableError("cut off")

    run = run_pipeline(create(), counted(1), store=store, deterministic=False, observe=cut)
    with pytest.raises(StoreUnreachableError):
        list(run)
    assert run.record.status is RunStatus.FAILED
    begun = rows_of(store)
    assert begun
    again, (solved,) = solve(store, counted(1), deterministic=False)
    assert (solved.attempt, again.tally.known) == (1, 0)
    assert not {key[0] for key in begun} & {solved.opening}
    assert begun.items() <= rows_of(store).items()
    third, (known,) = solve(store, counted(1), deterministic=False)
    assert (third.tally.known, known.attempt) == (1, 1)
    deterministic, (solved_again,) = solve(store, counted(1))
    assert solved_again.attempt == 0
    assert all(total.settled for total in deterministic.conservation)


def test_a_course_that_is_not_the_stored_one_never_mixes_with_it(store: VerdictStore) -> None:
    """The model calls itself the same and writes something else: its verdicts get an opening of their own."""

    def made(salt: str) -> Any:
        draft, target = CountingModel("draft", wrong=0.5, salt=salt), CountingModel("target", salt=salt)
        return lambda log: create_arbitrage(draft, target, log=log, policy="rsd", verifier=CountingJudge())

    def cut(problem: Problem, state: Mapping[str, Any] | Solved) -> None:
        if not isinstance(state, Solved) and len(state.get("steps", ())) == 2:
            raise StoreUnreachableError("cut off")

    problems = [Problem(f"3 things, problem {i}", f"p{i}") for i in range(8)]
    for problem in problems:
        with pytest.raises(StoreUnreachableError):
            list(run_pipeline(made("a"), [problem], store=store, workers=1, observe=cut))
    begun = rows_of(store)
    run, solved = solve(store, problems, made("b"))
    attempts = Counter(one.attempt for one in solved)
    assert attempts[1] > 0  # where the two courses differ at once
    assert begun.items() <= rows_of(store).items()  # what was stored says what it said
    for one in solved:
        told = course_of(store, one.opening)
        assert (told["text"], told["counts"]) == (one.text, one.counts)
    (planned,) = (total for total in run.conservation if total.planned)
    assert (planned.accepted, planned.skipped) == (8, attempts[1])
    assert planned.settled
    again, known = solve(store, problems, made("b"))
    assert [replace(one, known=False) for one in known] == solved
    assert all(total.settled for total in again.conservation)


def test_a_judgement_is_the_same_up_to_rounding_and_cost_and_not_beyond(store: VerdictStore) -> None:
    solve(store, counted(4))
    row = next(row.verdict for row in store.iter_verdicts() if row.verdict.score is not None)
    cost = row.cost.model_copy(update={"wall_seconds": 9.0})
    assert same_judgement(row, row.model_copy(update={"cost": cost, "score": (row.score or 0) * (1 - 1e-7)}))
    assert not same_judgement(row, row.model_copy(update={"score": (row.score or 0) * 0.99}))
    assert not same_judgement(row, row.model_copy(update={"reason": "another"}))
    assert not same_judgement(row, row.model_copy(update={"outcome": Outcome.ABSTAIN}))


def test_a_model_that_fails_is_one_problem_s_error(store: VerdictStore) -> None:
    def made(fails_on: str) -> Any:
        draft, target = CountingModel("draft", wrong=0.3, fails_on=fails_on), CountingModel("target", wrong=0.1)
        return lambda log: create_arbitrage(draft, target, log=log, policy="rsd", verifier=CountingJudge())

    run, solved = solve(store, counted(10), made("problem 7"))
    (failed,) = (one for one in solved if one.failed)
    assert failed.problem.id == "p7"
    assert "the server hung up" in failed.error
    assert (failed.trace, failed.answer, failed.correct) == (None, None, None)
    assert (run.tally.solved, run.tally.failed, run.tally.remaining) == (9, 1, 0)
    assert run.tally.referenced == 10  # a failure is no right answer
    (planned,) = (total for total in run.conservation if total.planned)
    assert (planned.accepted, planned.errored) == (9, 1)
    assert run.record.status is RunStatus.FINISHED

    again, known = solve(store, counted(10), made(""))
    assert (again.tally.known, again.tally.failed) == (10, 1)
    assert [replace(one, known=False) for one in known] == solved
    assert all(total.settled for total in again.conservation)
    retried, mended = solve(store, counted(10), made(""), retry_errors=True)
    assert (retried.tally.failed, mended[7].attempt, mended[7].failed) == (0, 1, False)
    assert all(total.settled for total in retried.conservation)
    last, mended_again = solve(store, counted(10), made(""))
    assert [replace(one, known=False) for one in mended_again] == [replace(one, known=False) for one in mended]
    assert last.tally.known == 10


def test_a_graph_that_raises_is_one_problem_s_error(store: VerdictStore) -> None:
    make = create()

    class Broken:
        def __init__(self, graph: Any) -> None:
            self._graph = graph

        def stream(self, input: Any, config: Any = None, *, stream_mode: Any = None) -> Iterator[Any]:
            for state in self._graph.stream(input, config, stream_mode=stream_mode):
                yield state
                if input["problem"].endswith("problem 2") and state.get("steps"):
                    raise ZeroDivisionError("a node divided by zero")

    run, solved = solve(store, counted(4), lambda log: Broken(make(log)))
    assert [one.failed for one in solved] == [False, False, True, False]
    assert solved[2].error == "ZeroDivisionError: a node divided by zero"
    assert all(total.settled for total in run.conservation)


def test_a_store_that_fails_ends_the_run(store: VerdictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's wrong answer, and no problem's error."""
    real, calls = VerdictStore.add, Counter[str]()

    def failing(self: VerdictStore, *arguments: Any, **options: Any) -> Any:
        calls["add"] += 1
        if calls["add"] > 20:
            raise StoreUnreachableError("the disk is full")
        return real(self, *arguments, **options)

    monkeypatch.setattr(VerdictStore, "add", failing)
    run = run_pipeline(create(), counted(50), store=store, workers=3)
    with pytest.raises(StoreUnreachableError, match="disk is full"):
        list(run)
    assert run.record.status is RunStatus.FAILED
    assert run.tally.failed == 0


def test_the_same_problem_twice_is_solved_once_and_told_twice(store: VerdictStore) -> None:
    one = Problem("3 things", "first", "3")
    other = Problem("3 things", "second", "17")
    run, solved = solve(store, [one, other, one, *counted(30), other], create(0.003))
    assert [each.problem.id for each in solved if each.problem.text == "3 things"] == [
        "first",
        "second",
        "first",
        "second",
    ]
    first, second, third, last = (each for each in solved if each.problem.text == "3 things")
    assert len({each.opening for each in (first, second, third, last)}) == 1
    assert (second.correct, last.correct) == (False, False)
    assert first.correct is third.correct is (first.answer == "3")
    assert (second.known, last.known) == (True, True)
    (planned,) = (total for total in run.conservation if total.planned)
    assert planned.subjects == 31
    assert run.tally.solved == run.tally.read == 34


def test_order_is_kept_whoever_is_first(store: VerdictStore) -> None:
    class Uneven(CountingModel):
        def generate(self, requests: Any) -> Any:
            time.sleep(0.02 if "problem 0" in requests[0].context.messages[-1].content else 0.0)
            return super().generate(requests)

    draft = Uneven("draft")
    _, solved = solve(store, counted(12), lambda log: create_arbitrage(draft, draft, log=log, policy="draft-only"))
    assert [one.problem.id for one in solved] == [f"p{i}" for i in range(12)]


def test_problems_are_read_as_they_are_needed(store: VerdictStore) -> None:
    read = Counter[str]()

    def endless() -> Iterator[Problem]:
        for problem in counted(100_000):
            read["problems"] += 1
            yield problem

    run = run_pipeline(create(), endless(), store=store, workers=2)
    stream = iter(run)
    next(stream)
    assert read["problems"] <= 2 * 8 + 1
    stream.close()
    assert run.tally.remaining == run.tally.read - 1


def test_a_run_needs_a_worker(store: VerdictStore) -> None:
    with pytest.raises(UsageError, match="0 workers"):
        run_pipeline(create(), [], store=store, workers=0)


def test_no_problems_are_a_finished_run(store: VerdictStore) -> None:
    run, solved = solve(store, [])
    assert (solved, run.record.status) == ([], RunStatus.FINISHED)
    assert run.tally.acceptance is run.tally.accuracy is None


def test_the_observer_sees_every_step_and_the_end(store: VerdictStore) -> None:
    seen: dict[str, list[Any]] = {}
    solve(
        store,
        counted(5),
        observe=lambda problem, state: seen.setdefault(problem.id, []).append(
            state if isinstance(state, Solved) else len(state.get("steps", ()))
        ),
    )
    for told in seen.values():
        *steps, end = told
        assert steps == sorted(steps)
        assert steps[-1] == len(end.blocks)


def test_glimp_router_runs_as_well(store: VerdictStore) -> None:
    draft, target = CountingModel("draft", wrong=0.3), CountingModel("target", wrong=0.1)
    run, solved = solve(store, counted(10), lambda log: create_glimp_router(draft, target, log=log))
    assert run.tally.counts["probe_calls"] > 0
    assert all(total.settled for total in run.conservation)
    told = course_of(store, solved[0].opening)
    assert told["text"] == solved[0].text
