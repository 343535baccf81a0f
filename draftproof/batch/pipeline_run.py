"""Problems in, solutions and the verdicts of every decision out: a pipeline run, resumable after any end.

    for solved in run_pipeline(solver, problems, store=store, workers=8):
        print(solved.problem.id, solved.answer)

Each problem is one small graph in one of `workers` threads; local models read what all threads ask for together. Every
verdict is in the store before the graph goes on from it. When a problem is finished, its trace is stored, and then a
verdict `solved@1#…` of the problem's opening, which is what the conservation law counts: problems = finished (accepted:
the model ended its answer, and the check, where there is one, accepted it; rejected or abstained: not so) + errored
(the pipeline or its check), exactly.

Running again resumes: what is solved is read from the store. What was begun is begun anew under the same keys, and what
comes out must be what is stored already; where it is not, or a model cannot be held to it, another attempt gets an
opening of its own, so that the verdicts of two courses never mix.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol, cast

from draftproof.batch.problems import Problem
from draftproof.batch.route_counts import counts_of_course
from draftproof.batch.route_log import Diverged, RouteLog, Stopped
from draftproof.batch.solved import Course, Solved, mark_of, opening_key, recalled, same_answer, solved_verdict, stated
from draftproof.batch.stopping import Stopping
from draftproof.batch.tally import Tally
from draftproof.errors import DisagreementError, DraftproofError, StoreError, UnknownNameError, UsageError
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Conservation, Pair, Run, RunStatus, Skip
from draftproof.store.verdict_store import VerdictStore
from draftproof.trace import Source, Trace
from draftproof.verdict import Outcome, Verdict
from draftproof.verifier import VerdictLog

AHEAD = 8
"""Problems read ahead, for each worker: solutions come in the order of the problems, and one may take long."""
ATTEMPTS = 1_000
"""More courses of one problem than anybody has begun: a bound for a search that must end."""
_TICK_SECONDS = 0.1


class Graph(Protocol):
    """What a compiled LangGraph graph is here."""

    def stream(self, input: Any, config: Any = None, *, stream_mode: Any = None) -> Iterator[Any]: ...


Create = Callable[[VerdictLog], Graph]
"""Makes the graph of a pipeline over a log. Its input is `draftproof.pipelines.step_state.StepInput`, its output a
`StepOutput`."""

Observer = Callable[[Problem, Mapping[str, Any] | Solved], None]
"""Told of each problem what its graph's state is after each of its steps, and at last what became of it. Called in the
threads that work; what it raises ends the run."""


def run_pipeline(
    create: Create,
    problems: Iterable[Problem],
    *,
    store: VerdictStore,
    workers: int = 8,
    deterministic: bool = True,
    command: str = "draftproof.batch.pipeline_run.run_pipeline",
    settings: Mapping[str, Any] | None = None,
    inputs: Sequence[Mapping[str, Any]] = (),
    retry_errors: bool = False,
    observe: Observer = lambda problem, state: None,
) -> PipelineRun:
    """A run that has begun in the store, and that solves `problems` while it is iterated over.

    Args:
        create: As in `lambda log: create_glimp_router(draft, target, log=log)`. Called once.
        deterministic: Whether the same problem takes the same course always. Where it does not, what was begun and
            not finished is begun anew as another attempt.
        settings: Kept with the run.
        inputs: One mapping for each file: name, size, …
        retry_errors: Solve again, as another attempt, what ended as an error before.

    The run ends in the store with its iteration, however that ends: finished, interrupted (by Ctrl-C, which raises
    KeyboardInterrupt, by SIGTERM, which raises Terminated, or because nobody iterates on), or failed.
    """
    if workers < 1:
        raise UsageError(f"A pipeline run cannot have {workers} workers.", remedy="Give 1 or more.")
    return PipelineRun(
        create, problems, store, workers, deterministic, command, settings or {}, inputs, retry_errors, observe
    )


@dataclass(frozen=True)
class _Waiting:
    """A problem whose turn has not come, and the work on it, which it may share with another line of the same text."""

    problem: Problem
    opening: str
    future: Future[Solved]


class PipelineRun:
    """Made by `run_pipeline`. Iterate over it once; then `conservation` says where its problems went."""

    def __init__(
        self,
        create: Create,
        problems: Iterable[Problem],
        store: VerdictStore,
        workers: int,
        deterministic: bool,
        command: str,
        settings: Mapping[str, Any],
        inputs: Sequence[Mapping[str, Any]],
        retry_errors: bool,
        observe: Observer,
    ) -> None:
        self._problems, self._store, self._workers = problems, store, workers
        self._deterministic, self._retry_errors, self._observe = deterministic, retry_errors, observe
        self._ending = threading.Event()
        self._log = RouteLog(store, self._ending.is_set)
        self._graph = create(self._log)
        self._signatures: dict[int, str] = {}
        self._mark = mark_of(self._signature(0))
        run = store.begin_run(command, verifiers=[self._mark], settings=settings, inputs=inputs)
        self.id = self._log.run_id = run.id
        self._started = time.perf_counter()
        self._futures: dict[str, Future[Solved]] = {}
        """Of openings that are being worked on: the same problem once more waits for the first."""
        self.tally = Tally()
        self.conservation: tuple[Conservation, ...] = ()

    @property
    def record(self) -> Run:
        """As the store has it."""
        return self._store.run(self.id)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def __iter__(self) -> Generator[Solved, None, None]:
        stopping = Stopping()
        with stopping.heeded():
            try:
                with ThreadPoolExecutor(self._workers, thread_name_prefix="problem") as pool:
                    try:
                        yield from self._solve_all(stopping, pool)
                    except BaseException:
                        self._ending.set()  # before the pool waits for its threads
                        pool.shutdown(cancel_futures=True)
                        raise
            except BaseException as reason:
                self._close(reason)
                raise
            self.conservation = tuple(self._store.finish_run(self.id, counts=self._counts()))

    def _solve_all(self, stopping: Stopping, pool: ThreadPoolExecutor) -> Iterator[Solved]:
        """In the order of the problems, as soon as there is one."""
        waiting: deque[_Waiting] = deque()
        for problem in stopping.reading(self._problems):
            self.tally.read += 1
            waiting.append(self._submit(problem, pool))
            while waiting and (len(waiting) >= AHEAD * self._workers or waiting[0].future.done()):
                yield self._first(waiting, stopping)
        while waiting:
            yield self._first(waiting, stopping)

    def _submit(self, problem: Problem, pool: ThreadPoolExecutor) -> _Waiting:
        """The work that the problem still needs, under the first attempt that is not settled otherwise."""
        attempt, opening, known = self._place(problem, join=True)
        if opening.digest not in self._futures:
            begun = self._begin(opening)
            self._futures[opening.digest] = (
                pool.submit(self._solve, problem, attempt, opening, begun)
                if known is None
                else pool.submit(self._recall, problem, opening, known)
            )
        return _Waiting(problem, opening.digest, self._futures[opening.digest])

    def _first(self, waiting: deque[_Waiting], stopping: Stopping) -> Solved:
        first = waiting[0]
        while not first.future.done():
            stopping.check()
            wait([first.future], timeout=_TICK_SECONDS)
        stopping.check()
        waiting.popleft()
        self._futures.pop(first.opening, None)
        solved = first.future.result()
        if solved.problem is not first.problem:
            solved = solved.of(first.problem)
        self.tally.add(solved, counts_of_course(self._store, solved.opening))
        return solved

    def _place(self, problem: Problem, *, start: int = 0, join: bool = False) -> tuple[int, Trace, Verdict | None]:
        """An attempt, its opening, and the verdict that it is solved, where it is.

        `join`: whether an attempt that is being worked on is as good as one that nobody works on.
        """
        failed: tuple[int, Trace, Verdict] | None = None
        for attempt in range(start, ATTEMPTS):
            opening = self._opening(problem, attempt)
            if opening.digest in self._futures:
                if join:
                    return attempt, opening, None
                continue
            known = self._solved(opening.digest)
            if known is not None and known.outcome is not Outcome.ERROR:
                return attempt, opening, known
            if known is not None:
                failed = attempt, opening, known
            elif failed is not None and not self._retry_errors:
                return failed
            elif self._deterministic or not self._has_verdicts(opening.digest):
                return attempt, opening, None
        raise UsageError(f"Problem {problem.id!r} was begun {ATTEMPTS:,} times, and never solved.")

    def _opening(self, problem: Problem, attempt: int) -> Trace:
        """The trace that stands for the problem, named like it."""
        from draftproof.pipelines.step_audit import opening_trace

        opening = opening_trace(problem.text, self._signature(attempt))
        source = Source(format="problems", file=problem.file, line=problem.line) if problem.line else None
        meta = {"problem_id": problem.id, "attempt": attempt}
        return opening.model_copy(update={"reference_answer": problem.answer, "source": source, "meta": meta})

    def _signature(self, attempt: int) -> str:
        """What the pipeline calls itself at this attempt, the same for every problem: its first node says so."""
        if attempt not in self._signatures:
            states = self._graph.stream({"problem": "?", "attempt": attempt}, stream_mode="values")
            self._signatures[attempt] = next(str(state["pipeline"]) for state in states if state.get("pipeline"))
        return self._signatures[attempt]

    def _solved(self, opening: str) -> Verdict | None:
        """What the store says of it, provided that the finished trace is there too."""
        where = VerdictFilter(trace=opening, verifier=self._mark.identity)
        for row in self._store.iter_verdicts(where):
            if row.payload is not None and (
                row.outcome is Outcome.ERROR or self._stored(str(row.verdict.raw.get("trace")))
            ):
                return row.verdict
        return None

    def _stored(self, trace: str) -> bool:
        try:
            self._store.get_trace(trace)
        except UnknownNameError:
            return False
        return True

    def _has_verdicts(self, opening: str) -> bool:
        return next(self._store.iter_verdicts(VerdictFilter(trace=opening), limit=1), None) is not None

    def _begin(self, opening: Trace) -> bool:
        """Makes the opening a part of this run, before any verdict about it; whether it was stored before."""
        return self._store.add_traces(self.id, [opening]) == 0

    # In a worker's thread

    def _solve(self, problem: Problem, attempt: int, opening: Trace, begun: bool) -> Solved:
        while True:
            try:
                return self._attempt(problem, attempt, opening, begun)
            except Diverged:
                pair = Pair(opening_key(opening.digest), self._mark.identity)
                self._store.record_skips(self.id, [Skip(pair, "another_course_than_before")])
                attempt, opening, known = self._place(problem, start=attempt + 1)
                begun = self._begin(opening)
                if known is not None:
                    return self._recall(problem, opening, known)

    def _attempt(self, problem: Problem, attempt: int, opening: Trace, begun: bool) -> Solved:
        started = time.perf_counter()
        output: Mapping[str, Any] = {}
        question = {"problem": problem.text, "id": problem.id, "attempt": attempt}
        if problem.answer is not None:
            question["reference_answer"] = problem.answer
        error = ""
        with self._log.course(opening.digest, begun_before=begun):
            try:
                for output in self._graph.stream(question, stream_mode="values"):
                    if self._ending.is_set():
                        raise Stopped
                    self._observe(problem, output)
            except (StoreError, DisagreementError, Diverged, Stopped):
                raise
            except Exception as failure:  # of one problem: the others go on
                error = f"{type(failure).__name__}: {failure}"
        course = Course(opening.digest, attempt, output, error, time.perf_counter() - started)
        trace = None if course.failed else self._keep(output, problem)
        solved = course.solved(problem, trace)
        self._store.add([solved_verdict(solved, self._mark)], self.id)
        self._observe(problem, solved)
        return solved

    def _keep(self, output: Mapping[str, Any], problem: Problem) -> Trace:
        """The finished trace, stored."""
        from draftproof.pipelines.step_audit import finished_trace

        trace = finished_trace(cast(Any, output))
        right = same_answer(stated(output), problem.answer)
        source = Source(format="pipeline", file=problem.file, line=problem.line) if problem.line else None
        told = {"final_answer": stated(output), "answer_correct": right, "source": source}
        trace = trace.model_copy(update=told)
        self._store.keep_traces([trace])
        return trace

    def _recall(self, problem: Problem, opening: Trace, known: Verdict) -> Solved:
        """What an earlier run came to; the problem belongs to this run as well."""
        name = known.raw["trace"]
        trace = None if name is None else self._store.get_trace(str(name)).trace
        solved = recalled(problem, known, trace)
        self._observe(problem, solved)
        return solved

    # The end

    def _counts(self) -> dict[str, Any]:
        return {
            **self.tally.as_json(),
            "traces": self.tally.read,
            "verdicts": self._log.inserted,
            "run_seconds": round(self.seconds, 3),
        }

    def _close(self, reason: BaseException) -> None:
        """Note how the run ended, unless the store itself is what failed."""
        status = RunStatus.FAILED if isinstance(reason, Exception) else RunStatus.INTERRUPTED
        try:
            self._store.finish_run(self.id, status, counts=self._counts())
        except DraftproofError as error:
            reason.add_note(f"and its end could not be noted in the store: {error}")
